"""A few judged pairs for the report: some the judge got right, some wrong, some where it contradicts itself.

They are spread evenly over each kind and not random, so two reports of the same run show the same pairs.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pairwise_rm.atomic_io import sha256_of
from pairwise_rm.contract.rows import ORDERS, Row, swapped
from pairwise_rm.errors import InputError

KINDS = {
    "right": "Right in both orders",
    "inconsistent": "The order decided",
    "wrong": "Wrong in both orders",
    "invalid": "Invalid output",
}
PER_KIND = 4
_LONGEST = 1600  # characters of any one text


@dataclass(frozen=True)
class Said:
    """A model's output for one order. `verdict` names the response by its letter in the original order."""

    model: str
    order: str
    verdict: str
    correct: bool
    text: str


@dataclass(frozen=True)
class Sample:
    """`source_id` is the source's own id of the pair, or None."""

    kind: str
    pair_id: str
    source_id: str | None
    subset: str | None
    strength: int | None
    label: str
    prompt: str
    responses: tuple[str, str]
    said: list[Said]


def pick_samples(
    after: Mapping[str, Sequence[Any]], before: Mapping[str, Sequence[Any]] | None, data_file: Path, sha256: str
) -> tuple[list[Sample], str | None]:
    """Samples by the columns of the verdicts, and a note where the pairs' texts cannot be shown."""
    rows, note = _texts(data_file, sha256)
    by_pair: dict[str, dict[str, int]] = defaultdict(dict)
    for index, (pair, order) in enumerate(zip(after["pair_id"], after["order"], strict=True)):
        by_pair[pair].setdefault(order, index)
    kinds: dict[str, list[str]] = {kind: [] for kind in KINDS}
    for pair, orders in by_pair.items():
        if len(orders) == len(ORDERS):
            kinds[_kind(after, [orders[order] for order in ORDERS])].append(pair)
    earlier = {}
    if before is not None:
        earlier = {key: at for at, key in enumerate(zip(before["pair_id"], before["order"], strict=True))}
    samples = []
    for kind, pairs in kinds.items():
        for pair in _spread(pairs):
            said = []
            for order in ORDERS:
                if before is not None and (pair, order) in earlier:
                    said.append(_said("before", before, earlier[pair, order]))
                said.append(_said("after", after, by_pair[pair][order]))
            samples.append(_sample(kind, pair, after, by_pair[pair][ORDERS[0]], rows.get(pair), said))
    return samples, note


def _kind(columns: Mapping[str, Sequence[Any]], pair: Sequence[int]) -> str:
    if not all(columns["valid"][row] for row in pair):
        return "invalid"
    first, second = (columns["verdict"][row] for row in pair)
    if first != swapped(second):
        return "inconsistent"
    return "right" if columns["correct"][pair[0]] else "wrong"


def _spread(pairs: Sequence[str]) -> list[str]:
    count = min(PER_KIND, len(pairs))
    return [pairs[index * len(pairs) // count] for index in range(count)]


def _texts(data_file: Path, sha256: str) -> tuple[dict[str, Row], str | None]:
    from pairwise_rm.contract.rows import read_rows

    if not data_file.is_file() or sha256_of(data_file) != sha256:
        note = f"The data file {data_file.name} has moved or changed since, so the texts of the pairs are not shown."
        return {}, note
    try:
        rows = read_rows([data_file]).rows
    except InputError as error:
        return {}, str(error)
    return {row["pair_id"]: row for row in reversed(rows) if row["order"] == ORDERS[0]}, None


def _said(model: str, columns: Mapping[str, Sequence[Any]], row: int) -> Said:
    order, verdict = columns["order"][row], columns["verdict"][row]
    if verdict is None:
        told = f"invalid: {columns['reason'][row].replace('_', ' ')}"
    else:
        told = f"prefers {swapped(verdict) if order == 'swapped' else verdict}" if verdict != "tie" else "tie"
    texts = columns["text"][row]
    text = _cut(texts[0].strip()) if texts else "(nothing was generated: the prompt is too long)"
    return Said(model, order, told, bool(columns["correct"][row]), text)


def _sample(
    kind: str, pair: str, columns: Mapping[str, Sequence[Any]], row: int, texts: Row | None, said: list[Said]
) -> Sample:
    prompt, responses = "", ("", "")
    if texts is not None:
        turns = texts["messages"]
        named = [f"{turn['role']}: {turn['content']}" if len(turns) > 1 else turn["content"] for turn in turns]
        prompt, responses = _cut("\n\n".join(named)), (_cut(texts["responses"][0]), _cut(texts["responses"][1]))
    return Sample(
        kind,
        pair,
        columns["source_id"][row],
        columns["subset"][row],
        columns["strength"][row],
        columns["preferred"][row],
        prompt,
        responses,
        said,
    )


def _cut(text: str) -> str:
    if len(text) <= _LONGEST:
        return text
    return f"{text[:_LONGEST].rstrip()} … ({len(text) - _LONGEST:,} more characters)"
