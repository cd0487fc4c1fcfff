"""Waits for an earlier stage: one small process on the head, which holds no GPU and no Ray worker.

All RayJobs start together. A stage polls the state file of the earlier one until it has succeeded with the expected
recipe. It fails at once, and names the earlier stage, when that has failed, when its pod is gone, or when it has
ended with another recipe while this stage was running, since the expected run will then never come.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pairwise_rm.cluster.ray_job import how_ended
from pairwise_rm.cluster.state_file import LOST_SECONDS, Silence, StageState, read_state
from pairwise_rm.errors import InputError, StageError
from pairwise_rm.pipeline import STAGES
from pairwise_rm.progress import Waiting, clock

POLL_SECONDS = 3.0
ASK_SECONDS = 15.0
"""Between two questions to Ray's dashboard."""
TELL_SECONDS = 60.0
START_SECONDS = 60.0
"""RayJobs that are made together begin within this time of each other, by clocks that agree."""
GRACE_SECONDS = 120.0
"""A failure from longer before this stage began may be an earlier attempt's, whose retry has not started yet.

A run with another recipe that is alive when this stage begins and ends within this time was stopped by an upgrade.
"""
SETTLE_SECONDS = 60.0
"""A run with another recipe has ended for good when no other one has written its state for this time."""


@dataclass(frozen=True)
class EarlierStage:
    """The stage to wait for. Without a digest, any finished run in this folder is accepted."""

    stage: str
    digest: str | None

    @classmethod
    def parse(cls, text: str, of: str) -> EarlierStage:
        """From `train=3f2a...` or `train`. Raises InputError for a stage that does not come before `of`."""
        stage, _, digest = text.partition("=")
        before = STAGES[: STAGES.index(of)]
        if stage not in before:
            raise InputError(f"--after {text}: expected one of {', '.join(before) or 'none'} before {of}")
        return cls(stage, digest or None)


class WaitingNotes:
    """Reports what the stage waits for: when it changes, and else once a minute."""

    def __init__(self, say: Callable[[Waiting], None]) -> None:
        self._say, self._began = say, time.monotonic()
        self._told, self._last = -TELL_SECONDS, ""

    def tell(self, what: str) -> None:
        now = time.monotonic()
        if what != self._last or now - self._told >= TELL_SECONDS:
            self._say(Waiting(what, now - self._began))
            self._told, self._last = now, what


def await_stage(
    earlier: EarlierStage,
    path: Path,
    timeout: float,
    say: Callable[[Waiting], None],
    attempt: str = "",
    retry_timeout: float = 0.0,
) -> None:
    """Waits until the earlier stage's state in `path` is `succeeded`.

    Raises StageError when it failed, when it stopped writing, when it ended with another recipe while this stage
    waited, and after `timeout` seconds. An end of another attempt, other than success, does not count: the earlier
    stage was asked for again together with this one, and its RayJob may come up later. A failure counts after
    `retry_timeout` seconds without a new run: KubeRay may try the stage again.
    """
    began, notes, silence, killed = time.monotonic(), WaitingNotes(say), Silence(), Killed()
    first = read_state(path)
    others = OtherRecipe(earlier, first)
    # Clocks of two nodes may differ by hours; where they do, a failure from before is taken for an old one.
    is_recent = first is not None and abs(time.time() - first.since) <= START_SECONDS
    failed: tuple[float, float] | None = None  # since when, and when it was seen
    while True:
        state = read_state(path)
        waited, silent = time.monotonic() - began, silence.of(state)
        where: str = state.state if state else "not begun"
        if state and earlier.digest not in (None, state.digest):
            others.check(state, waited)
            where = _other(state, silent)
            state = None  # another recipe's: the expected run has not begun
        if state and state.state == "succeeded":
            return
        if state and state.attempt != attempt:
            if state.ended or silent > LOST_SECONDS or waited <= GRACE_SECONDS:
                where = f"not begun; {state.state} in another attempt"
                state = None
            else:
                attempt = state.attempt  # it was not stopped for a new attempt, so it is the one to come
        if state and state.state == "failed" and (failed is None or failed[0] != state.since):
            failed = state.since, waited
        over = failed is not None and waited - failed[1] >= retry_timeout
        is_new = first is None or state is None or _run_of(first) != _run_of(state)
        counts = over and (is_new or is_recent or waited > GRACE_SECONDS)
        if state and state.state == "failed" and counts:
            raise StageError(f"{earlier.stage} failed, so there is nothing to do here: {state.error}")
        if state and silent > LOST_SECONDS:
            raise StageError(
                f"{earlier.stage} has not been heard of for {clock(silent)} (it was {_with_message(where, state)}); "
                f"its pod is gone, see `pairwise-rm logs {earlier.stage}`"
            )
        if state and (end := killed.noticed(state, waited)):
            raise StageError(
                f"{earlier.stage} was killed: its Ray job has {end}, and it was {_with_message(where, state)}; "
                f"see `pairwise-rm logs {earlier.stage}`"
            )
        if waited > timeout:
            raise StageError(
                f"{earlier.stage} was not done after {clock(waited)} (it is {_with_message(where, state)}); "
                f"stages.<stage>.inputTimeout says how long to wait"
            )
        notes.tell(f"{earlier.stage} ({where})")
        time.sleep(POLL_SECONDS)


class Killed:
    """Whether a stage was killed outright: its state says that it works, and Ray says that its job has ended."""

    def __init__(self) -> None:
        self._asked = self._seen = 0.0
        self._end: str | None = None

    def noticed(self, state: StageState, waited: float) -> str | None:
        """How its job has ended, once it has been so for a while: the state may be written a moment later."""
        if state.ended or state.ray_job is None:
            self._end = None
        elif waited - self._asked >= ASK_SECONDS:
            self._asked, before = waited, self._end
            self._end = how_ended(state.ray_job)
            if before is None:
                self._seen = waited
        return self._end if self._end and waited - self._seen >= SETTLE_SECONDS else None


class OtherRecipe:
    """Runs of the earlier stage with another recipe than the one that this stage expects.

    After an upgrade the state file may hold the outcome of such a run, or that run is stopped while the new stages
    begin. The expected run then follows, hours later if it is queued, so the stage keeps waiting. A run that ends
    later than that belongs to RayJobs whose recipes were not rendered together: the expected run will never come.
    """

    def __init__(self, earlier: EarlierStage, first: StageState | None) -> None:
        """`first`: the state when this stage began to wait. Clocks of two nodes are never compared."""
        self._earlier, self._first = earlier, first
        self._end: StageState | None = None
        self._seen = 0.0

    def check(self, state: StageState, waited: float) -> None:
        """Raises StageError when the run has ended while this stage waited, and no other one has begun since."""
        if not state.ended:
            self._end = None
            return
        if self._end is None or _run_of(self._end) != _run_of(state):
            self._end, self._seen = state, waited
        if self._is_replaced(state) or waited - self._seen < SETTLE_SECONDS:
            return
        raise StageError(
            f"{self._earlier.stage} {state.state} with another recipe, {state.digest}, and this stage was made for "
            f"{self._earlier.digest}: the recipe of one RayJob was changed without the others; render all of them from "
            "the same values with `helm template` (`pairwise-rm validate --manifests FILE` says which disagree)"
        )

    def _is_replaced(self, end: StageState) -> bool:
        """Whether it had ended before this stage began, or was stopped as this stage began."""
        first = self._first
        if first is None or first.digest != end.digest:
            return False
        return _run_of(first) == _run_of(end) if first.ended else self._seen <= GRACE_SECONDS


def _run_of(end: StageState) -> tuple[str, float]:
    return end.digest, end.since


def _other(state: StageState, silent: float) -> str:
    """The stage's state in words when its newest run has another recipe."""
    if silent > LOST_SECONDS:
        return "not begun"
    known = f"{state.state} with another recipe, {state.digest}"
    return f"not begun; {known}" if state.ended else known


def _with_message(where: str, state: StageState | None) -> str:
    text = state.progress_text if state else ""
    return f"{where}: {text}" if text else where
