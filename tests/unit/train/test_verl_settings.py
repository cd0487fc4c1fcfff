"""From a recipe to verl's keys, checked against the real tree of the verl that is installed."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pairwise_rm import cpu
from pairwise_rm.errors import InputError
from pairwise_rm.recipe.load import load_recipe, shipped_recipes
from pairwise_rm.recipe.model import Recipe
from pairwise_rm.run_folder import RunFolder
from pairwise_rm.train.verl_arguments import dry_run, resolve
from pairwise_rm.train.verl_settings import Setting, as_overrides, recipe_key_for, to_recipe_overrides
from tests.unit.conftest import MakeRecipe

PLATFORM_KEYS = (
    "actor_rollout_ref.rollout.engine_kwargs.vllm.worker_extension_cls",
    "actor_rollout_ref.rollout.enable_sleep_mode",
    "trainer.v1.sampler.custom_sampler.path",
)


def keys(recipe: Recipe) -> dict[str, Any]:
    return {setting.key: setting.value for setting in resolve(recipe, RunFolder.of(recipe))}


@pytest.fixture(scope="module")
def tree() -> Any:
    if importlib.util.find_spec("verl") is None:
        pytest.skip("needs verl")
    from pairwise_rm.train.verl_schema import load_tree

    return load_tree()


@pytest.fixture(scope="module")
def hydra_parser() -> Any:
    pytest.importorskip("hydra")
    from hydra.core.override_parser.overrides_parser import OverridesParser

    return OverridesParser.create()


# ---- a recipe's settings -------------------------------------------------------------------------


def test_the_hyper_parameters_of_the_rm_gallery_tutorial_reach_verl() -> None:
    recipe = Recipe.model_validate({"name": "t", "model": {"path": "m"}})
    found = keys(recipe)
    expected = {
        "algorithm.adv_estimator": "grpo",
        "data.train_batch_size": 96,
        "data.max_prompt_length": 4096,
        "data.max_response_length": 2048,
        "actor_rollout_ref.actor.ppo_mini_batch_size": 24,
        "actor_rollout_ref.actor.ppo_micro_batch_size_per_gpu": 1,
        "actor_rollout_ref.actor.optim.lr": 1e-6,
        "actor_rollout_ref.actor.use_kl_loss": True,
        "actor_rollout_ref.actor.kl_loss_coef": 0.001,
        "actor_rollout_ref.actor.kl_loss_type": "low_var_kl",
        "actor_rollout_ref.actor.entropy_coeff": 0.0,
        "actor_rollout_ref.rollout.name": "vllm",
        "actor_rollout_ref.rollout.n": 4,
        "actor_rollout_ref.rollout.tensor_model_parallel_size": 8,
        "actor_rollout_ref.rollout.gpu_memory_utilization": 0.6,
        "actor_rollout_ref.ref.fsdp_config.param_offload": True,
        "actor_rollout_ref.model.enable_gradient_checkpointing": True,
        "actor_rollout_ref.model.use_remove_padding": True,
        "trainer.nnodes": 1,
        "trainer.n_gpus_per_node": 8,
        "trainer.total_epochs": 10,
        "trainer.save_freq": 20,
    }
    assert {key: found[key] for key in expected} == expected


def test_every_key_is_set_once(make_recipe: MakeRecipe) -> None:
    recipe = make_recipe(model={"lora": {"rank": 8}})
    names = [setting.key for setting in resolve(recipe, RunFolder.of(recipe))]
    assert len(names) == len(set(names))


def test_lora_makes_vllm_load_the_base_weights(make_recipe: MakeRecipe) -> None:
    with_lora, without = keys(make_recipe(model={"lora": {"rank": 8, "alpha": 16}})), keys(make_recipe())
    assert with_lora["actor_rollout_ref.rollout.load_format"] == "safetensors"
    assert with_lora["actor_rollout_ref.model.lora_rank"] == 8
    assert "actor_rollout_ref.rollout.load_format" not in without
    assert without["actor_rollout_ref.model.lora_rank"] == 0


def test_no_reference_model_without_a_kl_loss(make_recipe: MakeRecipe) -> None:
    found = keys(make_recipe(train={"kl_loss": None}))
    assert found["actor_rollout_ref.actor.use_kl_loss"] is False
    assert "actor_rollout_ref.actor.kl_loss_coef" not in found


@pytest.mark.parametrize("name", shipped_recipes())
def test_the_cpu_platform_is_set_up_for_cpu_recipes_and_for_no_other(name: str) -> None:
    recipe = load_recipe(name)
    found = keys(recipe)
    environment = found["ray_kwargs.ray_init.runtime_env.env_vars"]
    on_cpu = recipe.device == "cpu"
    assert [key in found for key in PLATFORM_KEYS] == [on_cpu] * len(PLATFORM_KEYS)
    assert [key in environment for key in cpu.environment()] == [on_cpu] * len(cpu.environment())
    assert found["trainer.device"] == recipe.device


def test_vllm_is_offered_the_cpu_platform_only_in_a_cpu_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(cpu.DEVICE_VARIABLE, raising=False)
    assert cpu.vllm_platform() is None
    monkeypatch.setenv(cpu.DEVICE_VARIABLE, "cpu")
    assert cpu.vllm_platform() == "vllm.platforms.cpu.CpuPlatform"


# ---- the launcher's keys -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("trainer.nnodes", "set train.nodes in the recipe instead"),
        ("+trainer.nnodes", "set train.nodes in the recipe instead"),
        ("trainer.total_epochs", "set train.epochs in the recipe instead"),
        ("trainer.default_local_dir", "belongs to the launcher, which sets it to"),
        ("trainer.resume_mode", "belongs to the launcher"),
        ("trainer.resume_from_path", "belongs to the launcher"),
        ("data.train_files", "set data in the recipe instead"),
        ("data.custom_cls.path", "belongs to the launcher"),
        ("data.custom_cls", "belongs to the launcher"),
        ("data.pairwise.rubric", "set prompt in the recipe instead"),
        ("data.train_batch_size", "set train.batch_size in the recipe instead"),
        ("algorithm.adv_estimator", 'which sets it to "grpo"'),
        ("actor_rollout_ref.model.path", "set model.path in the recipe instead"),
        ("actor_rollout_ref.model.lora_rank", "set model.lora.rank in the recipe instead"),
        ("actor_rollout_ref.actor.optim.lr", "set train.learning_rate in the recipe instead"),
        ("actor_rollout_ref.actor.strategy", 'which sets it to "fsdp2"'),
        ("actor_rollout_ref.rollout.name", 'which sets it to "vllm"'),
        ("actor_rollout_ref.rollout.n", "set train.rollouts in the recipe instead"),
        ("actor_rollout_ref.rollout.calculate_log_probs", "belongs to the launcher, which sets it to true"),
        ("reward.custom_reward_function.path", "set reward.function.path in the recipe instead"),
        ("reward.custom_reward_function.reward_kwargs.thinking", "set reward in the recipe instead"),
        ("ray_kwargs.ray_init.runtime_env.env_vars", "belongs to the launcher"),
        ("ray_kwargs.ray_init.runtime_env.pip", "belongs to the launcher"),
        ("ray_kwargs.ray_init.num_cpus", "belongs to the launcher"),
        ("pairwise.metrics_file", "belongs to the launcher"),
        ("trainer.v1.trainer_mode", 'which sets it to "sync"'),
        ("trainer.rollout_data_dir", "set output_dir in the recipe instead"),
        ("trainer.experiment_name", "set name in the recipe instead"),
        ("data.truncation", "set prompt.overlong in the recipe instead"),
        ("trainer", "belongs to the launcher"),
    ],
)
def test_a_key_of_the_launcher_is_refused_by_name(make_recipe: MakeRecipe, key: str, words: str) -> None:
    with pytest.raises(InputError) as caught:
        dry_run(make_recipe(train={"verl": {key: 77}}))
    message = str(caught.value)
    assert message.startswith(f"train.verl.{key.lstrip('+')}: ")
    assert words in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("algorithm.adv_estimator", "grpo"),
        ("actor_rollout_ref.rollout.name", "vllm"),
        ("trainer.val_before_train", False),
        ("+trainer.nnodes", 1),
        ("actor_rollout_ref.rollout.temperature", 1),
        ("data.pairwise.overlong", "cut"),
        ("trainer.total_training_steps", None),
    ],
)
def test_a_key_of_the_launcher_with_the_value_that_it_sets_is_no_mistake(
    make_recipe: MakeRecipe, key: str, value: Any
) -> None:
    assert dry_run(make_recipe(train={"verl": {key: value}}))[0] == dry_run(make_recipe())[0]


@pytest.mark.parametrize(
    ("key", "value"),
    [("trainer.val_before_train", 0), ("trainer.nnodes", True), ("trainer.nnodes", "1"), ("data.custom_cls", {})],
)
def test_a_value_of_another_type_is_another_value(make_recipe: MakeRecipe, key: str, value: Any) -> None:
    with pytest.raises(InputError, match="belongs to the launcher"):
        dry_run(make_recipe(train={"verl": {key: value}}))


def test_a_nested_key_is_refused_as_a_dotted_one_is(make_recipe: MakeRecipe) -> None:
    with pytest.raises(InputError, match=r"^train\.verl\.trainer\.nnodes: .*train\.nodes"):
        dry_run(make_recipe(train={"verl": {"trainer": {"nnodes": 2}}}))


# ---- verl's keys ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", shipped_recipes())
def test_verl_knows_every_key_of_every_shipped_recipe(name: str, tree: Any) -> None:
    overrides, checked = dry_run(load_recipe(name))
    assert checked
    assert len(overrides) > 50


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("trainer.tset_freq2", "verl has no key trainer.tset_freq2"),
        ("trainer.critic_warmpu", "did you mean critic_warmup?"),
        ("nonsense.x", "verl has no key nonsense"),
        ("actor_rollout_ref.rolout.top_p", "verl has no key actor_rollout_ref.rolout; did you mean rollout?"),
        ("actor_rollout_ref.rollout.top_pp", "did you mean top_p?"),
        ("actor_rollout_ref.rollout.top_p.x", "verl has no key"),
    ],
)
def test_a_key_that_verl_does_not_know_is_an_error(make_recipe: MakeRecipe, tree: Any, key: str, words: str) -> None:
    with pytest.raises(InputError) as caught:
        dry_run(make_recipe(train={"verl": {key: 1}}))
    assert str(caught.value).startswith(f"train.verl.{key}: ")
    assert words in str(caught.value)


@pytest.mark.parametrize(
    "key",
    [
        "actor_rollout_ref.rollout.top_p",
        "trainer.critic_warmup",
        "actor_rollout_ref.actor.clip_ratio",
        "actor_rollout_ref.rollout.engine_kwargs.vllm.max_num_seqs",
        "ray_kwargs.ray_init._temp_dir",
        "actor_rollout_ref.model.override_config.rope_theta",
        "transfer_queue.backend.storage_backend",
    ],
)
def test_any_other_key_of_verl_can_be_set_also_below_open_mappings(
    make_recipe: MakeRecipe, tree: Any, key: str
) -> None:
    overrides, _ = dry_run(make_recipe(train={"verl": {key: 1}}))
    assert any(line.lstrip("+") == f"{key}=1" for line in overrides)


def test_all_settings_merge_into_verls_tree(tree: Any) -> None:
    from omegaconf import OmegaConf

    from pairwise_rm.train.verl_schema import load_tree, merged

    recipe = load_recipe("smoke", ["train.verl.trainer.critic_warmup=7"])
    found = resolve(recipe, RunFolder.of(recipe))
    config = merged(load_tree(), found)
    for setting in found:
        value = OmegaConf.select(config, setting.key)
        assert (OmegaConf.to_container(value) if OmegaConf.is_config(value) else value) == setting.value, setting.key
    assert config.trainer.critic_warmup == 7


def test_reading_verls_tree_does_not_import_verl(tree: Any) -> None:
    code = (
        "import sys; from pairwise_rm.train.verl_schema import load_tree; assert load_tree().trainer;"
        "print([name for name in ('torch', 'verl', 'ray') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# ---- the printed list ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", shipped_recipes())
def test_hydra_reads_the_printed_overrides_back(name: str, tree: Any, hydra_parser: Any) -> None:
    recipe = load_recipe(name, ["prompt.rubric=It's a \\ 'test'", "prompt.system='true'"])
    expected = {setting.key: setting.value for setting in resolve(recipe, RunFolder.of(recipe))}
    parsed = hydra_parser.parse_overrides(dry_run(recipe)[0])
    assert {override.key_or_group: override.value() for override in parsed} == expected


@given(
    st.one_of(st.text(max_size=20), st.sampled_from(["null", "1", "1e5", "true", "\\", "\\'", "x\\'y\\\\", "é", "a b"]))
)
def test_hydra_reads_any_text_back_as_that_text(hydra_parser: Any, text: str) -> None:
    line = as_overrides([Setting("a.b", text)])[0]
    if "${" not in text:
        assert hydra_parser.parse_override(line).value() == text


def test_a_key_that_verls_yaml_does_not_spell_out_is_added_with_a_plus(make_recipe: MakeRecipe, tree: Any) -> None:
    lines = dry_run(make_recipe())[0]
    assert any(line.startswith("+pairwise.metrics_file=") for line in lines)
    assert any(line.startswith("trainer.nnodes=") for line in lines)


@pytest.mark.parametrize(
    ("section", "key"),
    [({"prompt": {"rubric": "pay ${price}"}}, "prompt"), ({"model": {"path": "${HOME}/m"}}, "model.path")],
)
def test_a_text_that_verl_would_look_up_is_refused(make_recipe: MakeRecipe, section: dict[str, Any], key: str) -> None:
    with pytest.raises(InputError, match=rf"^{key}: must not contain \$\{{"):
        dry_run(make_recipe(**section))


# ---- verl's own spelling -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("verl", "recipe_keys"),
    [
        ("trainer.total_epochs=1", ["train.epochs=1"]),
        ("+trainer.total_epochs=1", ["train.epochs=1"]),
        ("data.train_batch_size=8", ["train.batch_size=8"]),
        ("actor_rollout_ref.rollout.n=2", ["train.rollouts=2"]),
        ("actor_rollout_ref.model.lora_rank=8", ["model.lora.rank=8"]),
        ("trainer.logger=['console','wandb']", ["train.loggers=['console','wandb']"]),
        ("trainer.test_freq=-1", ["train.validate_every=null"]),
        ("data.val_max_samples=-1", ["train.validate_samples=null"]),
        ("actor_rollout_ref.actor.use_kl_loss=False", ["train.kl_loss=null"]),
        ("actor_rollout_ref.actor.use_kl_loss=True", []),
        ("data.filter_overlong_prompts=True", ["prompt.overlong=drop"]),
        ("data.train_files=a.parquet", ["data.files.train=a.parquet"]),
        ("reward.custom_reward_function.path=mine.py", ["reward.function.path=mine.py"]),
        ("actor_rollout_ref.rollout.top_p=0.9", ["train.verl.actor_rollout_ref.rollout.top_p=0.9"]),
        ("trainer.nnodes=a=b", ["train.nodes=a=b"]),
    ],
)
def test_verls_spelling_of_a_recipe_key_sets_the_recipe_key(
    make_recipe: MakeRecipe, verl: str, recipe_keys: list[str]
) -> None:
    assert to_recipe_overrides([verl], make_recipe()) == recipe_keys


def test_a_reference_is_asked_for_where_the_recipe_has_none(make_recipe: MakeRecipe) -> None:
    recipe = make_recipe(train={"kl_loss": None})
    assert to_recipe_overrides(["actor_rollout_ref.actor.use_kl_loss=True"], recipe) == ["train.kl_loss={}"]


def test_every_translated_key_is_a_key_of_the_recipe(make_recipe: MakeRecipe) -> None:
    recipe = make_recipe(model={"lora": {"rank": 8}}, reward={"function": {"path": "mine.py"}})
    folder = RunFolder.of(recipe)
    found = [recipe_key_for(setting.key, recipe, folder) for setting in resolve(recipe, folder)]
    assert len([key for key in found if key]) > 30
    for key in filter(None, found):
        value: Any = recipe
        for part in key.split("."):
            value = getattr(value, part)


# ---- the script of the RM-Gallery tutorial -------------------------------------------------------


@pytest.fixture
def script(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """run_pairwise.sh in an empty folder, with this Python's `pairwise-rm` on PATH."""
    import pairwise_rm.train

    path = Path(pairwise_rm.train.__file__).with_name("run_pairwise.sh")
    bin_folder = Path(sys.executable).parent
    if not (bin_folder / "pairwise-rm").exists():
        pytest.skip("pairwise-rm is not installed beside this Python")

    def run(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        plain = {key: value for key, value in os.environ.items() if key not in ("TRAIN_FILE", "VAL_FILE", "MODEL_PATH")}
        environment = {**plain, "PATH": f"{bin_folder}:{os.environ['PATH']}", **variables}
        command = ["bash", str(path), *arguments]
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)

    return run


def test_the_script_of_the_rm_gallery_tutorial_passes_its_variables_and_verl_overrides_on(
    script: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    done = script(
        "--dry-run",
        "trainer.total_epochs=3",
        "actor_rollout_ref.rollout.top_p=0.9",
        TRAIN_FILE="./my train.parquet",
        VAL_FILE="/data/val.parquet",
        MODEL_PATH="Qwen/Qwen2.5-14B",
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert f"data.train_files=['{tmp_path}/my train.parquet']" in lines
    assert "data.val_files=[/data/val.parquet]" in lines
    assert "actor_rollout_ref.model.path=Qwen/Qwen2.5-14B" in lines
    assert "trainer.total_epochs=3" in lines
    assert "actor_rollout_ref.rollout.top_p=0.9" in lines


def test_the_script_of_the_rm_gallery_tutorial_says_which_variable_is_missing(
    script: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    done = script("--dry-run")
    assert done.returncode == 2
    assert done.stderr == "error: MODEL_PATH is not set; expected your base model, a folder or a hub name\n"


def test_the_script_of_the_rm_gallery_tutorial_refuses_a_key_of_the_launcher(
    script: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    done = script("--dry-run", "trainer.default_local_dir=/elsewhere", MODEL_PATH="m")
    assert done.returncode == 2
    assert done.stderr.startswith("error: train.verl.trainer.default_local_dir: belongs to the launcher")
