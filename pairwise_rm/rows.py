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

`responses` is one list column and not two columns because both orders of a pair are neighbours: in one
column the second order compresses to almost nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple, TypedDict

if TYPE_CHECKING:
    import pyarrow

Preference = Literal["A", "B", "tie"]
Order = Literal["original", "swapped"]

PREFERENCES: tuple[Preference, ...] = ("A", "B", "tie")
ORDERS: tuple[Order, ...] = ("original", "swapped")
MAX_STRENGTH = 3

TRAIN_FILE = "preference_train.parquet"
TEST_FILE = "preference_test.parquet"
MANIFEST_FILE = "manifest.json"
REJECTED_FILE = "rejected.jsonl"

_SWAPPED: dict[Preference, Preference] = {"A": "B", "B": "A", "tie": "tie"}


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


class Row(TypedDict):
    pair_id: str
    order: Order
    messages: list[Message]
    responses: list[str]
    preferred: Preference
    strength: int | None
    source: str
    subset: str | None


def swapped(preference: Preference) -> Preference:
    """The same preference seen from the other order."""
    return _SWAPPED[preference]


def pair_id(messages: Sequence[Message], responses: Sequence[str]) -> str:
    """16 hex digits over the prompt and both responses, whichever response comes first.

    Two rows of a source that hold the same pair in opposite orders share it, so duplicates and
    contradictions are found whatever their order. Collisions: 2**-64 a pair of pairs.
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
    common["subset"] = pair.subset
    original = {**common, "order": "original", "responses": [first, second], "preferred": pair.preferred}
    reverse = {**common, "order": "swapped", "responses": [second, first], "preferred": swapped(pair.preferred)}
    return original, reverse  # type: ignore[return-value]


def arrow_schema() -> pyarrow.Schema:
    """The contract as an Arrow schema; pyarrow is imported only here, so that naming a column costs nothing."""
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
        ]
    )
