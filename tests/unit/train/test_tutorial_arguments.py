"""Every argument that the RM-Gallery tutorial's training script gives to verl, through `run_pairwise.sh`.

Each is taken over by a recipe key, passed on to verl, no mistake because it says what happens anyway, or refused with
the key to set. The hyper-parameters are those of the tutorial.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

import pairwise_rm.train
from pairwise_rm.errors import InputError
from pairwise_rm.recipe.load import load_recipe
from pairwise_rm.train.verl_arguments import dry_run
from pairwise_rm.train.verl_settings import to_recipe_overrides

RECIPE = "qwen3-14b-8x80g"
EQUAL, PASSED = "equal", "passed on"

# What the argument becomes: a recipe key that takes it over, EQUAL, PASSED, or the end of the refusal.
ARGUMENTS = {
    "algorithm.adv_estimator=grpo": EQUAL,
    "data.train_files=./examples/data/exports/preference_train.parquet": "data.files.train",
    "data.val_files=./examples/data/exports/preference_test.parquet": "data.files.test",
    "data.train_batch_size=96": "train.batch_size",
    "data.val_batch_size=192": PASSED,
    "data.max_prompt_length=4096": "prompt.max_prompt_length",
    "data.max_response_length=2048": "prompt.max_response_length",
    "data.filter_overlong_prompts=True": "prompt.overlong",
    "data.truncation=right": "refused; set prompt.overlong in the recipe instead",
    "data.prompt_key=input": EQUAL,
    "data.pairwise_response_index=0": EQUAL,
    "data.custom_cls.path=./examples/train/pairwise/dataset.py": "refused; set prompt in the recipe instead",
    "data.custom_cls.name=HelpfulnessPairwiseTrainDataset": EQUAL,
    "reward_model.reward_manager=naive": EQUAL,
    "custom_reward_function.path=./examples/train/pairwise/reward_fn.py": "refused; set reward.function.path instead",
    "custom_reward_function.name=compute_score": EQUAL,
    "actor_rollout_ref.model.path=/path/to/your/base/model": "model.path",
    "actor_rollout_ref.actor.optim.lr=1e-6": "train.learning_rate",
    "actor_rollout_ref.model.use_remove_padding=True": "train.remove_padding",
    "actor_rollout_ref.actor.ppo_mini_batch_size=24": "train.mini_batch_size",
    "actor_rollout_ref.actor.ppo_micro_batch_size_per_gpu=1": "train.micro_batch_size_per_gpu",
    "actor_rollout_ref.actor.use_kl_loss=True": EQUAL,
    "actor_rollout_ref.actor.kl_loss_coef=0.001": "train.kl_loss.coef",
    "actor_rollout_ref.actor.kl_loss_type=low_var_kl": "train.kl_loss.type",
    "actor_rollout_ref.actor.entropy_coeff=0": "train.entropy_coeff",
    "actor_rollout_ref.model.enable_gradient_checkpointing=True": "train.gradient_checkpointing",
    "actor_rollout_ref.actor.fsdp_config.param_offload=False": "train.offload.params",
    "actor_rollout_ref.actor.fsdp_config.optimizer_offload=False": "train.offload.optimizer",
    "actor_rollout_ref.rollout.log_prob_micro_batch_size_per_gpu=1": "train.log_prob_micro_batch_size_per_gpu",
    "actor_rollout_ref.rollout.tensor_model_parallel_size=8": "train.tensor_parallel",
    "actor_rollout_ref.rollout.name=vllm": EQUAL,
    "actor_rollout_ref.rollout.gpu_memory_utilization=0.6": "train.gpu_memory_utilization",
    "actor_rollout_ref.rollout.n=4": "train.rollouts",
    "actor_rollout_ref.ref.log_prob_micro_batch_size_per_gpu=1": "train.log_prob_micro_batch_size_per_gpu",
    "actor_rollout_ref.ref.fsdp_config.param_offload=True": "train.offload.reference",
    "algorithm.use_kl_in_reward=False": PASSED,
    "trainer.critic_warmup=0": PASSED,
    "trainer.logger=['console','wandb']": "train.loggers",
    "trainer.project_name=helpsteer2_pairwise": "train.project",
    "trainer.experiment_name=rm-gallery-pairwise-1128T0842": "refused; set name in the recipe instead",
    "trainer.n_gpus_per_node=8": "train.gpus_per_node",
    "trainer.nnodes=1": "train.nodes",
    "trainer.save_freq=20": "train.save_every",
    "trainer.test_freq=2": "train.validate_every",
    "trainer.total_epochs=10": "train.epochs",
    "trainer.val_before_train=False": EQUAL,
    "trainer.default_local_dir=./checkpoints/pairwise/1128T0842": "refused; set output_dir in the recipe instead",
}
REFUSED = [argument for argument, becomes in ARGUMENTS.items() if becomes.startswith("refused")]


@pytest.fixture(scope="module", autouse=True)
def _verl() -> None:
    if importlib.util.find_spec("verl") is None:
        pytest.skip("needs verl")


@pytest.mark.parametrize("argument", ARGUMENTS)
def test_each_argument_of_the_tutorial_is_taken_over_or_equal_or_refused_with_the_key_to_set(argument: str) -> None:
    becomes = ARGUMENTS[argument]
    plain = load_recipe(RECIPE, ["data.files={train: a.parquet, test: b.parquet}"])
    overrides = to_recipe_overrides([argument], plain)
    recipe = load_recipe(RECIPE, ["data.files={train: a.parquet, test: b.parquet}", *overrides])
    if becomes.startswith("refused"):
        with pytest.raises(InputError) as caught:
            dry_run(recipe)
        assert str(caught.value).startswith(f"train.verl.{argument.partition('=')[0]}: ")
        assert str(caught.value).endswith(becomes.removeprefix("refused"))
    elif becomes == EQUAL:
        assert dry_run(recipe)[0] == dry_run(plain)[0]
    elif becomes == PASSED:
        assert argument.partition("=")[0] in {line.partition("=")[0] for line in dry_run(recipe)[0]}
        assert len(dry_run(recipe)[0]) == len(dry_run(plain)[0]) + 1
    else:
        assert [override.partition("=")[0] for override in overrides] == [becomes]


def _script(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    bin_folder = Path(sys.executable).parent
    if not (bin_folder / "pairwise-rm").exists():
        pytest.skip("pairwise-rm is not installed beside this Python")
    path = Path(pairwise_rm.train.__file__).with_name("run_pairwise.sh")
    environment = {**os.environ, "PATH": f"{bin_folder}:{os.environ['PATH']}", "MODEL_PATH": "Qwen/Qwen3-14B"}
    command = ["bash", str(path), "--dry-run", *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_the_whole_list_through_the_script_names_each_argument_that_is_refused_at_once(tmp_path: Path) -> None:
    done = _script(*ARGUMENTS, folder=tmp_path)
    assert done.returncode == 2
    assert done.stdout == ""
    keys = [argument.partition("=")[0] for argument in REFUSED]
    assert [line.split(": ")[:2] for line in done.stderr.splitlines()] == [
        ["error", f"train.verl.{key}"] for key in keys
    ]


def test_the_list_without_what_is_refused_gives_the_tutorials_training(tmp_path: Path) -> None:
    done = _script(*(argument for argument in ARGUMENTS if argument not in REFUSED), folder=tmp_path)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    for line in (
        "data.train_batch_size=96",
        "trainer.test_freq=2",
        "trainer.total_epochs=10",
        "trainer.logger=[console,wandb]",
    ):
        assert line in lines
    assert "actor_rollout_ref.model.path=/path/to/your/base/model" in lines
    assert f"data.train_files=[{tmp_path}/examples/data/exports/preference_train.parquet]" in lines
