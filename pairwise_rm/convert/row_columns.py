"""A batch of pairs as Arrow columns: two rows per pair, and every text once.

Text columns are Arrow dictionaries without repeats, which parquet stores as they are; both orders of a pair are
indices into them, so nothing is copied for the second order. Arrays are made from buffers: `pyarrow.array` would
import pandas, if installed, to check the type of its input.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING

from pairwise_rm.contract.rows import ORDERS, Pair, arrow_schema, swapped

if TYPE_CHECKING:
    import pyarrow


def both_orders_table(pairs: Sequence[Pair], ids: Sequence[str]) -> pyarrow.Table:
    """The rows of `contract.rows.both_orders` for each pair, with `ids` in the same order.

    The types are those of `arrow_schema()`, except that text is a dictionary.
    """
    import pyarrow as pa

    count = len(pairs)
    twice = _integers(index for index in range(count) for _ in ORDERS)
    strengths = array("b", [pair.strength or 0 for pair in pairs for _ in ORDERS])
    known = _bits([pair.strength is not None for pair in pairs for _ in ORDERS])
    columns = {
        "pair_id": _texts(ids).take(twice),
        "order": _texts(ORDERS * count),
        "messages": _messages(pairs).take(twice),
        "responses": pa.ListArray.from_arrays(
            _integers(range(0, 4 * count + 1, 2)),
            _texts([text for pair in pairs for text in (*pair.responses, *reversed(pair.responses))]),
        ),
        "preferred": _texts([label for pair in pairs for label in (pair.preferred, swapped(pair.preferred))]),
        "strength": pa.Array.from_buffers(pa.int8(), 2 * count, [known, pa.py_buffer(strengths)]),
        "source": _texts([pair.source for pair in pairs for _ in ORDERS]),
        "subset": _texts([pair.subset for pair in pairs for _ in ORDERS]),
        "source_id": _texts([pair.source_id for pair in pairs for _ in ORDERS]),
    }
    schema = arrow_schema()
    fields = [schema.field(name).with_type(column.type) for name, column in columns.items()]
    return pa.Table.from_arrays(list(columns.values()), schema=pa.schema(fields))


def _messages(pairs: Sequence[Pair]) -> pyarrow.Array:
    """One list of turns per pair."""
    import pyarrow as pa

    turns = [turn for pair in pairs for turn in pair.messages]
    message = arrow_schema().field("messages").type.value_type
    columns = [_texts([turn["role"] for turn in turns]), _texts([turn["content"] for turn in turns])]
    fields = [message.field(index).with_type(column.type) for index, column in enumerate(columns)]
    offsets = _integers(accumulate((len(pair.messages) for pair in pairs), initial=0))
    return pa.ListArray.from_arrays(offsets, pa.StructArray.from_arrays(columns, fields=fields))


def _texts(values: Sequence[str | None]) -> pyarrow.DictionaryArray:
    """A dictionary array; None is null. The dictionary has no repeats, with which parquet would not use it."""
    import pyarrow as pa

    positions: dict[str, int] = {}
    indices = array("i", [0 if value is None else positions.setdefault(value, len(positions)) for value in values])
    texts = [text.encode() for text in positions]
    offsets = array("i", accumulate(map(len, texts), initial=0))
    words = pa.StringArray.from_buffers(len(texts), pa.py_buffer(offsets), pa.py_buffer(b"".join(texts)))
    valid = _bits([value is not None for value in values])
    numbers = pa.Array.from_buffers(pa.int32(), len(indices), [valid, pa.py_buffer(indices)])
    return pa.DictionaryArray.from_arrays(numbers, words)


def _integers(values: Iterable[int]) -> pyarrow.Array:
    import pyarrow as pa

    numbers = array("i", values)
    return pa.Array.from_buffers(pa.int32(), len(numbers), [None, pa.py_buffer(numbers)])


def _bits(valid: Sequence[bool]) -> pyarrow.Buffer | None:
    """A validity bitmap, least significant bit first; None where everything is valid."""
    import pyarrow as pa

    if all(valid):
        return None
    bits = bytearray((len(valid) + 7) // 8)
    for index, is_valid in enumerate(valid):
        bits[index >> 3] |= is_valid << (index & 7)
    return pa.py_buffer(bytes(bits))
