"""Ratios with 95 % bootstrap intervals, clustered by prompt.

Rows that share a prompt (both orders, several pairs) are not independent, so whole prompts are drawn with
replacement. Every measure is a ratio of two sums, and a resample is a vector of how often each prompt was
drawn: all measures of a resample are two matrix products. The interval is the percentile interval, from
2.5 % to 97.5 %. Where every prompt is entirely right or entirely wrong the bootstrap has nothing to vary;
there the exact (Clopper-Pearson) bound on the number of prompts is used, so that 40 out of 40 does not
read as certainty. One prompt has no interval, and neither has what is the same in every resample otherwise.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

_TAIL = 0.025
_NO_WIDTH = 1e-9
_CELLS = 4_000_000  # of one block of draws: 32 MB


class Estimate(NamedTuple):
    """A value with its 95 % interval, over `n` rows (or pairs).

    All None where there is nothing to count; `low` and `high` None where nothing varies that an interval could show.
    """

    value: float | None
    low: float | None
    high: float | None
    n: int


@dataclass(frozen=True)
class Measure:
    """`numerator` over `denominator`, both of shape (N,), summed; `cluster` holds the prompt codes, shape (N,)."""

    numerator: Any
    denominator: Any
    cluster: Any
    proportion: bool = True


def estimate(
    measures: Mapping[str, Measure],
    *,
    resamples: int,
    seed: int,
    means: Mapping[str, Iterable[str]] | None = None,
) -> dict[str, Estimate]:
    """Estimates all measures over the same resamples.

    `means` names further figures, each the unweighted mean of some of the measures (macro averages).
    """
    names = list(measures)
    groups = {name: [names.index(member) for member in members] for name, members in (means or {}).items()}
    clusters = 1 + max((int(m.cluster.max()) for m in measures.values() if len(m.cluster)), default=-1)
    if clusters == 0:
        return dict.fromkeys([*names, *groups], Estimate(None, None, None, 0))
    above = np.stack([_by_cluster(m.numerator, m.cluster, clusters) for m in measures.values()], axis=1)
    below = np.stack([_by_cluster(m.denominator, m.cluster, clusters) for m in measures.values()], axis=1)
    used = np.flatnonzero(below.any(axis=1))
    above, below = above[used], below[used]
    values = _ratio(above.sum(axis=0), below.sum(axis=0))
    draws = _resample(above, below, resamples, seed)
    found: dict[str, Estimate] = {}
    for column, (name, measure) in enumerate(measures.items()):
        prompts = int((below[:, column] > 0).sum())
        rows = int(np.count_nonzero(measure.denominator))
        found[name] = _interval(values[column], draws[:, column], rows, prompts if measure.proportion else 0)
    for name, columns in groups.items():
        prompts = int((below[:, columns] > 0).any(axis=1).sum())
        rows = sum(found[names[column]].n for column in columns)
        found[name] = _interval(_mean(values[None, columns])[0], _mean(draws[:, columns]), rows, prompts)
    return found


def _by_cluster(values: Any, cluster: Any, clusters: int) -> Any:
    return np.bincount(cluster, weights=values, minlength=clusters)


def _ratio(above: Any, below: Any) -> Any:
    return np.divide(above, below, out=np.full(np.shape(above), np.nan), where=below > 0)


def _mean(values: Any) -> Any:
    """Means over the columns that could be computed, shape (R,); NaN where none could."""
    known = ~np.isnan(values)
    return _ratio(np.where(known, values, 0.0).sum(axis=1), known.sum(axis=1))


def _resample(above: Any, below: Any, resamples: int, seed: int) -> Any:
    """Every measure in every resample, shape (resamples, measures)."""
    clusters = len(above)
    generator = np.random.default_rng(seed)
    blocks = []
    block = max(1, _CELLS // max(1, clusters))
    for start in range(0, resamples, block):
        size = min(block, resamples - start)
        drawn = generator.integers(0, clusters, size=(size, clusters)) + clusters * np.arange(size)[:, None]
        weights = np.bincount(drawn.ravel(), minlength=size * clusters).reshape(size, clusters).astype(np.float64)
        blocks.append(_ratio(weights @ above, weights @ below))
    return np.concatenate(blocks)


def _interval(value: float, draws: Any, rows: int, prompts: int) -> Estimate:
    """The percentile interval; `prompts` > 0 asks for the exact bound where a proportion is 0 or 1."""
    if np.isnan(value):
        return Estimate(None, None, None, 0)
    bounds: Any = np.quantile(draws[~np.isnan(draws)], [_TAIL, 1 - _TAIL])
    low, high = bounds
    if prompts > 1 and value in (0.0, 1.0):
        reach = 1 - _TAIL ** (1 / prompts)
        low, high = (1 - reach, 1.0) if value == 1.0 else (0.0, reach)
    if high - low < _NO_WIDTH:
        return Estimate(float(value), None, None, rows)
    return Estimate(float(value), float(min(low, value)), float(max(high, value)), rows)
