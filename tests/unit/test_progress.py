"""A stage's lines are read back as they were written, by the printing side itself where it is in reach."""

from __future__ import annotations

import dataclasses
import io
import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from pairwise_rm.cli import console as console_module
from pairwise_rm.cli.console import ConsoleReporter
from pairwise_rm.cluster import run as cluster_run
from pairwise_rm.cluster.input_wait import WaitingNotes
from pairwise_rm.cluster.run import ClusterReporter
from pairwise_rm.pipeline import Gpus, _TrainingProgress
from pairwise_rm.progress import (
    VERSION,
    Begin,
    Count,
    End,
    Event,
    Failure,
    Line,
    Note,
    Reporter,
    Retry,
    Step,
    Waiting,
    counting,
    duration,
    failure,
    newest,
    other_version,
)
from pairwise_rm.train.watchdog import DriverProgress

STEP = Step(3, 20, 0.412, 0.5, 0.98, 0.0012, 9.1, 160.0)
METRICS = {
    "time": 100.0,
    "timing_s/step": 9.1,
    "reward/mean": 0.412,
    "accuracy": 0.5,
    "rollout/valid": 0.98,
    "kl_loss": 0.0012,
}
numbers = st.floats(-1e6, 1e6)
text = st.text(max_size=20)
EVENTS = st.one_of(
    st.builds(Step, st.integers(), st.integers(), numbers, numbers, numbers, st.none() | numbers, numbers, numbers),
    st.builds(Count, text, st.integers(), st.integers()),
    st.builds(Waiting, text, numbers),
    *(st.builds(kind, text) for kind in (Note, Begin, Failure)),
    st.builds(End, numbers),
)


def lines(*events: Event, part: str | None = "train") -> list[str]:
    return [str(Line("train", part, event)) for event in events]


@given(text, st.none() | text, EVENTS)
def test_a_line_is_read_as_it_was_written_and_takes_one_line(stage: str, part: str | None, event: Event) -> None:
    written = Line(stage, part, event)
    assert Line.parse(str(written)) == written
    assert "\n" not in str(written)


def test_a_step_has_the_fields_that_its_readers_know() -> None:
    assert json.loads(str(Line("train", "train", STEP))) == {
        "v": 1,
        "stage": "train",
        "part": "train",
        "event": "step",
        "text": "step 3/20  reward 0.412  accuracy 0.500  valid 0.980  kl 0.0012  9.1 s  2 min 40 s left",
        "step": 3,
        "of": 20,
        "reward": 0.412,
        "accuracy": 0.5,
        "valid": 0.98,
        "kl": 0.0012,
        "seconds": 9.1,
        "left": 160.0,
    }


def test_a_step_without_numbers_is_still_a_step_and_still_json() -> None:
    written = str(Line("train", "train", dataclasses.replace(STEP, reward=math.nan, kl=math.inf)))
    assert "NaN" not in written
    assert "Infinity" not in written
    line = Line.parse(written)
    assert line is not None
    assert isinstance(line.event, Step)
    assert math.isnan(line.event.reward)
    assert line.event.kl is None


@pytest.mark.parametrize(
    "other",
    [
        "",
        "2026-01-01 INFO worker.py:1 -- Connecting to Ray",
        "  0%|          | 0/3",
        'Traceback (most recent call last):\n  File "x.py"',
        "step 3/4 of something else",
        '{"v": 1, "stage": "train"',
        '{"v": "1", "stage": "train"}',
        '{"v": 1}',
        '{"level": "info", "stage": "train"}',
    ],
)
def test_what_is_no_such_line_is_none(other: str) -> None:
    assert Line.parse(other) is None


def test_of_a_line_of_version_2_what_is_known_is_taken() -> None:
    fields = {**Line("train", "train", STEP).as_json(), "v": 2, "tokens_per_second": 4100.0}
    line = Line.parse(json.dumps(fields))
    assert line == Line("train", "train", STEP, version=2)
    assert other_version([str(Line("train", "train", STEP)), json.dumps(fields), "else"]) == 2
    assert other_version([str(Line("train", "train", STEP))]) is None


@pytest.mark.parametrize(
    "changed", [{"event": "phase"}, {"step": "three"}, {"reward": [0.4]}, {"event": None}, {"step": ...}]
)
def test_of_a_line_whose_fields_are_not_understood_the_text_is_taken(changed: dict[str, object]) -> None:
    fields = {**Line("train", "train", STEP).as_json(), "v": 2, **changed}
    line = Line.parse(json.dumps({key: value for key, value in fields.items() if value is not ...}))
    assert line == Line("train", "train", Note(str(STEP)), version=2)


def test_a_line_without_anything_that_is_understood_is_not_the_newest() -> None:
    assert newest(['{"v": 2, "stage": "train", "event": "phase"}']) is None
    found = newest([*lines(STEP), '{"v": 2, "stage": "train", "event": "phase"}'])
    assert found is not None
    assert found.event == STEP


def test_of_a_part_that_tries_again_the_retry_is_shown_until_it_makes_a_step() -> None:
    again = Retry(2, 9, 2, 5.0, "a node left")
    assert str(again) == "attempt 2 in 5 s, after step 2: a node left"
    found = newest(lines(STEP, again, Note("starting Ray"), Note("Ray is up")))
    assert found is not None
    assert (found.event, found.since) == (again, Note("Ray is up"))
    found = newest(lines(again, STEP))
    assert found is not None
    assert found.event == STEP


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """What a stage prints where its output is a file."""
    written = io.StringIO()
    monkeypatch.setattr(console_module, "console", Console(file=written, highlight=False, soft_wrap=True))
    return written


def work(reporter: Reporter) -> None:
    with reporter.part("train", "model -> folder") as part:
        _TrainingProgress(part)(DriverProgress(3, 20, "", METRICS))
    reporter.say("report: r.html")


def test_the_terminal_shows_the_human_lines_of_what_a_cluster_logs(terminal: io.StringIO) -> None:
    logged: list[str] = []
    work(ConsoleReporter())
    work(ClusterReporter("train", logged.append))
    parsed = [Line.parse(line) for line in logged]
    assert all(parsed)
    human = [line.human for line in parsed if line]
    assert terminal.getvalue().splitlines() == human
    assert human == [
        "▸ train  model -> folder",
        "  step 3/20  reward 0.412  accuracy 0.500  valid 0.980  kl 0.0012  9.1 s  2 min 35 s left",
        "  ✓ train 0 s",
        "report: r.html",
    ]


def test_a_count_is_logged_when_the_log_was_quiet_and_always_told_to_the_state(monkeypatch: pytest.MonkeyPatch) -> None:
    logged: list[str] = []
    with ClusterReporter("evaluate", logged.append).part("evaluate before") as part:
        counting(part)("judged", 1200, 6400)
        assert len(logged) == 1, "too early for a second line"
        monkeypatch.setattr(cluster_run, "QUIET_SECONDS", 0.0)
        counting(part)("judged", 1300, 6400)
    found = newest(logged)
    assert found is not None
    assert found.line == Line("evaluate", "evaluate before", Count("judged", 1300, 6400))


def test_a_stage_that_waits_says_for_what_and_how_long() -> None:
    said: list[Waiting] = []
    WaitingNotes(said.append).tell("GPUs: 8 wanted, 0 there")
    assert [str(event) for event in said] == ["waiting for GPUs: 8 wanted, 0 there (0:00:00)"]
    assert str(Waiting("convert (running)", 3730)) == "waiting for convert (running) (1:02:10)"


@pytest.mark.parametrize(
    ("said", "event"),
    [
        ([], None),
        (["INFO -- Connecting to Ray"], None),
        (lines(Waiting("convert (running)", 0), Begin("model -> folder")), None),
        (lines(Waiting("GPUs: 1 wanted, 0 there", 9), Begin("a -> b"), Note("first step")), Note("first step")),
        ([*lines(STEP, Note("checkpoint of step 3: /mnt/x"), End(120)), "Job 'x' succeeded"], STEP),
        (
            lines(Begin("m"), STEP, End(1)) + lines(Begin("m"), Count("judged", 3, 6), part="evaluate after"),
            Count("judged", 3, 6),
        ),
        (lines(Count("judged", 3, 6), Note("accuracy 0.973 [0.948, 0.988]")), Note("accuracy 0.973 [0.948, 0.988]")),
        ([*lines(Note("first step")), "Traceback (most recent call last):"], Note("first step")),
        (lines(Note("first step"), Failure("the disk is full")), Note("first step")),
        ([*lines(Note("accuracy 0.973"), End(9)), *lines(Note("report: r.html"), part=None)], Note("accuracy 0.973")),
        (lines(Note("already done with this recipe"), part=None), None),
        (lines(Waiting("convert (running)", 60), part=None), Waiting("convert (running)", 60)),
    ],
)
def test_the_newest_line_is_the_one_that_tells_most(said: list[str], event: Event | None) -> None:
    found = newest(said)
    assert (found and found.event) == event


def test_the_cause_is_the_last_error_of_the_stage() -> None:
    assert failure([*lines(Failure("first"), Failure("the disk is full")), "error: no"]) == "the disk is full"
    assert failure(["error: no", *lines(Note("error: no"))]) is None


@pytest.mark.parametrize(
    ("seconds", "written"), [(0.4, "0 s"), (59.6, "1 min 00 s"), (185, "3 min 05 s"), (7800, "2 h 10 min")]
)
def test_a_duration_has_the_two_units_that_matter(seconds: float, written: str) -> None:
    assert duration(seconds) == written


def test_this_is_version_1() -> None:
    assert VERSION == 1


def test_the_gpus_that_an_attempt_asked_for_are_let_go_once_it_holds_them() -> None:
    said: list[str] = []
    gpus = Gpus(lambda: said.append("ask"), lambda: said.append("let go"))
    with ClusterReporter("train", lambda line: said.append(str(json.loads(line)["text"]))).part("train") as part:
        steps = _TrainingProgress(part, gpus)
        for phase in ("Ray is up", "actor and reference loaded", "first step"):
            if phase == "Ray is up":
                steps.acquire()
            steps(DriverProgress(0, 2, phase, None))
        steps.acquire()
        steps(DriverProgress(1, 2, "", METRICS))
    once = ["ask", "Ray is up", "let go", "actor and reference loaded", "first step"]
    assert said[1:-2] == [*once, "ask", "let go"]
