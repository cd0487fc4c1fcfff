"""Two models on the same rows: a paired comparison.

The difference of two accuracies on the same prompts varies far less than two separate intervals suggest,
so the bootstrap draws prompts once and takes the difference inside each draw.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from pairwise_rm.errors import StageError
from pairwise_rm.evaluate.bootstrap import Measure, estimate
from pairwise_rm.evaluate.metrics import pair_measures, row_measures
from pairwise_rm.evaluate.verdict_arrays import Table

_SAME_ROWS = ("accuracy", "binary_accuracy", "preferred_shorter", "preferred_longer", "invalid")


def compare(before: Table, after: Table, *, resamples: int, seed: int) -> dict[str, Any]:
    """What changed from `before` to `after` on the rows that both judged.

    `difference` holds estimates of after minus before; `fixed` and `broken` count rows (and pairs) that
    went from wrong to right and back. Raises StageError when no row is common to both.
    """
    where = {key: row for row, key in enumerate(before.keys)}
    common = [(where[key], row) for row, key in enumerate(after.keys) if key in where]
    if not common:
        raise StageError("the two evaluations share no row: they judged different data files")
    old = before.select([row for row, _ in common])
    new = after.select([row for _, row in common])
    if not np.array_equal(old.preferred, new.preferred):
        raise StageError("the two evaluations disagree on labels of the same rows: the data file was converted anew")
    figures = estimate(_differences(old, new), resamples=resamples, seed=seed)
    original, swapped = new.order_pairs()
    both_old = old.correct[original] & old.correct[swapped]
    both_new = new.correct[original] & new.correct[swapped]
    return {
        "rows": len(new),
        "rows_only_before": len(before) - len(new),
        "rows_only_after": len(after) - len(new),
        "difference": {name: figure._asdict() for name, figure in figures.items()},
        "fixed": int((~old.correct & new.correct).sum()),
        "broken": int((old.correct & ~new.correct).sum()),
        "pairs": len(original),
        "pairs_fixed": int((~both_old & both_new).sum()),
        "pairs_broken": int((both_old & ~both_new).sum()),
    }


def _differences(old: Table, new: Table) -> dict[str, Measure]:
    # Pairs and clusters are those of `new`, so that both sides are summed over the same prompts.
    old = Table(**{**vars(old), "pair": new.pair, "prompt": new.prompt})
    first = {**row_measures(old), **pair_measures(old)}
    second = {**row_measures(new), **pair_measures(new)}
    return {
        name: Measure(
            second[name].numerator - first[name].numerator,
            second[name].denominator,
            second[name].cluster,
            proportion=False,
        )
        for name in (*_SAME_ROWS, "both_orders_right", "position_consistency")
    }
