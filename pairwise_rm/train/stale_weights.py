"""Stops a training whose rollouts come from other weights than the trainer's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pairwise_rm.errors import StageError

PROBS_DIFF = "training/rollout_probs_diff_max"


def check_fresh(metrics: Mapping[str, Any], bound: float, step: int) -> None:
    """Raises StageError when the rollout's token probabilities differ from the trainer's by more than `bound`.

    verl computes the difference for every step; vLLM that went on with old weights shows there and nowhere
    else (verl itself exits 0).
    """
    difference = metrics.get(PROBS_DIFF)
    if difference is None:
        raise StageError(f"step {step}: verl reported no {PROBS_DIFF}; fresh rollout weights cannot be proven")
    if not difference <= bound:
        raise StageError(
            f"step {step}: {PROBS_DIFF} is {difference:.4g}, above train.max_probs_diff {bound:g}: "
            "the rollouts come from other weights than the trainer's; nothing was updated from them"
        )
