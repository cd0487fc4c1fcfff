"""A stage's lines are read back as they were written, by the printing side itself where it is in reach."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from pairwise_rm.cli import console as console_module
from pairwise_rm.cli.console import Stage
from pairwise_rm.cli.steps import _Steps
from pairwise_rm.cluster.input_wait import Pace
from pairwise_rm.progress import (
    CountLine,
    NoteLine,
    StepLine,
    WaitingLine,
    duration,
    failure,
    newest,
    seconds_of,
)
from pairwise_rm.train.watchdog import Progress

STEP = StepLine(3, 20, 0.412, 0.5, 0.98, 0.0012, 9.1, 160.0)
share = st.floats(0, 1, allow_nan=False)


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """What a stage prints where there is no terminal."""
    written = io.StringIO()
    monkeypatch.setattr(console_module, "console", Console(file=written, highlight=False, soft_wrap=True))
    return written


def test_a_step_is_written_as_the_contract_says() -> None:
    assert str(STEP) == ("step 3/20  reward 0.412  accuracy 0.500  valid 0.980  kl 0.0012  9.1 s  2 min 40 s left")


@given(st.integers(1, 10**6), st.floats(-9, 9), share, share, st.none() | st.floats(-1, 9), st.floats(0, 1e6))
def test_a_step_that_was_read_is_written_the_same(
    step: int, reward: float, accuracy: float, valid: float, kl: float | None, left: float
) -> None:
    written = str(StepLine(step, 10**6, reward, accuracy, valid, kl, 9.1, left))
    read = StepLine.parse(written)
    assert read is not None
    assert str(read) == written


@given(st.floats(0, 1e7))
def test_a_duration_is_read_to_the_precision_that_was_written(seconds: float) -> None:
    assert duration(seconds_of(duration(seconds))) == duration(seconds)


def test_a_step_without_numbers_is_still_a_step() -> None:
    line = StepLine.parse(str(StepLine(1, 2, float("nan"), 0, 0, float("nan"), 1, 1)))
    assert line is not None
    assert line.step == 1


def test_what_the_training_prints_is_read(log: io.StringIO) -> None:
    metrics = {
        "time": 100.0,
        "timing_s/step": 9.1,
        "reward/mean": 0.412,
        "accuracy": 0.5,
        "rollout/valid": 0.98,
        "kl_loss": 0.0012,
    }
    with Stage("train", "model -> folder") as stage:
        _Steps(stage)(Progress(3, 20, "", metrics))
    found = newest(log.getvalue().splitlines())
    assert found is not None
    assert found.line == StepLine(3, 20, 0.412, 0.5, 0.98, 0.0012, 9.1, seconds_of(duration(9.1 * 17)))


def test_what_a_counting_stage_prints_is_read(log: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console_module, "QUIET_SECONDS", 0.0)
    with Stage("evaluate") as stage:
        stage.count("judged", 1200, 6400)
        found = newest(log.getvalue().splitlines())
    assert found is not None
    assert found.line == CountLine("judged", 1200, 6400)


def test_what_a_waiting_stage_prints_is_read() -> None:
    said: list[str] = []
    Pace(said.append).tell("GPUs: 8 wanted, 0 there")
    found = newest([f"▸ train  {said[0]}"])
    assert found is not None
    assert found.line == WaitingLine("GPUs: 8 wanted, 0 there", 0.0)


def test_how_long_it_has_waited_is_read() -> None:
    assert WaitingLine.parse("▸ train  waiting for convert (running) (1:02:10)") == WaitingLine(
        "convert (running)", 3730.0
    )
    other = "train (running with another recipe, 3f2a0b1c9d8e)"
    assert WaitingLine.parse(f"▸ evaluate  {WaitingLine(other, 70)}") == WaitingLine(other, 70.0)
    assert WaitingLine.parse("▸ train  waiting for convert (running, 0:02:10)") == WaitingLine(
        "convert (running, 0:02:10)", 0.0
    )


@pytest.mark.parametrize(
    ("lines", "line"),
    [
        ([], None),
        (["2026-01-01 INFO worker.py:1 -- Connecting to Ray", "  0%|          | 0/3"], None),
        (["▸ train  waiting for convert (running) (0:00:00)", "▸ train  model -> folder"], None),
        (
            ["▸ train  waiting for GPUs: 1 wanted, 0 there (0:00:09)", "▸ train  a -> b", "  first step"],
            NoteLine("first step"),
        ),
        ([f"  {STEP}", "  checkpoint of step 3: /mnt/x", "  ✓ train 2 min 00 s", "Job 'x' succeeded"], STEP),
        (
            ["▸ evaluate before  m", "  accuracy 0.5", "▸ evaluate after  m", "  judged 3/6 50%"],
            CountLine("judged", 3, 6),
        ),
        (["  judged 3/6 50%", "  accuracy 0.973 [0.948, 0.988]"], NoteLine("accuracy 0.973 [0.948, 0.988]")),
        (["  first step", "Traceback (most recent call last):", '  File "x.py", line 3'], NoteLine("first step")),
        (["  warm-start 250/550, loss 0.221 (6 min 41 s)"], NoteLine("warm-start 250/550, loss 0.221")),
        (["  accuracy 0.9 (64 pairs, both orders)"], NoteLine("accuracy 0.9 (64 pairs, both orders)")),
        (["\x1b[1m  first step\x1b[0m\r"], NoteLine("first step")),
        (["step 3/4 of something else"], None),
    ],
)
def test_the_newest_line_is_the_one_that_tells_most(lines: list[str], line: object) -> None:
    found = newest(lines)
    assert (found and found.line) == line


def test_the_cause_is_the_last_error_line() -> None:
    assert failure(["error: first", "▸ x", "error: the disk is full\r", "Job 'x' failed"]) == "the disk is full"
    assert failure(["an error: no", "errors: no"]) is None
