"""A search changes speed and not the judge, and what it finds is a recipe."""

from __future__ import annotations

import pytest

from pairwise_rm.plan.chart_values import as_overrides
from pairwise_rm.plan.estimate import TIGHT, Estimate, estimate
from pairwise_rm.plan.layout import Layout
from pairwise_rm.plan.layout_search import search, what_helps
from pairwise_rm.plan.throughput import find_gpu
from pairwise_rm.recipe.load import load_recipe

GPU_RECIPES = ("qwen3-8b-lora-1x80g", "qwen3-8b-8x40g", "qwen3-14b-8x80g", "qwen3-32b-8x80g", "qwen3-32b-2x8x80g")


def plan(name: str, gpu: str = "a100-80gb", *overrides: str) -> Estimate:
    return estimate(load_recipe(name, overrides), find_gpu(gpu))


@pytest.mark.parametrize("name", GPU_RECIPES)
def test_what_is_found_is_the_recipe_with_the_keys_that_it_names(name: str) -> None:
    for found in search(plan(name), [(1, 8), (2, 8)]):
        assert Layout.of(load_recipe(name, as_overrides(found.changes))) == found.estimate.layout


def test_the_cheapest_comes_first_and_all_fit_with_room_to_spare() -> None:
    found = search(plan("qwen3-14b-8x80g"))
    hours = [one.estimate.time.gpu_hours for one in found if one.estimate.time and one.estimate.time.gpu_hours]
    assert hours == sorted(hours)
    assert len(hours) == len(found) > 2
    for one in found:
        memory = one.estimate.memory
        assert memory.capacity is not None
        assert memory.worst.total <= (1 - TIGHT) * memory.capacity


def test_lora_is_tried_only_where_nothing_else_fits() -> None:
    assert all(one.estimate.layout.lora is None for one in search(plan("qwen3-14b-8x80g")))
    small = search(plan("qwen3-14b-8x80g", "l40s"), [(1, 2)])
    assert small
    assert "model.lora" in small[0].changes


def test_a_recipe_with_lora_keeps_it() -> None:
    assert all("model.lora" not in one.changes for one in search(plan("qwen3-8b-lora-1x80g")))


def test_with_flash_attention_micro_batches_are_by_tokens() -> None:
    found = search(plan("qwen3-14b-8x80g", "a100-80gb", "model.attention=flash_attention_2"), [(1, 8)])
    assert found[0].estimate.layout.dynamic
    assert found[0].changes["train.verl.actor_rollout_ref.actor.use_dynamic_bsz"] is True


def test_the_evaluation_never_wants_more_gpus_than_there_are() -> None:
    found = search(plan("qwen3-14b-8x80g"), [(1, 4)])
    assert found[0].changes["evaluate.replicas"] * 2 == 4


def test_nothing_is_found_where_nothing_fits() -> None:
    assert search(plan("qwen3-32b-8x80g", "l40s"), [(1, 1)]) == []


def test_what_helps_is_one_change_each_and_helps() -> None:
    helped = what_helps(plan("qwen3-32b-8x80g"))
    assert helped
    for changes in helped:
        assert estimate(load_recipe("qwen3-32b-8x80g", as_overrides(changes)), find_gpu("a100-80gb")).fits


def test_a_batch_that_the_gpus_cannot_share_is_not_tried() -> None:
    sizes = ("train.batch_size=9", "train.mini_batch_size=9", "train.rollouts=3", "train.gpus_per_node=1")
    only = ("train.tensor_parallel=1", "evaluate.replicas=1")
    assert search(plan("qwen3-14b-8x80g", "b200", *sizes, *only), [(1, 8)]) == []
