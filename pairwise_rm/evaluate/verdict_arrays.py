"""The verdicts of one evaluation as arrays, which is what every figure is computed from.

A row of `verdicts.parquet` is one row of the data file (one order of a pair) with its label, its verdict
and what the model wrote. `Table` holds the part that is counted. numpy is imported here and in
the modules built on this one; nothing of the command line imports them before a stage runs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pairwise_rm.contract.rows import ORDERS

INVALID = -1
"""Code of a verdict that could not be parsed; 0, 1 and 2 index `PREFERENCES` (A, B, tie)."""

COUNTED = (
    "pair_id",
    "prompt_id",
    "order",
    "preferred",
    "verdict",
    "reason",
    "strength",
    "subset",
    "length_a",
    "length_b",
    "samples_right",
)
"""The columns of verdicts.parquet that a Table is made of."""

_PREFERENCE_CODE: dict[str | None, int] = {"A": 0, "B": 1, "tie": 2, None: INVALID}
_ORDER_CODE = {name: code for code, name in enumerate(ORDERS)}
_SWAPPED = np.array([1, 0, 2, INVALID], dtype=np.int8)  # the last entry is reached by index -1


@dataclass(frozen=True)
class Table:
    """N judged rows. Every array has shape (N,).

    pair, prompt: codes of the pair and of the prompt (the cluster of the intervals); order: index into
    ORDERS; preferred: index into PREFERENCES; verdict: the same or INVALID; strength: 0 to 3, -1 unknown;
    subset: code, -1 none; gap: characters by which the preferred response is longer (0 for ties);
    samples_right: share of the row's samples that were right.
    `keys` tells a row of one evaluation from those of another: pair, how often it was seen before, order.
    """

    keys: list[tuple[str, int, str]]
    pair: Any
    prompt: Any
    order: Any
    preferred: Any
    verdict: Any
    strength: Any
    subset: Any
    subset_names: list[str]
    gap: Any
    samples_right: Any
    reasons: Counter[str]

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def correct(self) -> Any:
        return self.verdict == self.preferred

    def select(self, rows: Any) -> Table:
        """The rows at these indices, in their order; codes keep their meaning, reasons are not recounted."""
        arrays = ("pair", "prompt", "order", "preferred", "verdict", "strength", "subset", "gap", "samples_right")
        picked = {name: getattr(self, name)[rows] for name in arrays}
        keys = [self.keys[row] for row in rows]
        return Table(keys=keys, subset_names=self.subset_names, reasons=self.reasons, **picked)

    def order_pairs(self) -> tuple[Any, Any]:
        """Row indices of the original and the swapped order of each pair that has both: shape (P,) each."""
        count = int(self.pair.max()) + 1 if len(self) else 0
        rows: Any = np.full((2, count), -1, dtype=np.int64)
        rows[self.order, self.pair] = np.arange(len(self))
        complete = (rows >= 0).all(axis=0)
        return rows[0, complete], rows[1, complete]


def swap_verdicts(verdict: Any) -> Any:
    """The same verdicts seen from the other order; INVALID stays."""
    return _SWAPPED[verdict]


def table_of(columns: Mapping[str, Sequence[Any]]) -> Table:
    """A Table of the columns named in COUNTED."""
    orders = list(columns["order"])
    keys = _keys(columns["pair_id"], orders)
    preferred = np.array([_PREFERENCE_CODE[name] for name in columns["preferred"]], dtype=np.int8)
    longer_a = np.array(columns["length_a"], dtype=np.int64) - np.array(columns["length_b"], dtype=np.int64)
    subset_names = sorted({name for name in columns["subset"] if name is not None})
    codes = {None: -1, **{name: code for code, name in enumerate(subset_names)}}
    return Table(
        keys=keys,
        pair=_codes([(pair, seen) for pair, seen, _ in keys]),
        prompt=_codes(columns["prompt_id"]),
        order=np.array([_ORDER_CODE[name] for name in orders], dtype=np.int8),
        preferred=preferred,
        verdict=np.array([_PREFERENCE_CODE[name] for name in columns["verdict"]], dtype=np.int8),
        strength=np.array([-1 if value is None else value for value in columns["strength"]], dtype=np.int8),
        subset=np.array([codes[name] for name in columns["subset"]], dtype=np.int64),
        subset_names=subset_names,
        gap=np.choose(preferred, [longer_a, -longer_a, np.zeros_like(longer_a)]) if orders else longer_a,
        samples_right=np.array(columns["samples_right"], dtype=np.float64),
        reasons=Counter(reason for reason in columns["reason"] if reason is not None),
    )


def _keys(pair_ids: Sequence[str], orders: Sequence[str]) -> list[tuple[str, int, str]]:
    # A file that holds a pair twice (ours never does) gives the repeats numbers of their own.
    seen: Counter[tuple[str, str]] = Counter()
    keys = []
    for identity, order in zip(pair_ids, orders, strict=True):
        keys.append((identity, seen[identity, order], order))
        seen[identity, order] += 1
    return keys


def _codes(values: Sequence[Any]) -> Any:
    first: dict[Any, int] = {}
    return np.array([first.setdefault(value, len(first)) for value in values], dtype=np.int64)
