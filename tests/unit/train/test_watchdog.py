"""Following the driver: the cause out of its log, its phases, its steps, and its end with all it started."""

from __future__ import annotations

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
from pairwise_rm.train.metrics_file import append_step
from pairwise_rm.train.watchdog import DriverProgress, _cause, _ended, _Follower, run_driver
from tests.unit.processes import alive, gone, linux

# As Ray and verl print them.
RAY_HEAD = "2026-11-23 16:22:37,412 INFO worker.py:1998 -- Started a local Ray instance."
ACTOR = "(TaskRunner pid=4711) "
STALE = "training/rollout_probs_diff_max is 0.91, above train.max_probs_diff 0.01"
OURS = f"""\
{RAY_HEAD}
{ACTOR}Traceback (most recent call last):
{ACTOR}  File "/x/verl/trainer/main_ppo.py", line 12, in run
{ACTOR}    trainer.fit()
Error executing job with overrides: []
ray.exceptions.RayTaskError(StageError): {ACTOR.strip().replace("(", "ray::").replace(")", "")}
  File "/x/pairwise_rm/train/verl_trainer.py", line 33, in _compute_old_log_prob
pairwise_rm.errors.StageError: {STALE}
"""
MEMORY = """\
Traceback (most recent call last):
  File "/x/torch/nn/modules/linear.py", line 125, in forward
torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.
ray.exceptions.RayTaskError(OutOfMemoryError): ray::WorkerDict.update_actor()
ray.exceptions.ActorDiedError: The actor died unexpectedly before finishing this task.
"""
DEAD = "ray.exceptions.ActorDiedError: The actor died unexpectedly before finishing this task.\n"
EMPTY = "pairwise_rm.errors.InputError: a.parquet: num_samples=0, every row was dropped: 8 x prompt_too_long\n"


@pytest.mark.parametrize(
    ("log", "cause"),
    [
        (OURS, STALE),
        (MEMORY, "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB."),
        (DEAD, DEAD.strip()),
        (EMPTY + MEMORY, "a.parquet: num_samples=0, every row was dropped: 8 x prompt_too_long"),
        (ACTOR + "ValueError: ground truth must be A, B or tie, got None\n", "ValueError: ground truth must be"),
        ("KeyError: 'messages'\nRuntimeError: later\n", "RuntimeError: later"),
        ("all went well\nWARNING: an Error: in a sentence\n", "verl ended with exit code 7"),
        ("", "verl ended with exit code 7"),
    ],
)
def test_the_cause_of_a_failure_is_one_line_of_the_log(tmp_path: Path, log: str, cause: str) -> None:
    path = tmp_path / "train.log"
    path.write_text(log)
    line = _cause(path, 0, 7)
    assert line.startswith(f"training failed: {cause}")
    assert line.endswith(f"(see {path})")
    assert "\n" not in line


def test_the_cause_is_looked_for_in_this_run_alone(tmp_path: Path) -> None:
    path = tmp_path / "train.log"
    path.write_text("ValueError: of yesterday\n")
    assert "exit code 3" in _cause(path, path.stat().st_size, 3)


@pytest.fixture
def told(tmp_path: Path) -> tuple[list[DriverProgress], _Follower, Path, Path]:
    log, metrics = tmp_path / "train.log", tmp_path / "metrics.jsonl"
    log.write_text("yesterday: all initialize finished\n")
    found: list[DriverProgress] = []
    return found, _Follower(log, log.stat().st_size, metrics, 3, 9, found.append), log, metrics


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


def test_silence_is_what_neither_the_log_nor_a_step_breaks(
    told: tuple[list[DriverProgress], _Follower, Path, Path],
) -> None:
    _, follower, log, metrics = told
    speaking: list[Callable[[], object]] = [lambda: write(log, "x"), lambda: append_step(metrics, 3, {})]
    for speak in speaking:
        follower.heard -= 100
        follower.look()
        assert follower.silent_for() > 99
        speak()
        follower.look()
        assert follower.silent_for() < 50


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


@linux
def test_a_termination_signal_ends_the_driver_too() -> None:
    process, child = start(60)
    before = signal.getsignal(signal.SIGTERM)

    def terminate() -> None:
        with _ended(process):
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(5)

    with pytest.raises(KeyboardInterrupt):
        terminate()
    assert gone(child)
    assert signal.getsignal(signal.SIGTERM) is before


# ---- the whole of it, with a stand-in for verl's process: the one seam here -----------------------


def drive(tmp_path: Path, script: str, stall_timeout: int = 60) -> list[DriverProgress]:
    """Runs `script` where the driver stands; its argument is the launch file, beside which the metrics are."""
    recipe = load_recipe("smoke", [f"output_dir={tmp_path}"])
    train = recipe.train.model_copy(update={"stall_timeout": stall_timeout})
    folder = RunFolder.of(recipe)
    folder.train.mkdir(parents=True)
    told: list[DriverProgress] = []
    run_driver(
        recipe.model_copy(update={"train": train}), folder, os.environ, 1, 2, told.append,
        driver=(sys.executable, "-c", script),
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
    with pytest.raises(StageError, match="said nothing for 2 s"):
        drive(tmp_path, script, stall_timeout=2)
    child = int((tmp_path / "train" / "child").read_text())
    assert gone(child)
