"""Asks the judge for both orders of each item and combines the two verdicts.

for judgement in judge(recipe, model, [Item.of("Why are apples healthy?", "Fibre.", "They are red.")]):
    print(judgement.combined)      # A, B, tie, inconsistent or invalid, in the item's own letters
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from pairwise_rm.contract.rows import ORDERS, Order, Preference, Row, swapped
from pairwise_rm.evaluate.engine import Say, revision_of
from pairwise_rm.evaluate.row_verdicts import Progress, RowVerdict, row_verdicts_of
from pairwise_rm.hf_model import check_model_folder
from pairwise_rm.judge.items import Item
from pairwise_rm.recipe.model import Recipe

Combined = Literal["A", "B", "tie", "inconsistent", "invalid"]


@dataclass(frozen=True)
class OrderJudgement:
    """One order. `shown` is the letter the judge wrote; `preferred` the same response in the item's letters."""

    order: Order
    shown: Preference | None
    preferred: Preference | None
    reason: str | None
    reasoning: list[str]
    texts: list[str]
    cut: bool


@dataclass(frozen=True)
class Judgement:
    """An item's verdict. `combined` is a response (or tie) only where both orders agree on it."""

    name: str
    combined: Combined
    orders: tuple[OrderJudgement, OrderJudgement]

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def judge(
    recipe: Recipe,
    model: str,
    items: Sequence[Item],
    progress: Progress | None = None,
    *,
    say: Say | None = None,
    partial: Path | None = None,
) -> list[Judgement]:
    """One judgement per item, in order.

    With `partial`, a folder, an interrupted call goes on where it was; see `evaluate.row_verdicts.row_verdicts_of`.

    Raises InputError for a model that cannot be loaded, before anything starts, and StageError when vLLM fails.
    """
    check_model_folder(model, revision_of(recipe, model))
    verdicts = row_verdicts_of(recipe, model, rows_of(items), progress, say=say, partial=partial)
    return judgements_of(items, verdicts)


def rows_of(items: Sequence[Item]) -> list[Row]:
    """The rows to judge for these items: both orders of each, adjacent."""
    return [row for item in items for row in item.rows()]


def judgements_of(items: Sequence[Item], verdicts: Sequence[RowVerdict]) -> list[Judgement]:
    """One judgement per item, from the verdicts of `rows_of`."""
    pairs = zip(verdicts[0::2], verdicts[1::2], strict=True)
    return [judgement_of(item.name, pair) for item, pair in zip(items, pairs, strict=True)]


def judgement_of(name: str, verdicts: tuple[RowVerdict, RowVerdict]) -> Judgement:
    """Combines the verdicts of the original and the swapped order."""
    first, second = (_of_order(order, row_verdict) for order, row_verdict in zip(ORDERS, verdicts, strict=True))
    combined: Combined
    if first.preferred is None or second.preferred is None:
        combined = "invalid"
    else:
        combined = first.preferred if first.preferred == second.preferred else "inconsistent"
    return Judgement(name, combined, (first, second))


def _of_order(order: Order, row_verdict: RowVerdict) -> OrderJudgement:
    shown = row_verdict.verdict
    preferred = swapped(shown) if shown is not None and order == "swapped" else shown
    reasoning = [sample.reasoning for sample in row_verdict.samples]
    return OrderJudgement(order, shown, preferred, row_verdict.reason, reasoning, row_verdict.texts, row_verdict.cut)
