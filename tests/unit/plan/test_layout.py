"""A layout is read from what reaches verl, whatever the recipe calls it."""

from __future__ import annotations

from typing import Any

import pytest

from pairwise_rm.plan.layout import _DEFAULTS, Layout
from pairwise_rm.recipe.load import load_recipe


def test_the_defaults_are_those_of_the_installed_verl() -> None:
    pytest.importorskip("verl")
    omegaconf = pytest.importorskip("omegaconf")
    from pairwise_rm.train.verl_schema import load_tree

    tree = load_tree()
    found: dict[str, Any] = {key: omegaconf.OmegaConf.select(tree, key) for key in _DEFAULTS}
    # verl's references to the actor's keys are read by the layout itself; a missing key is None in both.
    assert found == _DEFAULTS


def test_a_key_of_verls_counts_as_the_recipes_own_do() -> None:
    actor = "train.verl.actor_rollout_ref.actor"
    given = [f"{actor}.use_dynamic_bsz=true", f"{actor}.ppo_max_token_len_per_gpu=8192"]
    layout = Layout.of(load_recipe("qwen3-14b-8x80g", given))
    assert (layout.dynamic, layout.update_tokens, layout.log_prob_tokens) == (True, 8192, 8192)


def test_float32_computes_and_keeps_in_four_bytes() -> None:
    layout = Layout.of(load_recipe("smoke"))
    assert (layout.compute_bytes, layout.master_bytes, layout.rollout_bytes) == (4, 4, 4)


def test_the_lora_recipe_keeps_its_base_in_two_bytes() -> None:
    layout = Layout.of(load_recipe("qwen3-8b-lora-1x80g"))
    assert (layout.compute_bytes, layout.master_bytes) == (2, 2)
    assert layout.lora is not None
    assert layout.lora.rank == 64
