"""The row contract: what `convert` writes and what training, evaluation and judging read.

One preference pair makes two adjacent rows, one per order, so that position bias can be measured and
trained away. A row is

    pair_id    string             content hash of the prompt and of both responses, the same for both orders
    order      string             "original" (A is the source's first response) or "swapped"
    messages   list<{role, content}>   the prompt, a conversation that ends with the user's turn
    responses  list<string>       exactly two: index 0 is response A, index 1 is response B
    preferred  string             "A", "B" or "tie", in the order of this row
    strength   int8, nullable     0 (tie) to 3 (much better); null where the source does not say
    source     string             name of the converter
    subset     string, nullable   the source's own category, for accuracy by subset
    source_id  string, nullable   the source's own id of the pair; files of earlier versions lack the column

`responses` is one list column and not two columns because both orders of a pair are neighbours: in one
column the second order compresses to almost nothing.

Files of two layouts are read: this one, and the seven columns that RM-Gallery writes, with JSON text in `input`,
`output` and `metadata`. A row that cannot be read is counted with its reason, never dropped in silence and never
given a default label.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypedDict, TypeGuard

from pairwise_rm.errors import InputError

if TYPE_CHECKING:
    import pyarrow

Preference = Literal["A", "B", "tie"]
Order = Literal["original", "swapped"]

PREFERENCES: tuple[Preference, ...] = ("A", "B", "tie")
ORDERS: tuple[Order, ...] = ("original", "swapped")
MAX_STRENGTH = 3
ROLES = ("system", "user", "assistant")

TRAIN_FILE = "preference_train.parquet"
TEST_FILE = "preference_test.parquet"
MANIFEST_FILE = "manifest.json"
REJECTED_FILE = "rejected.jsonl"
DROPPED_FILE = "dropped.jsonl"

_SWAPPED: dict[Preference, Preference] = {"A": "B", "B": "A", "tie": "tie"}
_UPSTREAM_ORDERS = {"original_order": "original", "swapped_order": "swapped"}
_NEEDED = {"messages", "responses", "preferred"}
_UPSTREAM_NEEDED = {"input", "output", "metadata"}
_SURROGATE = re.compile("[\ud800-\udfff]")


class Message(TypedDict):
    role: str
    content: str


class Pair(NamedTuple):
    """One preference pair in its source's order: `preferred` is "A" for the first response."""

    messages: list[Message]
    responses: tuple[str, str]
    preferred: Preference
    strength: int | None
    source: str
    subset: str | None = None
    source_id: str | None = None


class Row(TypedDict):
    pair_id: str
    order: Order
    messages: list[Message]
    responses: list[str]
    preferred: Preference
    strength: int | None
    source: str
    subset: str | None
    source_id: str | None


def swapped(preference: Preference) -> Preference:
    """The same preference seen from the other order."""
    return _SWAPPED[preference]


def pair_id(messages: Sequence[Message], responses: Sequence[str]) -> str:
    """16 hex digits over the prompt and both responses, whichever response comes first.

    Two rows of a source that hold the same pair in opposite orders share it, so duplicates and
    contradictions are found whatever their order. Two pairs collide with probability 2**-64.
    """
    digest = hashlib.blake2b(digest_size=8)
    parts = [part for message in messages for part in (message["role"], message["content"])]
    for part in (*parts, *sorted(responses)):
        encoded = part.encode()
        digest.update(len(encoded).to_bytes(8, "big"))
        digest.update(encoded)
    return digest.hexdigest()


def both_orders(pair: Pair) -> tuple[Row, Row]:
    """The two rows of a pair, original order first."""
    identity = pair_id(pair.messages, pair.responses)
    first, second = pair.responses
    common = {"pair_id": identity, "messages": pair.messages, "strength": pair.strength, "source": pair.source}
    common |= {"subset": pair.subset, "source_id": pair.source_id}
    original = {**common, "order": "original", "responses": [first, second], "preferred": pair.preferred}
    reverse = {**common, "order": "swapped", "responses": [second, first], "preferred": swapped(pair.preferred)}
    return original, reverse  # type: ignore[return-value]


def arrow_schema() -> pyarrow.Schema:
    """The contract as an Arrow schema; pyarrow is imported here, so that importing the module stays cheap."""
    import pyarrow as pa

    text = pa.string()
    message = pa.struct([pa.field("role", text, nullable=False), pa.field("content", text, nullable=False)])
    return pa.schema(
        [
            pa.field("pair_id", text, nullable=False),
            pa.field("order", text, nullable=False),
            pa.field("messages", pa.list_(message), nullable=False),
            pa.field("responses", pa.list_(text), nullable=False),
            pa.field("preferred", text, nullable=False),
            pa.field("strength", pa.int8()),
            pa.field("source", text, nullable=False),
            pa.field("subset", text),
            pa.field("source_id", text),
        ]
    )


class UnreadableRow(ValueError):
    """One row cannot be used; the text is the reason under which it is counted."""


@dataclass
class Rows:
    """The readable rows of the files, in their order, and the number of unreadable ones by reason."""

    rows: list[Row]
    unreadable: Counter[str] = field(default_factory=Counter)


def read_rows(files: Sequence[Path]) -> Rows:
    """All rows of the parquet files.

    Raises InputError for a missing file, one that is not parquet, one with other columns, and when no file
    holds a readable row.
    """
    result = Rows([])
    for path in files:
        _read_file(Path(path).expanduser(), result)
    if not result.rows:
        names = ", ".join(str(path) for path in files)
        if not result.unreadable:
            held_out = "`split: test` and `split_ratio: {train: 1.0}` leave one of the two files without rows"
            raise InputError(f"{names}: holds no rows ({held_out})")
        why = "; ".join(f"{count} x {reason}" for reason, count in result.unreadable.most_common(3))
        raise InputError(f"{names}: no usable row ({why})")
    return result


def _read_file(path: Path, result: Rows) -> None:
    import pyarrow
    import pyarrow.parquet as parquet

    if not path.is_file():
        raise InputError(f"{path}: no such file; `pairwise-rm convert` writes it")
    try:
        opened = parquet.ParquetFile(path)
        columns = set(opened.schema_arrow.names)
        if not (columns >= _NEEDED or columns >= _UPSTREAM_NEEDED):
            wanted = ", ".join(sorted(_NEEDED))
            raise InputError(f"{path}: expected the columns {wanted}; found {', '.join(sorted(columns)) or 'none'}")
        for batch in opened.iter_batches():
            for row in batch.to_pylist():
                try:
                    result.rows.append(normalize_row(row))
                except UnreadableRow as reason:
                    result.unreadable[str(reason)] += 1
    except (pyarrow.ArrowException, OSError, ValueError, OverflowError) as error:  # bytes that are no UTF-8, say
        raise InputError(f"{path}: not a readable parquet file: {str(error).splitlines()[0]}") from error


def is_row_file(path: Path) -> bool:
    """Whether a parquet file has the columns of either layout, or cannot be opened, which `read_rows` explains."""
    import pyarrow
    import pyarrow.parquet as parquet

    try:
        columns = set(parquet.read_schema(path).names)
    except (pyarrow.ArrowException, OSError, ValueError):
        return True
    return columns >= _NEEDED or columns >= _UPSTREAM_NEEDED


def is_without_rows(path: Path) -> bool:
    """Whether a parquet file is there, sound, and has columns only."""
    import pyarrow
    import pyarrow.parquet as parquet

    try:
        return bool(path.is_file() and parquet.read_metadata(path).num_rows == 0)
    except (pyarrow.ArrowException, OSError, ValueError):
        return False


def normalize_row(row: Mapping[str, Any]) -> Row:
    """A row of either layout as a row of the contract. Raises UnreadableRow with the reason."""
    if "input" in row and "output" in row:
        row = _from_upstream(row)
    messages, responses, preferred = row.get("messages"), row.get("responses"), row.get("preferred")
    if not _is_list(messages) or not messages or not all(_is_turn(turn) for turn in messages):
        raise UnreadableRow("no prompt")
    if not _is_list(responses) or len(responses) != 2 or not all(_is_encodable(response) for response in responses):
        raise UnreadableRow("not two responses")
    if preferred not in PREFERENCES:
        raise UnreadableRow("preferred is not A, B or tie")
    order = row.get("order") or ORDERS[0]
    if order not in ORDERS:
        raise UnreadableRow("unknown order")
    strength = row.get("strength")
    if strength is not None and (type(strength) is not int or not 0 <= strength <= MAX_STRENGTH):
        raise UnreadableRow(f"strength is not 0 to {MAX_STRENGTH}")
    turns = [{"role": str(turn.get("role") or "user"), "content": turn["content"]} for turn in messages]
    return {
        "pair_id": row.get("pair_id") or pair_id(turns, responses),  # type: ignore[arg-type]
        "order": order,
        "messages": turns,  # type: ignore[typeddict-item]
        "responses": list(responses),
        "preferred": preferred,
        "strength": strength,
        "source": str(row.get("source") or "unknown"),
        "subset": row.get("subset"),
        "source_id": row.get("source_id"),
    }


def _is_list(value: Any) -> TypeGuard[Sequence[Any]]:
    return isinstance(value, Sequence) and not isinstance(value, str)


def _is_turn(value: Any) -> bool:
    return isinstance(value, Mapping) and _is_text(value.get("content"))


def _is_text(value: Any) -> bool:
    return _is_encodable(value) and bool(value.strip())


def _is_encodable(value: Any) -> bool:
    """Text, an empty response included; JSON can spell half of a surrogate pair, which UTF-8 cannot hold."""
    return isinstance(value, str) and not _SURROGATE.search(value)


def _from_upstream(row: Mapping[str, Any]) -> dict[str, Any]:
    parts = {}
    for name in ("input", "output", "metadata"):
        value = row.get(name)
        if isinstance(value, str):
            try:
                value = json.loads(value)
            except (ValueError, RecursionError):  # a number of thousands of digits is no JSONDecodeError
                raise UnreadableRow(f"{name} is not JSON") from None
        parts[name] = value
    metadata = parts["metadata"]
    if not isinstance(metadata, Mapping):
        raise UnreadableRow("metadata is not a mapping")
    outputs = parts["output"] if _is_list(parts["output"]) else []
    answers = [out.get("answer") if isinstance(out, Mapping) else None for out in outputs]
    strength, order = metadata.get("preference_strength"), metadata.get("sample_type")
    return {
        "messages": parts["input"],
        "responses": [answer.get("content") if isinstance(answer, Mapping) else None for answer in answers],
        "preferred": metadata.get("preferred"),
        "order": _UPSTREAM_ORDERS.get(order, order) if isinstance(order, str) else None,
        "strength": abs(strength) if isinstance(strength, int | float) else strength,
        "source": row.get("source"),
    }
