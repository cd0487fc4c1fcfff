"""Host memory, Ray CPUs and volumes of a recipe."""

from __future__ import annotations

import pytest

from pairwise_rm.plan.host import Host, Storage, host_memory, pinned, storage
from pairwise_rm.plan.layout import Layout
from pairwise_rm.plan.model_shape import ModelShape, shape_of
from pairwise_rm.plan.throughput import GIB
from pairwise_rm.recipe.load import load_recipe
from pairwise_rm.train.preflight import ray_cpus_needed

QWEN3_8B = 8_190_735_360


def needs(name: str, *overrides: str) -> tuple[Host, Storage]:
    recipe = load_recipe(name, overrides)
    shape, layout = shape_of(recipe.model), Layout.of(recipe)
    return host_memory(shape, layout, recipe, tokens=800_000), storage(shape, layout, recipe)


def test_a_pinned_tensor_takes_the_next_power_of_two() -> None:
    config = {"model_type": "llama", "num_hidden_layers": 0, "hidden_size": 48, "num_attention_heads": 4}
    shape = ModelShape.of_config(
        "none", {**config, "intermediate_size": 8, "vocab_size": 10, "tie_word_embeddings": True}
    )
    # The embedding has 10 x 48 numbers of 4 bytes, the norm 48; a rank of two has half of each.
    assert pinned(shape, gpus=2, each=4) == 1024 + 128


def test_a_checkpoint_of_all_weights_has_twelve_bytes_for_each() -> None:
    assert needs("qwen3-8b-8x40g")[1].checkpoint == 12 * QWEN3_8B


def test_a_checkpoint_of_a_lora_run_has_its_base_too() -> None:
    # 16 GB were seen on an H200 (shared/gpu/README.md), before the adapter had moments.
    assert 2 * QWEN3_8B < needs("qwen3-8b-lora-1x80g")[1].checkpoint < 1.1 * 2 * QWEN3_8B


def test_the_volume_holds_the_kept_checkpoints_and_the_one_being_written() -> None:
    few, more = (needs("qwen3-8b-8x40g", f"train.keep_checkpoints={count}")[1] for count in (1, 3))
    assert (few.kept, more.kept) == (2, 4)
    assert more.runs - few.runs == 2 * few.checkpoint


def test_the_export_has_the_bytes_of_its_dtype() -> None:
    assert needs("qwen3-8b-8x40g", "export.dtype=float32")[1].export == 4 * QWEN3_8B
    assert needs("qwen3-8b-8x40g")[1].export == 2 * QWEN3_8B


def test_a_model_of_this_machine_needs_no_cache() -> None:
    assert needs("smoke")[1].cache == 0
    assert needs("qwen3-8b-8x40g")[1].cache == 2 * QWEN3_8B


def test_what_is_offloaded_waits_in_host_memory() -> None:
    parts = needs("qwen3-32b-8x80g")[0].parts
    assert {"reference", "weights offloaded", "optimizer offloaded"} <= parts.keys()
    assert parts["optimizer offloaded"] == 2 * parts["weights offloaded"]


def test_a_model_that_is_not_offloaded_is_whole_on_one_host_while_it_loads() -> None:
    host = needs("qwen3-8b-8x40g")[0]
    assert host.moment == "start-up"
    assert host.parts["whole model, while loading"] == 4 * QWEN3_8B


def test_vllm_asleep_keeps_the_weights_of_a_lora_run_in_host_memory() -> None:
    assert needs("qwen3-8b-lora-1x80g")[0].parts["vLLM's weights, asleep"] == 2 * QWEN3_8B


@pytest.mark.parametrize("name", ["smoke", "qwen3-8b-8x40g", "qwen3-32b-2x8x80g"])
def test_ray_cpus_are_those_that_preflight_asks_for(name: str) -> None:
    assert needs(name)[0].ray_cpus == ray_cpus_needed(load_recipe(name))


def test_on_a_cpu_weights_go_to_vllm_through_shared_memory() -> None:
    assert needs("smoke")[0].shm > 2 * GIB
