"""The input of a judge: a prompt (or a conversation) and two responses, from arguments or a file that `convert` reads.

A label is not needed, and not looked at.

{"prompt": "Why are apples healthy?", "response_a": "Fibre.", "response_b": "They are red."}
{"messages": [{"role": "user", "content": "Hi"}], "response_a": "Hello!", "response_b": "No.", "id": "x1"}
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pairwise_rm.contract.rows import ROLES, Message, Pair, Row, both_orders
from pairwise_rm.convert.fields import RowError
from pairwise_rm.errors import InputError
from pairwise_rm.recipe.model import SourceConfig

if TYPE_CHECKING:
    from pairwise_rm.convert.converters import Converter

_KEYS = {"id", "prompt", "messages", "response_a", "response_b"}


@dataclass(frozen=True)
class Item:
    """A pair to judge. `name` says which one it is: the line's `id`, or its number."""

    name: str
    messages: list[Message]
    response_a: str
    response_b: str

    @classmethod
    def of(cls, prompt: str, response_a: str, response_b: str, name: str = "1") -> Item:
        """From plain texts. Raises InputError when one is empty or holds a lone surrogate."""
        return item_of({"prompt": prompt, "response_a": response_a, "response_b": response_b}, "judge", name)

    def rows(self) -> tuple[Row, Row]:
        """Both orders as rows of the contract; their label is a placeholder."""
        return both_orders(
            Pair(self.messages, (self.response_a, self.response_b), "tie", None, "judge", source_id=self.name)
        )


def read_items(path: Path, source: str | None = None, recipe: SourceConfig | None = None) -> list[Item]:
    """The items of a file of any kind that `convert` reads; a name without a known end is taken for JSON lines.

    `source` names how rows are read, as `data.configs.source` does; None: a row of nothing but the names above is an
    item, and any other is read as `pairwise_rm.convert.raw_file` says.

    Raises InputError with file:line for the first row that is not an item, and for a file without items.
    """
    from pairwise_rm.convert.raw_file import columns_of, converter_of, fitting, ways_to_read
    from pairwise_rm.convert.source_rows import JsonLinesReader, kind_of, open_rows

    path = Path(path).expanduser()
    if not path.exists():
        raise InputError(f"{path}: no such file")
    if path.is_dir():
        raise InputError(f"{path}: cannot be read: Is a directory")
    ways = ways_to_read(recipe or SourceConfig(source="generic_pairwise"), source)
    converters = [converter_of(configs, labelled=False) for configs in ways]
    kind = kind_of(path)
    reader = open_rows(path, columns_of(converters)) if kind else JsonLinesReader(path)
    items: list[Item] = []
    for number, raw in reader:
        where = f"{path}:{number}"
        try:
            row = reader.parse(raw)
            # Of a parquet the other columns are not read, so that what is there does not show what the row has.
            if source is None and kind != ".parquet" and row.keys() <= _KEYS:
                items.append(item_of(row, where, str(number)))
                continue
            converter = converters[fitting(row, converters)]
        except RowError as error:
            raise InputError(f"{where}: {error}") from error
        try:
            items += _converted(row, converter, where, str(number))
        except RowError as error:
            hint = "" if len(ways) == 1 else f" (read as {converter.name}; --source names how rows are read)"
            raise InputError(f"{where}: {error}{hint}") from error
    if not items:
        raise InputError(f"{path}: no lines; expected rows with prompt, response_a and response_b")
    return items


def _converted(row: dict[str, Any], converter: Converter, where: str, name: str) -> list[Item]:
    """The pairs of a row of a source; several of one row are numbered."""
    from pairwise_rm.convert.converters import SeveralPairs

    found = converter.convert(row)
    pairs = [one.pair for one in (found.pairs if isinstance(found, SeveralPairs) else [found])]
    if not pairs:
        raise InputError(f"{where}: none of the answers is worse than the best one, so there is no pair to judge")
    items = []
    for index, pair in enumerate(pairs, 1):
        if pair.responses[0] == pair.responses[1]:
            raise InputError(f"{where}: both responses are identical")
        own = pair.source_id or name
        items.append(Item(own if len(pairs) == 1 else f"{own}.{index}", pair.messages, *pair.responses))
    return items


def decoded(text: bytes, where: str) -> Any:
    """The JSON value of UTF-8 bytes. Raises InputError that starts with `where`."""
    try:
        return json.loads(text.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise InputError(f"{where}: not UTF-8: {error.reason} at byte {error.start}") from error
    except json.JSONDecodeError as error:
        raise InputError(f"{where}: not JSON: {error.msg} at column {error.colno}") from error
    except RecursionError as error:
        raise InputError(f"{where}: nested too deeply") from error
    except ValueError as error:
        raise InputError(f"{where}: not JSON: a number has too many digits") from error


def item_of(value: Any, where: str, name: str) -> Item:
    """An item of a decoded value. `where` starts the message of the InputError."""
    if not isinstance(value, dict):
        raise InputError(f"{where}: expected a JSON object, found {type(value).__name__}")
    if unknown := sorted(value.keys() - _KEYS):
        raise InputError(f"{where}: unknown key {unknown[0]!r}; known are {', '.join(sorted(_KEYS))}")
    if ("prompt" in value) == ("messages" in value):
        raise InputError(f"{where}: expected either prompt or messages")
    messages: list[Message]
    if "prompt" in value:
        messages = [{"role": "user", "content": _text(value["prompt"], "prompt", where)}]
    else:
        messages = _messages(value["messages"], where)
    first, second = (_text(value.get(key), key, where) for key in ("response_a", "response_b"))
    if first == second:
        raise InputError(f"{where}: response_a and response_b are identical")
    # As in the output of convert: an id that cannot be written is no reason to refuse a pair.
    own = str(value.get("id", name)).encode("utf-8", "backslashreplace").decode()
    return Item(own, messages, first, second)


def _messages(value: Any, where: str) -> list[Message]:
    if not isinstance(value, list) or not value:
        raise InputError(f"{where}: messages: expected a list of {{role, content}}")
    turns: list[Message] = []
    for index, turn in enumerate(value):
        key = f"messages[{index}]"
        if not isinstance(turn, dict):
            raise InputError(f"{where}: {key}: expected {{role, content}}")
        role, content = (_text(turn.get(part), f"{key}.{part}", where) for part in ("role", "content"))
        if role not in ROLES:
            raise InputError(f"{where}: {key}.role: expected one of {', '.join(ROLES)}, found {role!r}")
        turns.append({"role": role, "content": content})
    if turns[-1]["role"] != "user":
        raise InputError(f"{where}: messages: the last turn must be the user's")
    return turns


def _text(value: Any, key: str, where: str) -> str:
    if not isinstance(value, str) or not value.strip():
        raise InputError(f"{where}: {key}: expected a text that is not empty")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise InputError(f"{where}: {key}: a lone surrogate at character {error.start}") from error
    return value
