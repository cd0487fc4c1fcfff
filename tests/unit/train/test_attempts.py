"""The attempts of a run: their file, and when another one follows."""

from __future__ import annotations

from pathlib import Path

import pytest

from pairwise_rm.errors import InputError
from pairwise_rm.train.attempts import (
    Attempts,
    Ended,
    pause_before_next,
    read_attempts,
    restarts_used,
    why_no_more,
)
from pairwise_rm.train.failure import Failure, Kind


def ended(kind: Kind = "lost", *, after: int = 4, reached: int = 5, checkpoint: int = 4) -> Ended:
    return Ended(Failure(kind, "why"), after, reached, checkpoint)


def test_each_attempt_is_a_line_that_says_when_from_where_to_where_and_why_it_ended(tmp_path: Path) -> None:
    path = tmp_path / "attempts.jsonl"
    attempts = Attempts(path)
    assert attempts.begin(0) == 1
    attempts.end("failed", reached=5, checkpoint=4, reason="a node left")
    attempts.retry()
    assert attempts.begin(4) == 2
    attempts.end("done", 8, 8)
    first, second = read_attempts(path)
    assert (first.after, first.reached, first.checkpoint) == (0, 5, 4)
    assert (first.outcome, first.reason, first.retried) == ("failed", "a node left", True)
    assert (second.after, second.outcome, second.reason, second.retried) == (4, "done", None, False)
    assert first.began <= (first.ended or 0) <= second.began


def test_an_attempt_whose_process_was_killed_is_ended_by_the_next_one(tmp_path: Path) -> None:
    Attempts(tmp_path / "attempts.jsonl").begin(0)
    assert Attempts(tmp_path / "attempts.jsonl").begin(4) == 2
    first, second = read_attempts(tmp_path / "attempts.jsonl")
    assert (first.outcome, first.ended, first.checkpoint) == ("killed", None, 4)
    assert second.outcome == "running"


def test_a_line_that_is_no_attempt_is_told_by_its_number(tmp_path: Path) -> None:
    (tmp_path / "attempts.jsonl").write_text('{"attempt": 1, "began": 1.0, "after": 0}\n{"attempt": 2}\n')
    with pytest.raises(InputError, match=r"attempts\.jsonl:2: not an attempt"):
        read_attempts(tmp_path / "attempts.jsonl")


@pytest.mark.parametrize("kind", ["lost", "hung", "memory", "program", "preempted"])
def test_what_may_get_through_the_next_time_is_tried_again(kind: Kind) -> None:
    assert why_no_more([ended(kind)], 10) is None


def test_what_the_run_was_given_is_not_tried_again() -> None:
    assert why_no_more([ended("final")], 10) == "trying again cannot mend this"


def test_a_training_that_was_asked_to_end_ends() -> None:
    assert why_no_more([ended("asked")], 10) == "the same command goes on"


def test_an_error_of_the_program_before_any_step_is_not_tried_again() -> None:
    assert why_no_more([ended("program", after=0, reached=0, checkpoint=0)], 10) == "trying again cannot mend this"
    assert why_no_more([ended("lost", after=0, reached=0, checkpoint=0)], 10) is None


@pytest.mark.parametrize("kind", ["memory", "program"])
def test_the_same_failure_at_the_same_step_twice_is_not_tried_again(kind: Kind) -> None:
    assert why_no_more([ended(kind), ended(kind)], 10) == "the same failure after step 5 as in the attempt before"
    assert why_no_more([ended(kind), ended(kind, reached=6)], 10) is None
    assert why_no_more([ended("lost"), ended(kind)], 10) is None


def test_a_node_that_leaves_at_the_same_step_again_and_again_is_tried_again() -> None:
    assert why_no_more([ended("lost")] * 10, 10) is None


def test_attempts_without_a_new_checkpoint_between_them_are_counted() -> None:
    failing = [ended()] * 2
    assert why_no_more(failing, 2) is None
    assert why_no_more([*failing, ended()], 2) == "2 restarts without a new checkpoint between them (train.restarts)"
    assert restarts_used([*failing, ended(after=4, checkpoint=6)]) == 1, "progress resets the count"


def test_with_no_restarts_allowed_the_first_failure_is_the_last() -> None:
    assert why_no_more([ended()], 0) == ""


def test_preemptions_are_not_counted() -> None:
    assert restarts_used([ended("preempted")] * 20) == 0
    assert why_no_more([ended("preempted")] * 20, 0) is None


def test_the_pause_doubles_up_to_five_minutes_and_is_none_after_a_preemption() -> None:
    assert [pause_before_next([ended()] * count) for count in (1, 2, 3, 9)] == [5, 10, 20, 300]
    assert pause_before_next([ended("preempted")]) == 0
