"""Attempts one after the other. A script stands in for verl's process, the one seam here."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from pairwise_rm.errors import StageError
from pairwise_rm.progress import Retry
from pairwise_rm.recipe.load import load_recipe
from pairwise_rm.run_folder import RunFolder
from pairwise_rm.train import checkpoints, metrics_file, preemption, supervisor, watchdog
from pairwise_rm.train.attempt_processes import MARK, pids_of
from pairwise_rm.train.attempts import read_attempts
from pairwise_rm.train.supervisor import Hooks, Supervisor
from tests.unit.processes import linux

STEPS = """
import json, os, pathlib, signal, sys, time
from pairwise_rm.train import checkpoints
from pairwise_rm.train.metrics_file import append_step

train = pathlib.Path(sys.argv[1]).parent
after = int((train / "after").read_text())
attempt = len((train / "attempts.jsonl").read_text().splitlines())

def step(number, save=False):
    append_step(train / "metrics.jsonl", number, {"accuracy": 0.5})
    if save:
        folder = train / "checkpoints" / f"global_step_{number}"
        folder.mkdir(parents=True)
        (folder / "weights.bin").write_bytes(bytes(100))
        checkpoints.seal(folder)
        checkpoints.seal_with_checksums(folder)
"""
LOST = "sys.exit('RuntimeError: [gloo] Connection closed by peer')"


class Stage:
    """A run of four steps whose driver is a script; `told` are the retries that the user hears of."""

    def __init__(self, tmp_path: Path, restarts: int = 10) -> None:
        recipe = load_recipe("smoke", [f"output_dir={tmp_path}"])
        self.recipe = recipe.model_copy(update={"train": recipe.train.model_copy(update={"restarts": restarts})})
        self.folder = RunFolder.of(self.recipe)
        self.folder.train.mkdir()
        self.told: list[Retry] = []
        self.asked_for_gpus = 0
        self.marks: list[str] = []
        self.warned: list[str] = []

    def run(self) -> Path:
        def prepare(start: Path | None, mark: str) -> Mapping[str, str]:
            after = checkpoints.step_of(start) if start else 0
            metrics_file.drop_after(self.folder.metrics, after)
            (self.folder.train / "after").write_text(str(after))
            self.marks.append(mark)
            return {**os.environ, MARK: mark}

        def acquire() -> None:
            self.asked_for_gpus += 1

        hooks = Hooks(prepare, acquire=acquire, warn=self.warned.append, tell=self.told.append)
        return Supervisor(self.recipe, self.folder, 4, hooks).run(None)

    @property
    def steps(self) -> list[int]:
        return [line["step"] for line in metrics_file.read_steps(self.folder.metrics)]


class Told(list[Retry]):
    """Calls a function with the first retry that is told."""

    def __init__(self, first: Callable[[], object]) -> None:
        super().__init__()
        self._first = first

    def append(self, retry: Retry) -> None:
        super().append(retry)
        self._first()


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Stage]:
    def make(script: str, restarts: int = 10) -> Stage:
        drive = watchdog.run_driver

        def run_driver(*args: object, **options: object) -> None:
            drive(*args, **options, driver=(sys.executable, "-c", STEPS + script))  # type: ignore[arg-type,misc]

        monkeypatch.setattr(supervisor, "run_driver", run_driver)
        monkeypatch.setattr("pairwise_rm.train.attempts.FIRST_PAUSE", 0.01)
        return Stage(tmp_path, restarts)

    return make


def test_a_lost_worker_costs_the_steps_since_the_last_checkpoint_and_nothing_else(stage: Callable[..., Stage]) -> None:
    ours = stage(f"""
if attempt == 1:
    step(1); step(2, save=True); step(3)
    {LOST}
step(after + 1); step(after + 2, save=True)
""")
    assert ours.run().name == "global_step_4"
    assert ours.steps == [1, 2, 3, 4]
    first, second = read_attempts(ours.folder.train / "attempts.jsonl")
    assert (first.after, first.reached, first.checkpoint, first.outcome, first.retried) == (0, 3, 2, "failed", True)
    assert (second.after, second.reached, second.outcome) == (2, 4, "done")
    (retry,) = ours.told
    assert (retry.attempt, retry.left, retry.step) == (2, 9, 2)
    assert retry.reason == "RuntimeError: [gloo] Connection closed by peer"
    assert ours.asked_for_gpus == 2, "the node that had the GPUs may be gone"


def test_a_run_that_gets_nowhere_is_given_up_with_the_cause_and_the_count(stage: Callable[..., Stage]) -> None:
    ours = stage(LOST, restarts=2)
    with pytest.raises(StageError, match=r"\[gloo\] Connection closed by peer .*; 2 restarts without a new checkpoint"):
        ours.run()
    assert [retry.left for retry in ours.told] == [1, 0]
    assert [one.retried for one in read_attempts(ours.folder.train / "attempts.jsonl")] == [True, True, False]


def test_what_was_asked_to_end_is_not_tried_again_when_it_fails_before_it_could(stage: Callable[..., Stage]) -> None:
    ours = stage(f"step(1); step(2, save=True); (train / 'save_and_end').touch(); {LOST}")
    with pytest.raises(
        StageError, match=r"closed by peer .*; asked to save and end, so it is not tried again; the same"
    ):
        ours.run()
    assert ours.told == []


def test_a_training_that_is_asked_to_end_between_two_attempts_ends(
    stage: Callable[..., Stage], monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = stage(f"step(1); step(2, save=True); {LOST}")
    monkeypatch.setattr("pairwise_rm.train.attempts.FIRST_PAUSE", 60.0)
    asking = threading.Timer(0.5, preemption.ask, [ours.folder.train])
    monkeypatch.setattr(ours, "told", Told(asking.start))
    with pytest.raises(StageError, match="asked to save and end between two attempts; the same command goes on after"):
        ours.run()
    assert read_attempts(ours.folder.train / "attempts.jsonl")[-1].retried


def test_an_error_that_the_next_attempt_would_meet_again_is_told_at_once(stage: Callable[..., Stage]) -> None:
    ours = stage("sys.exit('pairwise_rm.errors.InputError: a.parquet: every row was dropped')")
    with pytest.raises(StageError, match=r"a\.parquet: every row was dropped .*; trying again cannot mend this"):
        ours.run()
    assert ours.told == []


def test_a_checkpoint_that_is_damaged_is_not_what_the_next_attempt_begins_from(stage: Callable[..., Stage]) -> None:
    ours = stage(f"""
if attempt == 1:
    step(1, save=True); step(2, save=True)
    (train / "checkpoints" / "global_step_2" / "weights.bin").write_bytes(bytes(99))
    {LOST}
step(2); step(3); step(4, save=True)
""")
    ours.run()
    assert [one.after for one in read_attempts(ours.folder.train / "attempts.jsonl")] == [0, 1]
    assert (ours.folder.checkpoints / "global_step_2.damaged").is_dir()
    assert ours.steps == [1, 2, 3, 4]


@linux
def test_nothing_of_an_attempt_runs_on_beside_the_next_one(stage: Callable[..., Stage]) -> None:
    # Its own session, as Ray gives its processes one: the end of the driver's group does not reach it.
    ours = stage(f"""
import subprocess
if attempt == 1:
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
    {LOST}
step(4, save=True)
""")
    ours.run()
    assert pids_of(ours.marks[0]) == []


def test_a_driver_that_ends_well_without_the_last_checkpoint_is_no_success(stage: Callable[..., Stage]) -> None:
    ours = stage("step(1)")
    with pytest.raises(StageError, match="verl ended without a checkpoint of step 4"):
        ours.run()


def test_a_killed_supervisor_leaves_an_attempt_that_the_next_call_ends(stage: Callable[..., Stage]) -> None:
    ours = stage("step(4, save=True)")
    (ours.folder.train / "attempts.jsonl").write_text('{"attempt": 1, "began": 1.0, "after": 0}\n')
    ours.run()
    assert [one.outcome for one in read_attempts(ours.folder.train / "attempts.jsonl")] == ["killed", "done"]


@linux
def test_a_training_that_is_stopped_says_where_it_goes_on(stage: Callable[..., Stage]) -> None:
    ours = stage("step(1); step(2, save=True); os.kill(os.getppid(), signal.SIGTERM); time.sleep(1)")
    with pytest.raises(KeyboardInterrupt):
        ours.run()
    assert ours.warned == ["stopped; the same command goes on after step 2"]
    (only,) = read_attempts(ours.folder.train / "attempts.jsonl")
    assert (only.outcome, only.reached, only.checkpoint) == ("stopped", 2, 2)
