"""Stops a training whose rollouts come from other weights than the trainer's, by the probabilities of their tokens."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Protocol

from pairwise_rm.errors import StageError

PROBS_DIFF = "training/rollout_probs_diff_max"
PROBS_DIFF_MEAN = "training/rollout_probs_diff_mean"
CORRELATION = "training/rollout_actor_probs_pearson_corr"


class Bounds(Protocol):
    """The keys of `train` of the same names."""

    @property
    def max_probs_diff(self) -> float: ...
    @property
    def max_probs_diff_mean(self) -> float: ...
    @property
    def min_probs_correlation(self) -> float: ...


def check_fresh(metrics: Mapping[str, Any], bounds: Bounds, step: int) -> None:
    """Raises StageError when the rollout's token probabilities are not the trainer's within the bounds.

    verl computes their largest difference, the mean and the correlation for every step. The correlation says nothing
    where all probabilities are equal, and is then not a number.
    """
    difference, mean, correlation = (metrics.get(name) for name in (PROBS_DIFF, PROBS_DIFF_MEAN, CORRELATION))
    if difference is None:
        raise StageError(f"step {step}: verl reported no {PROBS_DIFF}; fresh rollout weights cannot be proven")
    if not difference <= bounds.max_probs_diff:
        raise StageError(
            f"step {step}: {PROBS_DIFF} is {difference:.4g}, above train.max_probs_diff {bounds.max_probs_diff:g}: "
            "the rollouts come from other weights than the trainer's; nothing was updated from them"
        )
    if mean is not None and not mean <= bounds.max_probs_diff_mean:
        raise StageError(
            f"step {step}: {PROBS_DIFF_MEAN} is {mean:.4g}, above train.max_probs_diff_mean "
            f"{bounds.max_probs_diff_mean:g}: "
            "the rollouts come from other weights than the trainer's; nothing was updated from them"
        )
    if correlation is not None and math.isfinite(correlation) and correlation < bounds.min_probs_correlation:
        raise StageError(
            f"step {step}: {CORRELATION} is {correlation:.4g}, below train.min_probs_correlation "
            f"{bounds.min_probs_correlation:g}: "
            "the rollouts come from other weights than the trainer's; nothing was updated from them"
        )
