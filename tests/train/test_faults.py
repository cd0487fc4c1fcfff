"""Faults of vLLM and of the reward in short real trainings; the worker and the rewards that fail are in the tests."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pairwise_rm import cpu
from pairwise_rm.errors import StageError
from pairwise_rm.recipe.load import load_recipe
from pairwise_rm.recipe.model import Recipe
from pairwise_rm.train.run import train
from tests.paths import REPO

PROMPTS, ROLLOUTS = 8, 4
# verl calls it in one process on a CPU, once for each rollout; the rows that are tried before training are in another.
REWARD = """
calls = 0

def pay(data_source, solution_str, ground_truth, extra_info=None, **kwargs):
    global calls
    calls += 1
    if {fails}:
        raise RuntimeError("the disk of the reward is full")
    return float(calls % 2)  # differs within each prompt, or nothing would be learnt
"""


def prepared(root: Path, reward: str, *options: str) -> Recipe:
    """The smoke recipe with few rollouts and its pairs converted."""
    made = REPO / "models" / "smoke"
    model = made if (made / "made.json").is_file() else root / "model"
    function = root / "reward_of_the_test.py"
    function.write_text(reward)
    given = [
        f"output_dir={root / 'run'}", f"model.path={model}", f"data.configs.path={model}/preference.jsonl",
        f"train.batch_size={PROMPTS}", f"train.mini_batch_size={PROMPTS}", f"train.rollouts={ROLLOUTS}",
        f"reward.function.path={function}", "reward.function.name=pay", "train.steps=3", "train.save_every=1",
        "train.micro_batch_size_per_gpu=32", "train.log_prob_micro_batch_size_per_gpu=32", "train.kl_loss=null",
        "train.stall_timeout=1800", *options,
    ]  # fmt: skip
    command = [sys.executable, "-m", "pairwise_rm", "convert", "smoke", *given]
    done = subprocess.run(command, cwd=REPO, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    return load_recipe("smoke", given)


def metrics_of(root: Path) -> list[dict[str, Any]]:
    path = root / "run" / "train" / "metrics.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []


@pytest.fixture(autouse=True)
def _tests_are_importable_in_every_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(REPO), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)


def test_in_bfloat16_a_sync_that_does_nothing_is_caught_at_its_step_and_a_rollout_lost_once_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cpu, "WORKER_EXTENSION", "tests.train.stuck_worker.StuckWorkerExtension")
    # Numbers with which the probabilities say nothing: an update is hardly above what bfloat16 can tell.
    recipe = prepared(
        tmp_path, REWARD.format(fails="calls == 5"),
        "model.dtype=bfloat16", "train.learning_rate=1e-6", "train.max_probs_diff=0.8",
        "train.max_probs_diff_mean=0.1", "train.min_probs_correlation=0.5",
    )  # fmt: skip
    with pytest.raises(StageError, match="other weights than the trainer's") as caught:
        train(recipe)
    assert "step 2: after the weight sync vLLM replica 0 has the sums" in str(caught.value)

    (first,) = metrics_of(tmp_path)
    assert first["training/prompts_rolled_out_again"] == 1
    assert first["training/weights_compared"] > 0
    rollouts = (tmp_path / "run" / "train" / "rollouts" / "1.jsonl").read_text().splitlines()
    assert len(rollouts) == PROMPTS * ROLLOUTS
    assert len({json.loads(line)["input"] for line in rollouts}) == PROMPTS
    log = (tmp_path / "run" / "train" / "train.log").read_text()
    assert re.search(r"warning: step 1: rollouts of 1 of 8 prompts failed: RuntimeError: the disk of the reward", log)


@pytest.mark.skipif(os.environ.get("PAIRWISE_RM_SLOW") != "1", reason="set PAIRWISE_RM_SLOW=1 to run it")
def test_a_step_whose_reward_fails_twice_is_refused_before_its_update_with_the_rewards_own_error(
    tmp_path: Path,
) -> None:
    recipe = prepared(tmp_path, REWARD.format(fails=f"calls > {PROMPTS * ROLLOUTS + 8}"))
    with pytest.raises(StageError, match="RuntimeError: the disk of the reward is full") as caught:
        train(recipe)
    assert re.search(r"step 2: rollouts of \d of 8 prompts failed, and again when these were rolled", str(caught.value))
    assert str(caught.value).partition(" (see ")[0].endswith("nothing was updated from this step")
    assert [line["step"] for line in metrics_of(tmp_path)] == [1]
    folders = [path.name for path in (tmp_path / "run" / "train" / "checkpoints").glob("global_step_*")]
    assert folders == ["global_step_1"]
    log = (tmp_path / "run" / "train" / "train.log").read_text()
    # Once for those that were lost at the same time, and never twice for one.
    assert 1 <= log.count("these prompts are rolled out once more") <= PROMPTS
