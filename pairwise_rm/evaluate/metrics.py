"""What an evaluation measures; pure functions of a Table.

accuracy              verdict equals label, over all rows, that is over both orders; invalid output is wrong
by_order              the same, with the source's first response as A (original) and as B (swapped)
both_orders_right     pairs judged right in both orders (position-consistent accuracy)
position_consistency  pairs with the same response (or a tie) preferred in both orders, right or wrong
share_a               A verdicts among A and B verdicts; 0.5 means no position bias
binary_accuracy       accuracy over rows whose label is not a tie
macro_accuracy        mean of the accuracies of the subsets
preferred_shorter,    accuracy over rows whose preferred response has fewer (more) characters: a judge that
preferred_longer      leans on length is better in the second
invalid               rows without a valid verdict; by reason in `invalid_by_reason`
voting                with k > 1 samples: the mean accuracy of one sample, and of the majority of k
"""

from __future__ import annotations

from typing import Any

import numpy as np

from pairwise_rm.contract.rows import ORDERS, PREFERENCES
from pairwise_rm.evaluate.bootstrap import Measure, estimate
from pairwise_rm.evaluate.verdict_arrays import INVALID, Table, swap_verdicts

_A, _B, _TIE = range(len(PREFERENCES))


def row_measures(table: Table) -> dict[str, Measure]:
    """The measures over rows, keyed by their path in metrics.json (`by_order/swapped`)."""
    correct = table.correct.astype(np.float64)
    everything: Any = np.ones(len(table), dtype=bool)
    decided = table.preferred != _TIE

    def share(hits: Any, among: Any) -> Measure:
        return Measure(np.where(among, hits, 0.0), among.astype(np.float64), table.prompt)

    measures = {
        "accuracy": share(correct, everything),
        "binary_accuracy": share(correct, decided),
        "preferred_shorter": share(correct, decided & (table.gap < 0)),
        "preferred_longer": share(correct, decided & (table.gap > 0)),
        "share_a": share(table.verdict == _A, (table.verdict == _A) | (table.verdict == _B)),
        "invalid": share(table.verdict == INVALID, everything),
        "voting/one": share(table.samples_right, everything),
    }
    for code, order in enumerate(ORDERS):
        measures[f"by_order/{order}"] = share(correct, table.order == code)
    for strength in sorted({int(value) for value in np.unique(table.strength)} - {-1}):
        measures[f"by_strength/{strength}"] = share(correct, table.strength == strength)
    for code, name in enumerate(table.subset_names):
        measures[f"by_subset/{name}"] = share(correct, table.subset == code)
    return measures


def pair_measures(table: Table) -> dict[str, Measure]:
    """The measures over pairs that were judged in both orders."""
    original, swapped = table.order_pairs()
    cluster = table.prompt[original]
    everything = np.ones(len(original))
    first, second = table.verdict[original], swap_verdicts(table.verdict[swapped])
    right = table.correct[original] & table.correct[swapped]
    agree = (first == second) & (first != INVALID)
    return {
        "both_orders_right": Measure(right.astype(np.float64), everything, cluster),
        "position_consistency": Measure(agree.astype(np.float64), everything, cluster),
    }


def measure(table: Table, *, samples: int, resamples: int, seed: int) -> dict[str, Any]:
    """The figures of metrics.json; each estimate is {value, low, high, n}, null where nothing was counted."""
    subsets = [f"by_subset/{name}" for name in table.subset_names]
    measures = {**row_measures(table), **pair_measures(table)}
    found = estimate(measures, resamples=resamples, seed=seed, means={"macro_accuracy": subsets} if subsets else None)
    one = found.pop("voting/one")
    figures: dict[str, Any] = {
        "rows": len(table),
        "pairs": len(np.unique(table.pair)),
        "prompts": len(np.unique(table.prompt)),
        "labels": _counts(table.preferred),
        **{name: figure._asdict() for name, figure in found.items() if "/" not in name},
        "verdicts": {**_counts(table.verdict), "invalid": int((table.verdict == INVALID).sum())},
        "by_order": {},
        "by_strength": {},
        "by_subset": {},
    }
    for path, figure in found.items():
        group, _, key = path.partition("/")
        if key:
            figures[group][key] = figure._asdict()
    figures["invalid_by_reason"] = dict(sorted(table.reasons.items(), key=lambda item: (-item[1], item[0])))
    if samples > 1:
        figures["voting"] = {"one": one._asdict(), f"majority of {samples}": figures["accuracy"]}
    return figures


def _counts(codes: Any) -> dict[str, int]:
    return {name: int((codes == code).sum()) for code, name in enumerate(PREFERENCES)}
