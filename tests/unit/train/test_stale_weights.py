"""Rollouts from other weights than the trainer's end the run, before anything is updated from them."""

from __future__ import annotations

import math

import pytest

from pairwise_rm.errors import StageError
from pairwise_rm.train.stale_weights import PROBS_DIFF, check_fresh


@pytest.mark.parametrize("difference", [0.0, 1e-5, 0.01])
def test_fresh_weights_pass(difference: float) -> None:
    check_fresh({PROBS_DIFF: difference}, bound=0.01, step=3)
    assert difference <= 0.01


@pytest.mark.parametrize("difference", [0.0100001, 0.9, math.nan, math.inf])
def test_stale_weights_stop_the_run_with_the_measured_figure(difference: float) -> None:
    with pytest.raises(StageError, match=f"step 3: {PROBS_DIFF} is .*, above train.max_probs_diff 0.01"):
        check_fresh({PROBS_DIFF: difference}, bound=0.01, step=3)


def test_weights_that_cannot_be_proven_fresh_stop_the_run() -> None:
    with pytest.raises(StageError, match=f"step 3: verl reported no {PROBS_DIFF}"):
        check_fresh({}, bound=0.01, step=3)
