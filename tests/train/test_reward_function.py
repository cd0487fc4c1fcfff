"""Two real steps with a reward of the recipe's own: three minutes; PAIRWISE_RM_SLOW=1 asks for it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.paths import REPO

pytestmark = pytest.mark.skipif(os.environ.get("PAIRWISE_RM_SLOW") != "1", reason="set PAIRWISE_RM_SLOW=1 to run it")

BY_LENGTH = """
def pay(data_source, solution_str, ground_truth, extra_info=None, **kwargs):
    return {"score": len(solution_str) / 100, "acc": 7, "label": ground_truth}
"""


def test_training_is_paid_by_the_recipes_own_function_and_measured_by_ours(tmp_path: Path) -> None:
    function = tmp_path / "by_length.py"
    function.write_text(BY_LENGTH)
    made = REPO / "models" / "smoke"
    model = made if (made / "made.json").is_file() else tmp_path / "model"
    options = [
        f"output_dir={tmp_path / 'run'}", f"model.path={model}", f"data.configs.path={model}/preference.jsonl",
        "train.steps=2", f"reward.function.path={function}", "reward.function.name=pay",
    ]  # fmt: skip
    environment = {key: value for key, value in os.environ.items() if key != "RAY_ADDRESS"}
    for stage in ("convert", "train"):
        command = [sys.executable, "-m", "pairwise_rm", stage, "smoke", *options]
        done = subprocess.run(command, env=environment, cwd=REPO, capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, done.stderr[-3000:]

    train = tmp_path / "run" / "train"
    metrics = [json.loads(line) for line in (train / "metrics.jsonl").read_text().splitlines()]
    rollouts = [json.loads(line) for line in (train / "rollouts" / "1.jsonl").read_text().splitlines()]
    assert [line["step"] for line in metrics] == [1, 2]
    assert all(rollout["score"] == pytest.approx(len(rollout["output"]) / 100) for rollout in rollouts)
    paid = sum(len(rollout["output"]) / 100 for rollout in rollouts) / len(rollouts)
    assert metrics[0]["reward/mean"] == pytest.approx(paid)
    assert metrics[0]["rollout/score"] == pytest.approx(paid)
    assert metrics[0]["critic/score/max"] > metrics[0]["critic/score/min"]
    assert 0 < metrics[0]["accuracy"] < 1 == metrics[0]["rollout/valid"]
    assert metrics[0]["rollout/custom/acc"] == 7

    record = json.loads((train / "reward_function.json").read_text())
    assert record["name"] == "pay"
    assert (train / "reward_function.py").read_text() == BY_LENGTH

    function.write_text(BY_LENGTH + "\n")
    command = [sys.executable, "-m", "pairwise_rm", "train", "smoke", *options]
    done = subprocess.run(command, env=environment, cwd=REPO, capture_output=True, text=True, timeout=600)
    assert done.returncode == 2
    assert "holds a run with another reward.function" in done.stderr
