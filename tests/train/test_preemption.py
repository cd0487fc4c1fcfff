"""A training that is told to end in mid-run, twice: with time for the running step, and without.

The second attempt resumes from what the first one saved. What they leave is compared with what a save at the end of the
same step leaves. Five minutes; PAIRWISE_RM_SLOW=1 asks for it.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from pairwise_rm.train import checkpoints, preemption
from tests.paths import REPO
from tests.train.conftest import Run

pytestmark = pytest.mark.skipif(os.environ.get("PAIRWISE_RM_SLOW") != "1", reason="set PAIRWISE_RM_SLOW=1 to run it")
MARGIN = 2


@dataclass
class Attempt:
    code: int
    output: str
    log: str
    saved: list[Path]
    steps: list[int]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    root = tmp_path_factory.mktemp("preempted")
    model = REPO / "models" / "smoke" if (REPO / "models" / "smoke" / "made.json").is_file() else root / "model"
    options = [
        f"output_dir={root}", f"model.path={model}", f"data.configs.path={model}/preference.jsonl",
        "train.steps=40", "train.save_every=30", f"train.preemption_margin={MARGIN}",
    ]  # fmt: skip
    environment = {key: value for key, value in os.environ.items() if key != "RAY_ADDRESS"}
    this = Run(root, options, environment)
    this.run("convert", "smoke")
    return this


@pytest.fixture(scope="module")
def in_time(run: Run) -> Attempt:
    """Asked without a deadline after the first step."""
    return attempt(run, 1, lambda _: None)


@pytest.fixture(scope="module")
def too_late(run: Run, in_time: Attempt) -> Attempt:
    """Asked two steps later, with less time than the shortest step takes."""
    return attempt(run, in_time.steps[-1] + 2, lambda seconds: time.time() + MARGIN + 0.4 * seconds)


def attempt(run: Run, step: int, deadline: Any) -> Attempt:
    """Trains, and asks for the end as soon as `step` is done."""
    train, output = run.root / "train", run.root / f"asked_after_{step}.log"
    log = train / "train.log"
    begin = log.stat().st_size if log.exists() else 0
    with open(output, "w") as handle:
        process = subprocess.Popen(
            run.command("train", "smoke", *run.options), env=run.environment, cwd=REPO, stdout=handle, stderr=handle
        )
    try:
        end = time.monotonic() + 1200
        while not run.metrics or run.metrics[-1]["step"] < step:
            assert process.poll() is None, output.read_text()
            assert time.monotonic() < end, f"step {step} did not come in 20 minutes"
            time.sleep(0.1)
        preemption.ask(train, deadline(min(line["timing_s/step"] for line in run.metrics)))
        code = process.wait(900)
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait(60)
    saved = checkpoints.sealed(train / "checkpoints")
    steps = [int(line["step"]) for line in run.metrics]
    return Attempt(code, output.read_text(), log.read_bytes()[begin:].decode(), saved, steps)


def batches_drawn(checkpoint: Path) -> int:
    """How many batches the data loader had given when the checkpoint was made."""
    return int(torch.load(checkpoint / "data.pt", weights_only=False)["_num_yielded"])


def updates(checkpoint: Path) -> set[int]:
    state = torch.load(checkpoint / "actor" / "optim_world_size_1_rank_0.pt", map_location="cpu", weights_only=False)
    return {int(moments["step"]) for moments in state["state"].values()}


def assert_is_whole(checkpoint: Path, step: int) -> None:
    checkpoints.check(checkpoint)
    assert json.loads((checkpoint / "checkpoint.json").read_text())["crc32"], "it was read back"
    assert (checkpoint.parents[1] / "latest").resolve() == checkpoint.resolve()
    assert (batches_drawn(checkpoint), updates(checkpoint)) == (step, {step * 32 // 16})
    assert {"reward/mean", "accuracy", "rollout/valid"} <= set(json.loads((checkpoint / "metrics.json").read_text()))


def test_the_running_step_is_saved_and_the_attempt_ends_as_preempted(run: Run, in_time: Attempt) -> None:
    (checkpoint,) = in_time.saved
    step = checkpoints.step_of(checkpoint)
    said = f"step {step}: asked to save and end; saved"
    assert (in_time.code, f"pairwise_rm.errors.Preempted: {said}\n" in in_time.log) == (1, True)
    assert said in in_time.output
    assert_is_whole(checkpoint, step)


def test_the_saved_step_has_its_metrics_and_its_rollouts(run: Run, in_time: Attempt) -> None:
    assert in_time.steps == list(range(1, checkpoints.step_of(in_time.saved[-1]) + 1))
    assert run.prompts_of_step(in_time.steps[-1])


def test_a_step_that_cannot_end_in_time_is_dropped_and_the_one_before_it_saved(
    in_time: Attempt, too_late: Attempt
) -> None:
    step = checkpoints.step_of(too_late.saved[-1])
    assert step >= in_time.steps[-1] + 2
    assert too_late.code == 1
    assert f"pairwise_rm.errors.Preempted: step {step + 1}: asked to save and end (" in too_late.log
    assert f"this step would not end in time, step {step} is saved\n" in too_late.log
    assert_is_whole(too_late.saved[-1], step)


def test_both_attempts_hold_each_step_once_and_the_second_forgets_what_the_first_was_asked(
    in_time: Attempt, too_late: Attempt
) -> None:
    assert f"resumed after step {in_time.steps[-1]}" in too_late.output or too_late.steps[-1] > in_time.steps[-1]
    assert too_late.steps == list(range(1, checkpoints.step_of(too_late.saved[-1]) + 1))
