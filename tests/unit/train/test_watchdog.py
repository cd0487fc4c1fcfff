"""Following the driver: its phases, its steps, how long it may be silent, and its end with all it started."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pairwise_rm.errors import StageError
from pairwise_rm.recipe.load import load_recipe
from pairwise_rm.run_folder import RunFolder
from pairwise_rm.train.attempt_processes import MARK
from pairwise_rm.train.metrics_file import append_step
from pairwise_rm.train.phases import PHASE_FILE
from pairwise_rm.train.watchdog import DriverFailed, DriverProgress, PhaseClock, _ended, _Follower, run_driver
from tests.unit.processes import alive, gone, linux

RAY_HEAD = "2026-11-23 16:22:37,412 INFO worker.py:1998 -- Started a local Ray instance."
ACTOR = "(TaskRunner pid=4711) "


@pytest.fixture
def told(tmp_path: Path) -> tuple[list[DriverProgress], _Follower, Path, Path]:
    folder = RunFolder.of(load_recipe("smoke", [f"output_dir={tmp_path}"]))
    folder.train.mkdir()
    log = folder.train / "train.log"
    log.write_text("yesterday: all initialize finished\n")
    found: list[DriverProgress] = []
    return found, _Follower(log, log.stat().st_size, folder, 3, 9, found.append, 600), log, folder.metrics


def write(log: Path, text: str) -> None:
    with open(log, "a") as handle:
        handle.write(text)


def test_the_phases_are_told_in_order_and_once_each(told: tuple[list[DriverProgress], _Follower, Path, Path]) -> None:
    found, follower, log, _ = told
    follower.look()
    write(log, f"{RAY_HEAD}\n")
    follower.look()
    write(
        log,
        f"{ACTOR}preference_train.parquet: 96 samples, dropped: none\n"
        f"{ACTOR}preference_test.parquet: 8 samples, dropped: none\n",
    )
    follower.look()
    write(log, f"{ACTOR}actor and ref model engine initialized\n{ACTOR}all initialize finished\n")
    follower.look()
    write(log, "Training Progress:   0%|")
    follower.look()
    follower.look()
    phases = [
        "starting Ray",
        "Ray is up",
        "data loaded",
        "actor and reference loaded",
        "vLLM loaded, ready to roll out",
    ]
    assert [progress.phase for progress in found] == [*phases, "first step"]
    assert {(progress.step, progress.last, progress.metrics) for progress in found} == {(2, 9, None)}
    assert follower.where() == "step 2"


def test_each_new_step_is_told_once_with_its_metrics(told: tuple[list[DriverProgress], _Follower, Path, Path]) -> None:
    found, follower, _, metrics = told
    for step in (1, 2, 3, 4):
        append_step(metrics, step, {"accuracy": step / 10})
    follower.look()
    follower.look()
    append_step(metrics, 5, {"accuracy": 0.5})
    with open(metrics, "a") as handle:
        handle.write('{"step": 6, "acc')
    follower.look()
    steps = [(progress.step, progress.metrics["accuracy"]) for progress in found if progress.metrics]
    assert steps == [(3, 0.3), (4, 0.4), (5, 0.5)]


def enter(metrics: Path, step: int, phase: str, done: int = 0) -> None:
    (metrics.parent / PHASE_FILE).write_text(
        json.dumps({"step": step, "phase": phase, "done": done, "of": 32 if done else 0})
    )


def test_silence_is_what_a_step_a_phase_and_a_prompts_rollouts_break_and_the_log_does_not(
    told: tuple[list[DriverProgress], _Follower, Path, Path],
) -> None:
    _, follower, log, metrics = told
    speaking: list[Callable[[], object]] = [
        lambda: append_step(metrics, 3, {}),
        lambda: enter(metrics, 4, "rollouts"),
        lambda: enter(metrics, 4, "rollouts", done=3),
        lambda: write(log, f"{ACTOR}all initialize finished\n"),
    ]
    for speak in speaking:
        follower.heard -= 100
        follower.look()
        write(log, "pending: 0, running: 7, finished: 25, failure: 0\n")  # verl, once a minute
        follower.look()
        assert follower.silent_for() > 99
        speak()
        follower.look()
        assert follower.silent_for() < 50


# ---- how long a phase may be silent ----------------------------------------------------------------


def test_a_phase_that_was_not_gone_through_before_may_take_the_longest_time() -> None:
    clock = PhaseClock(3600)
    assert clock.bound() == (3600, "train.stall_timeout")
    clock.enter("rollouts", 0)
    assert clock.bound()[0] == 3600
    clock.enter("update", 50)
    assert clock.bound()[0] == 3600, "how long rollouts take says nothing of updates"


def test_a_phase_may_take_five_times_as_long_as_the_slowest_of_its_last_ones() -> None:
    clock = PhaseClock(3600)
    at = 0.0
    for seconds in (900, 60, 50, 40, 30, 45):
        clock.enter("rollouts", at)
        clock.enter("rollouts", at + 1)  # more of it, not another one
        at += seconds
        clock.enter("update", at)
        at += 10
    clock.enter("rollouts", at)
    assert clock.bound() == (300, "its slowest of late took 1 min 00 s"), "the first of six no longer counts"


@pytest.mark.parametrize(("seconds", "bound"), [(2, 120), (3000, 3600)])
def test_the_bound_is_never_shorter_than_two_minutes_nor_longer_than_the_recipe_allows(
    seconds: float, bound: float
) -> None:
    clock = PhaseClock(3600)
    clock.enter("update", 0)
    clock.enter("rollouts", seconds)
    clock.enter("update", seconds + 1)
    assert clock.bound()[0] == bound


PARENT = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
print(child.pid, flush=True)
time.sleep({seconds})
"""


def start(seconds: float) -> tuple[subprocess.Popen[bytes], int]:
    process = subprocess.Popen(
        [sys.executable, "-c", PARENT.format(seconds=seconds)], stdout=subprocess.PIPE, start_new_session=True
    )
    assert process.stdout
    return process, int(process.stdout.readline())


@linux
def test_an_error_ends_the_driver_and_what_it_started() -> None:
    process, child = start(60)

    def fail() -> None:
        with _ended(process):
            assert alive(child)
            raise RuntimeError("hung")

    with pytest.raises(RuntimeError, match="hung"):
        fail()
    assert process.returncode == -signal.SIGTERM
    assert gone(child)


@linux
def test_a_driver_that_ends_by_itself_leaves_nothing_behind() -> None:
    process, child = start(0)
    with _ended(process):
        process.wait(10)
        assert alive(child)
    assert process.returncode == 0
    assert gone(child)


# ---- the whole of it, with a stand-in for verl's process: the one seam here -----------------------


def drive(tmp_path: Path, script: str, **options: float) -> list[DriverProgress]:
    """Runs `script` where the driver stands; its argument is the launch file, beside which the metrics are."""
    recipe = load_recipe("smoke", [f"output_dir={tmp_path}"])
    train = recipe.train.model_copy(update=options)
    folder = RunFolder.of(recipe)
    folder.train.mkdir(parents=True)
    told: list[DriverProgress] = []
    run_driver(
        recipe.model_copy(update={"train": train}), folder, {**os.environ, MARK: "a1"}, 1, 2, told.append,
        driver=(sys.executable, "-c", script), attempt="a1",
    )  # fmt: skip
    return told


def test_each_step_of_the_driver_is_told_once(tmp_path: Path) -> None:
    script = (
        "import sys, pathlib; from pairwise_rm.train.metrics_file import append_step;"
        "path = pathlib.Path(sys.argv[1]).parent / 'metrics.jsonl';"
        "[append_step(path, step, {'accuracy': step / 2}) for step in (1, 2)]"
    )
    steps = [progress.metrics for progress in drive(tmp_path, script) if progress.metrics]
    assert [(step["step"], step["accuracy"]) for step in steps] == [(1, 0.5), (2, 1.0)]


def test_a_driver_that_fails_is_told_by_its_cause_and_its_log(tmp_path: Path) -> None:
    with pytest.raises(StageError, match=r"training failed: ValueError: no reward .*train\.log"):
        drive(tmp_path, "raise ValueError('no reward')")


@linux
def test_a_driver_that_falls_silent_is_ended_with_its_children(tmp_path: Path) -> None:
    script = (
        "import subprocess, sys, time, pathlib;"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)']);"
        "(pathlib.Path(sys.argv[1]).parent / 'child').write_text(str(child.pid)); time.sleep(600)"
    )
    with pytest.raises(DriverFailed, match=r"nothing came of training for 2 s \(train.stall_timeout\)") as raised:
        drive(tmp_path, script, stall_timeout=2)
    assert raised.value.failure.kind == "hung"
    child = int((tmp_path / "train" / "child").read_text())
    assert gone(child)
    stacks = (tmp_path / "train" / "stacks" / "a1.txt").read_text()
    assert "time.sleep" not in stacks.splitlines()[0]
    assert stacks.count("== process ") == 2
    assert "<module> (<string>:1)" in stacks, "py-spy shows where the driver stands"


@linux
def test_a_driver_that_is_told_to_stop_is_asked_to_save_and_has_its_time_for_it(tmp_path: Path) -> None:
    script = (
        "import os, signal, sys, time, pathlib;"
        "train = pathlib.Path(sys.argv[1]).parent; os.kill(os.getppid(), signal.SIGTERM);\n"
        "while not (train / 'save_and_end').exists(): time.sleep(0.05)\n"
        "(train / 'saved').touch()"
    )
    with pytest.raises(KeyboardInterrupt):
        drive(tmp_path, script)
    assert (tmp_path / "train" / "saved").exists()


@linux
def test_a_termination_signal_ends_the_driver_and_what_it_started(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGTERM)
    script = (
        "import os, pathlib, signal, subprocess, sys, time;"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)']);"
        "(pathlib.Path(sys.argv[1]).parent / 'child').write_text(str(child.pid));"
        "os.kill(os.getppid(), signal.SIGTERM); time.sleep(600)"
    )
    with pytest.raises(KeyboardInterrupt):
        drive(tmp_path, script, stop_grace=0)
    assert gone(int((tmp_path / "train" / "child").read_text()))
    assert not (tmp_path / "train" / "save_and_end").exists(), "there is no time for it"
    assert signal.getsignal(signal.SIGTERM) is before


@linux
def test_a_driver_that_does_not_save_in_time_is_ended(tmp_path: Path) -> None:
    script = "import os, signal, time; os.kill(os.getppid(), signal.SIGTERM); time.sleep(600)"
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        drive(tmp_path, script, stop_grace=1)
    assert time.monotonic() - began < 30
