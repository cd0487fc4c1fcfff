"""Seconds of a step, beside what others and we have measured."""

from __future__ import annotations

import pytest

from pairwise_rm.plan.estimate import Estimate, estimate
from pairwise_rm.plan.step_time import StepTime
from pairwise_rm.plan.throughput import _table, constants, find_gpu, gpus
from pairwise_rm.recipe.load import load_recipe


def plan(name: str, gpu: str, *overrides: str, response: float | None = None) -> Estimate:
    return estimate(load_recipe(name, overrides), find_gpu(gpu), response=response)


def times(name: str, gpu: str, *overrides: str, response: float | None = None) -> StepTime:
    time = plan(name, gpu, *overrides, response=response).time
    assert time is not None
    return time


@pytest.mark.parametrize("response", [600, 1024])
def test_the_tutorials_step_of_an_8b_on_8_h20_is_within_a_factor_of_one_and_a_half(response: float) -> None:
    seconds = times("qwen3-8b-8x40g", "h20", response=response).step
    assert 180 / 1.5 < seconds < 180 * 1.5


def test_rollouts_of_an_8b_with_lora_are_as_quick_as_on_the_h200_that_was_borrowed() -> None:
    # 8 prompts x 4 rollouts of 1,024 tokens each, since random weights never end: about 2,900 tokens a second.
    sizes = ("train.batch_size=8", "train.mini_batch_size=8", "prompt.max_response_length=1024")
    rollout = times("qwen3-8b-lora-1x80g", "h200", *sizes, response=1024).phases["rollout"]
    assert 32 * 1024 / rollout == pytest.approx(2900, rel=0.25)


def test_twice_the_rollouts_take_longer_and_twice_the_gpus_less() -> None:
    usual = times("qwen3-14b-8x80g", "a100-80gb").step
    assert times("qwen3-14b-8x80g", "a100-80gb", "train.rollouts=8").step > 1.5 * usual
    assert times("qwen3-14b-8x80g", "h100-80gb").step < usual


def test_a_micro_batch_of_one_sample_between_nodes_waits_for_weights() -> None:
    one, two = (times("qwen3-32b-2x8x80g", "a100-80gb", f"train.micro_batch_size_per_gpu={size}") for size in (1, 2))
    assert one.limits["update"] == "gathering weights"
    assert two.phases["update"] < one.phases["update"]


def test_the_run_has_as_many_steps_as_the_data_give() -> None:
    assert times("qwen3-14b-8x80g", "a100-80gb").steps == 10 * (17_354 // 96)
    assert times("qwen3-14b-8x80g", "a100-80gb", "train.steps=30").steps == 30


def test_gpu_hours_are_those_of_training_and_of_judging() -> None:
    time = times("qwen3-14b-8x80g", "a100-80gb", "train.validate_every=null")
    assert time.training is not None
    assert time.training == pytest.approx(time.start + 1800 * time.step + time.checkpoints)
    assert time.gpu_hours == pytest.approx((time.training * 8 + time.evaluation * 8) / 3600)


def test_without_rows_and_steps_there_are_no_gpu_hours() -> None:
    time = times("qwen3-14b-8x80g", "a100-80gb", "data.configs.path=x.jsonl", "data.configs.type=local")
    assert (time.steps, time.gpu_hours) == (None, None)


def test_a_price_is_for_each_gpu_and_hour() -> None:
    priced = estimate(load_recipe("qwen3-14b-8x80g"), find_gpu("a100-80gb"), price=2)
    assert priced.time is not None
    assert priced.time.gpu_hours is not None
    assert priced.cost == 2 * priced.time.gpu_hours


def test_every_figure_has_a_source_a_date_and_a_kind() -> None:
    figures = [*constants().values(), *(figure for gpu in gpus().values() for figure in gpu.figures.values())]
    assert all(figure.source and figure.date and figure.kind in ("measured", "vendor", "assumed") for figure in figures)
    assert all(figure.what for figure in constants().values())
    assert {len(gpu.figures) for gpu in gpus().values()} == {6}
    assert set(_table()) == {"date", "gpus", "constants"}


def test_every_kind_of_gpu_plans() -> None:
    for name in gpus():
        assert times("qwen3-8b-8x40g", name).step > 0
