"""What a notice makes of a training: what can still be saved, and when the running step is left."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pairwise_rm.train import preemption
from pairwise_rm.train.metrics_file import append_step
from pairwise_rm.train.preemption import Interrupted, Move, Notice, Times, Watch, after_step, learnt, within_step

MARGIN = 5.0
TIMES = Times(step=60, save=10)


@pytest.mark.parametrize(
    ("left", "elapsed", "saved", "whole", "move"),
    [
        pytest.param(None, 0, False, True, Move.GO_ON, id="no deadline"),
        pytest.param(120, 0, False, True, Move.GO_ON, id="120 s, and step and save take 70 s"),
        pytest.param(30, 45, False, True, Move.GO_ON, id="30 s, and the step ends in 15 s"),
        pytest.param(30, 10, False, True, Move.SAVE, id="30 s, the step ends too late, its update has not begun"),
        pytest.param(30, 10, True, True, Move.END, id="the step ends too late, the one before it is saved"),
        pytest.param(30, 10, False, False, Move.GO_ON, id="in its update: it may yet end in time"),
        pytest.param(14, 10, False, False, Move.END, id="in its update, and a save takes too long"),
        pytest.param(14, 10, False, True, Move.END, id="a save takes too long"),
        pytest.param(15, 10, False, True, Move.SAVE, id="a save just fits"),
        pytest.param(30, 100, False, True, Move.GO_ON, id="longer than the last ones: it may end any second"),
        pytest.param(15.5, 100, False, True, Move.SAVE, id="longer than the last ones, and the last moment for a save"),
        pytest.param(-3, 0, True, True, Move.END, id="after the deadline"),
    ],
)
def test_a_running_step_goes_on_as_long_as_it_can_be_saved_in_time(
    left: float | None, elapsed: float, saved: bool, whole: bool, move: Move
) -> None:
    assert within_step(left, MARGIN, TIMES, elapsed, saved, whole) is move


def test_a_step_whose_length_is_unknown_goes_on_until_the_last_moment() -> None:
    unknown = Times(0, 0)
    assert within_step(30, MARGIN, unknown, 10, saved=True, whole=True) is Move.GO_ON
    assert within_step(5.9, MARGIN, unknown, 10, saved=True, whole=True) is Move.END


@pytest.mark.parametrize(
    ("left", "saved", "move"),
    [
        (None, False, Move.SAVE), (None, True, Move.END), (15, False, Move.SAVE), (15, True, Move.END),
        (14.9, False, Move.END), (-1, False, Move.END),
    ],
)  # fmt: skip
def test_after_a_step_it_is_saved_unless_that_would_not_end_in_time(
    left: float | None, saved: bool, move: Move
) -> None:
    assert after_step(left, MARGIN, TIMES.save, saved) is move


def test_the_times_are_those_of_the_run(tmp_path: Path) -> None:
    metrics = tmp_path / "metrics.jsonl"
    assert learnt(metrics) == Times(0, 0)
    append_step(metrics, 1, {"timing_s/step": 5.0})  # one that is older than the last five
    for step, seconds in enumerate((40.0, 30.0, 32.0, 45.0), start=2):
        append_step(metrics, step, {"timing_s/step": seconds, "timing_s/update_weights": 2.0})
    append_step(metrics, 6, {"timing_s/step": 60.0, "timing_s/update_weights": 2.0, "timing_s/save_checkpoint": 20.0})
    append_step(metrics, 7, {"time": 1.0})  # of a checkpoint, without timings
    assert learnt(metrics) == Times(step=28, save=20)


def test_what_is_asked_is_seen_with_its_deadline_and_forgotten_by_the_next_attempt(tmp_path: Path) -> None:
    assert preemption.asked(tmp_path) is None
    preemption.ask(tmp_path)
    assert preemption.asked(tmp_path) == Notice("asked to save and end")
    preemption.ask(tmp_path, 1760000000.5)
    assert preemption.asked(tmp_path) == Notice("asked to save and end", deadline=1760000000.5)
    preemption.forget(tmp_path)
    preemption.forget(tmp_path)
    assert preemption.asked(tmp_path) is None


def test_a_file_that_a_person_made_asks_without_a_deadline(tmp_path: Path) -> None:
    preemption.file_of(tmp_path).write_text("please\n")
    assert preemption.asked(tmp_path) == Notice("asked to save and end")


@pytest.mark.parametrize(
    ("why", "left", "said"),
    [
        ("preemption", 25.0, "node w is going (preemption, 25 s left)"),
        ("preemption", None, "node w is going (preemption)"),
        ("", -3.0, "node w is going (0 s left)"),
        ("", None, "node w is going"),
    ],
)
def test_a_notice_says_what_why_and_how_long(why: str, left: float | None, said: str) -> None:
    assert str(Notice("node w is going", why, None if left is None else time.time() + left)) == said


# ---- looking while the main thread works -----------------------------------------------------------


def move_to(move: Move) -> Callable[[Notice], Move]:
    return lambda _: move


NOTICE = Notice("node w is going")


def test_waiting_is_left_when_the_notice_wants_it() -> None:
    watch = Watch(lambda: NOTICE, seconds=0.05)
    with watch.looking():
        began = time.monotonic()
        with pytest.raises(Interrupted) as raised:
            watch.call(move_to(Move.SAVE), lambda: time.sleep(20))
        assert time.monotonic() - began < 10
    assert (raised.value.notice, raised.value.move) == (NOTICE, Move.SAVE)


def test_an_error_that_the_interruption_became_on_its_way_is_the_interruption() -> None:
    watch = Watch(lambda: NOTICE, seconds=0.05)

    def wait_in_a_library() -> None:
        try:
            time.sleep(20)
        except KeyboardInterrupt:
            raise ValueError("the library's own") from None

    with watch.looking(), pytest.raises(Interrupted):
        watch.call(move_to(Move.END), wait_in_a_library)


def fail(error: BaseException) -> None:
    raise error


def test_nothing_is_interrupted_while_the_step_may_go_on_or_between_the_blocks() -> None:
    watch = Watch(lambda: NOTICE, seconds=0.02)
    with watch.looking():
        watch.call(move_to(Move.GO_ON), lambda: time.sleep(0.2))
        time.sleep(0.2)
    assert watch.notice is NOTICE


def test_without_a_notice_errors_and_interruptions_by_hand_pass_through() -> None:
    watch = Watch(lambda: None, seconds=0.02)
    with watch.looking():
        for error in (ValueError("ours"), KeyboardInterrupt()):
            with pytest.raises(type(error)):
                watch.call(move_to(Move.END), lambda error=error: fail(error))  # type: ignore[misc]
    assert watch.notice is None


def test_a_block_that_ends_as_it_is_interrupted_is_interrupted_once() -> None:
    # The race between the end of a step and the notice, many times over.
    for _ in range(200):
        watch, interrupted = Watch(lambda: NOTICE, seconds=0.001), False
        with watch.looking():
            try:
                watch.call(move_to(Move.SAVE), lambda: time.sleep(0.001))
            except Interrupted:
                interrupted = True
            time.sleep(0.002)
        assert interrupted == (watch._fired is not None)


def test_a_look_that_fails_is_told_once_and_the_next_ones_count(capsys: pytest.CaptureFixture[str]) -> None:
    looks = iter([RuntimeError("no answer"), RuntimeError("no answer"), None])

    def look() -> Notice | None:
        if isinstance(found := next(looks, NOTICE), RuntimeError):
            raise found
        return found

    watch = Watch(look, seconds=0.01)
    with watch.looking():
        end = time.monotonic() + 10
        while watch.notice is None and time.monotonic() < end:
            time.sleep(0.01)
    said = capsys.readouterr().out
    assert said.count("warning: cannot look for draining nodes: no answer") == 1
    assert said.count("notice: node w is going") == 1


def test_the_thread_ends_with_the_block() -> None:
    with Watch(lambda: None, seconds=0.01).looking():
        assert any(thread.name == "notices" for thread in threading.enumerate())
    assert not any(thread.name == "notices" for thread in threading.enumerate())
