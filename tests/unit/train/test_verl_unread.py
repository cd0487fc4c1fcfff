"""The list of verl's keys that change nothing, held to the tree and the source of the verl that is installed."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pairwise_rm.errors import InputError
from pairwise_rm.recipe.load import load_recipe, shipped_recipes
from pairwise_rm.recipe.model import Recipe
from pairwise_rm.run_folder import RunFolder
from pairwise_rm.train.verl_arguments import dry_run, resolve
from pairwise_rm.train.verl_unread import READ_SECTIONS, UNREAD, Unread, unread
from tests.unit.conftest import MakeRecipe

# Modules that our training does not import: other trainers, engines, rollouts, kinds of data and devices.
_OTHER = re.compile(
    r"main_ppo_v0|main_eval|main_generation|sft_|tinker|model_merger|schemas|third_party|modelopt|npu|nixl|hccl|kimi|mooncake"
    r"|experimental/(fully_async|one_step|separation)|trainer_(separate|colocate)|engine/(automodel|mindspeed|torchtitan|veomni)"
    r"|megatron|mcore|sglang|trtllm|hf_rollout|workers/reward_manager|dataset/(multi|sft)|models/(qwen|llama|weight)"
)
# Passed on as they are, so that verl itself names none of their keys.
_PASSED_ON = ("ray_kwargs.ray_init", "transfer_queue", "global_profiler.global_tool_config.nsys")


def _leaves(node: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in node.items():
        if isinstance(value, dict) and value:
            yield from _leaves(value, f"{prefix}{key}.")
        elif key != "_target_":
            yield f"{prefix}{key}", value


def _fields_beside(node: Any, prefix: str = "") -> Iterator[str]:
    """Keys of verl's dataclasses that its YAML does not spell out; a user may set them too."""
    from pairwise_rm.train.verl_schema import fields_of

    if isinstance(node, dict):
        yield from (f"{prefix}{name}" for name in fields_of(node.get("_target_")) if name not in node)
        for key, value in node.items():
            yield from _fields_beside(value, f"{prefix}{key}.")


def _fsdp_recipe() -> Recipe:
    return Recipe.model_validate({"name": "t", "model": {"path": "m"}})


def _with_reward_function() -> Recipe:
    return Recipe.model_validate(
        {"name": "t", "model": {"path": "m", "lora": {}}, "reward": {"function": {"path": "mine.py"}}}
    )


def _refusal(recipe: Recipe) -> str:
    with pytest.raises(InputError) as caught:
        dry_run(recipe)
    return str(caught.value)


# ---- held to verl --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tree() -> dict[str, Any]:
    if importlib.util.find_spec("verl") is None:
        pytest.skip("needs verl")
    from omegaconf import OmegaConf

    from pairwise_rm.train.verl_schema import load_tree

    plain = OmegaConf.to_container(load_tree(), resolve=False)
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}


@pytest.fixture(scope="module")
def named(tree: dict[str, Any]) -> set[str]:
    """Every attribute and every text in the sources of verl that our training can reach."""
    found = importlib.util.find_spec("verl")
    assert found
    assert found.origin
    root = Path(found.origin).parent
    words: set[str] = set()
    for path in root.rglob("*.py"):
        if not _OTHER.search(str(path.relative_to(root))):
            # The old trainer is in a module of which the new one takes functions.
            text = path.read_text().partition("class RayPPOTrainer")[0]
            words |= {one or other for one, other in re.findall(r"\.(\w+)|[\"']([\w-]+)[\"']", text)}
    return words


@pytest.mark.parametrize("entry", UNREAD, ids=lambda entry: entry.key)
def test_a_listed_key_is_a_key_of_verl(entry: Unread, tree: dict[str, Any]) -> None:
    from pairwise_rm.train.verl_schema import unknown_part

    assert unknown_part(entry.key, tree) is None


def test_each_section_of_verls_tree_is_read_or_listed(tree: dict[str, Any]) -> None:
    listed = {entry.key for entry in UNREAD if "." not in entry.key}
    assert set(tree) == READ_SECTIONS | listed
    assert not READ_SECTIONS & listed


def test_a_key_that_no_module_of_our_training_names_is_listed(tree: dict[str, Any], named: set[str]) -> None:
    recipe = _fsdp_recipe()
    leaves = {**dict(_leaves(tree)), **dict.fromkeys(_fields_beside(tree))}
    looked_up = " ".join(value for value in leaves.values() if isinstance(value, str) and "${" in value)
    silent = [
        key
        for key in leaves
        if key.rsplit(".", 1)[-1] not in named
        and key not in looked_up
        and not any(key.startswith(f"{prefix}.") for prefix in _PASSED_ON)
    ]
    assert len(silent) > 60
    assert [key for key in silent if not unread(key, recipe)] == []


@pytest.mark.parametrize("name", shipped_recipes())
def test_the_launcher_sets_no_key_that_is_not_read(name: str) -> None:
    recipe = load_recipe(name)
    assert [setting.key for setting in resolve(recipe, RunFolder.of(recipe)) if unread(setting.key, recipe)] == []


@pytest.mark.parametrize("entry", [entry for entry in UNREAD if entry.instead], ids=lambda entry: entry.key)
def test_the_key_to_set_instead_is_there_and_is_read(entry: Unread, tree: dict[str, Any]) -> None:
    from pairwise_rm.train.verl_schema import unknown_part

    words = (entry.instead or "").split()
    name = words[-1] if words[0] == "the" else words[0]
    if name in ("reward.function", "engine_kwargs.vllm"):
        return
    if not name.startswith("train.verl."):
        recipe: Any = _with_reward_function()
        for part in name.split("."):
            recipe = getattr(recipe, part)
        return
    verl = name.removeprefix("train.verl.")
    assert unknown_part(verl, tree) is None
    # A section is named where some keys of it are read.
    assert words[0] == "the" or not unread(verl, _with_reward_function())


# ---- what a user meets ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "value", "end"),
    [
        ("custom_reward_function.path", "my.py", "old reward loop; set reward.function.path instead"),
        ("reward_model.reward_manager", "dapo", "set train.verl.reward.reward_manager.name instead"),
        (
            "reward_model.rollout.name",
            "vllm",
            "set the key of the same name below train.verl.reward.reward_model instead",
        ),
        ("sandbox_fusion.url", "http://x", "runs no code in a sandbox; leave it out"),
        ("reward.sandbox_fusion.url", "http://x", "runs no code in a sandbox; leave it out"),
        ("model_engine", "megatron", "the tree is composed for FSDP; leave it out"),
        ("critic.optim.lr", 1e-5, "GRPO trains no critic; leave it out"),
        ("critic.enable", True, "GRPO trains no critic; leave it out"),
        ("algorithm.lam", 0.95, "only the GAE estimator reads it; leave it out"),
        ("actor_rollout_ref.actor.grad_clip", 0.5, "set train.verl.actor_rollout_ref.actor.optim.clip_grad instead"),
        ("actor_rollout_ref.model.lora.rank", 8, "it belongs to Megatron; set model.lora.rank instead"),
        ("actor_rollout_ref.rollout.val_kwargs.do_sample", True, "rollout.val_kwargs.temperature instead"),
        ("trainer.val_only", True, "`pairwise-rm evaluate` does; leave it out"),
        ("trainer.v1.separate_async.parameter_sync_step", 2, "it belongs to an asynchronous trainer; leave it out"),
        ("data.prompt_key", "question", "our dataset finds the columns of both layouts; leave it out"),
        ("algorithm.filter_groups.enable", True, "the sampler of device: cpu filters no groups; leave it out"),
    ],
)
def test_a_key_that_changes_nothing_is_refused_with_what_to_do(
    make_recipe: MakeRecipe, key: str, value: Any, end: str
) -> None:
    message = _refusal(make_recipe(train={"verl": {key: value}}))
    assert message.startswith(f"train.verl.{key}: this training does not read it, ")
    assert message.endswith(end)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("custom_reward_function.path", None),
        ("reward_model.reward_manager", "naive"),
        ("reward_model.enable", False),
        ("trainer.balance_batch", True),
        ("algorithm.gamma", 1),
        ("data.prompt_key", "input"),
    ],
)
def test_one_that_asks_for_what_happens_anyway_is_no_mistake_and_is_not_passed_on(
    make_recipe: MakeRecipe, key: str, value: Any
) -> None:
    plain, given = dry_run(make_recipe())[0], dry_run(make_recipe(train={"verl": {key: value}}))[0]
    assert plain == given


def test_groups_are_filtered_where_verls_own_sampler_does_it() -> None:
    recipe = load_recipe("qwen3-14b-8x80g", ["train.verl.algorithm.filter_groups.enable=true"])
    assert "algorithm.filter_groups.enable=true" in dry_run(recipe)[0]


def test_a_reward_of_your_own_may_ask_a_reward_model(make_recipe: MakeRecipe) -> None:
    verl = {"reward.reward_model.enable": True}
    assert "reward.function to one that asks it" in _refusal(make_recipe(train={"verl": verl}))
    recipe = make_recipe(train={"verl": verl}, reward={"function": {"path": "mine.py"}})
    assert "reward.reward_model.enable=true" in dry_run(recipe)[0]
