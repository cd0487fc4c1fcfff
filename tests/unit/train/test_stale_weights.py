"""Rollouts from other weights than the trainer's end the run, before anything is updated from them."""

from __future__ import annotations

import math

import pytest

from pairwise_rm.errors import StageError
from pairwise_rm.recipe.model import TrainConfig
from pairwise_rm.train.stale_weights import CORRELATION, PROBS_DIFF, PROBS_DIFF_MEAN, check_fresh

BOUNDS = TrainConfig(max_probs_diff=0.01, max_probs_diff_mean=0.001, min_probs_correlation=0.9)


@pytest.mark.parametrize("difference", [0.0, 1e-5, 0.01])
def test_fresh_weights_pass(difference: float) -> None:
    check_fresh({PROBS_DIFF: difference}, BOUNDS, step=3)
    assert difference <= 0.01


@pytest.mark.parametrize("difference", [0.0100001, 0.9, math.nan, math.inf])
def test_stale_weights_stop_the_run_with_the_measured_figure(difference: float) -> None:
    with pytest.raises(StageError, match=f"step 3: {PROBS_DIFF} is .*, above train.max_probs_diff 0.01"):
        check_fresh({PROBS_DIFF: difference}, BOUNDS, step=3)


@pytest.mark.parametrize("mean", [0.0011, math.nan])
def test_a_mean_difference_above_its_own_bound_stops_the_run(mean: float) -> None:
    with pytest.raises(StageError, match=f"step 3: {PROBS_DIFF_MEAN} is .*, above train.max_probs_diff_mean 0.001"):
        check_fresh({PROBS_DIFF: 0.002, PROBS_DIFF_MEAN: mean}, BOUNDS, step=3)


def test_a_correlation_below_its_bound_stops_the_run() -> None:
    with pytest.raises(StageError, match=f"step 3: {CORRELATION} is 0.89, below train.min_probs_correlation 0.9"):
        check_fresh({PROBS_DIFF: 0.002, CORRELATION: 0.89}, BOUNDS, step=3)


@pytest.mark.parametrize("correlation", [0.9, 1.0, math.nan])
def test_the_correlation_of_probabilities_that_are_all_equal_is_no_reason_to_stop(correlation: float) -> None:
    check_fresh({PROBS_DIFF: 0.0, PROBS_DIFF_MEAN: 0.0, CORRELATION: correlation}, BOUNDS, step=3)
    assert not correlation < 0.9


def test_weights_that_cannot_be_proven_fresh_stop_the_run() -> None:
    with pytest.raises(StageError, match=f"step 3: verl reported no {PROBS_DIFF}"):
        check_fresh({}, BOUNDS, step=3)
