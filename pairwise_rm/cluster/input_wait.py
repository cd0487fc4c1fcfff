"""Waits for earlier stages: one small process on the head, which holds no GPU and no Ray worker.

All RayJobs start together. A stage polls the state file of an earlier one until it has succeeded with the expected
recipe. It fails at once, and names the earlier stage, when that has failed, when its pod is gone, or when it has
ended with another recipe while this stage was running, since the expected run will then never come.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
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
STALE_SECONDS = 60.0
"""A state file may be read as it was this long ago: NFS caches."""


@dataclass(frozen=True)
class EarlierStage:
    """A stage to wait for. Without a digest, a finished run in this folder with any recipe is accepted."""

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


def await_stages(
    awaited: Sequence[tuple[EarlierStage, Path]],
    timeout: float,
    say: Callable[[Waiting], None],
    attempt: str = "",
    retry_timeout: float = 0.0,
) -> None:
    """Waits until the state of each earlier stage is `succeeded`; they are given in their order, each with its file.

    A success that was there from the begin, while a stage before it was not done, is an earlier run's: that stage is
    waited for too, until it has run again.

    Raises StageError when one of them failed, when it stopped writing, when it ended with another recipe while this
    stage waited, and after `timeout` seconds. An end of another attempt, other than success, does not count: the
    earlier stage was asked for again together with this one, and its RayJob may come up later. A failure counts after
    `retry_timeout` seconds without a new run: KubeRay may try the stage again.
    """
    began, notes = time.monotonic(), WaitingNotes(say)
    waits = [_Wait(earlier, path, attempt, retry_timeout) for earlier, path in awaited]
    while True:
        waited = time.monotonic() - began
        first: _Wait | None = None
        for wait in waits:
            if not wait.is_over(waited, behind=first is not None):
                first = first or wait
        if first is None:
            return
        if waited > timeout:
            raise StageError(
                f"{first.stage} was not done after {clock(waited)} (it is {first.where_and_what}); "
                f"stages.<stage>.inputTimeout says how long to wait"
            )
        notes.tell(f"{first.stage} ({first.where})")
        time.sleep(POLL_SECONDS)


class _Wait:
    """The wait for one stage. `where` it stands, in words, as it was seen last."""

    def __init__(self, earlier: EarlierStage, path: Path, attempt: str, retry_timeout: float) -> None:
        self.stage, self.where = earlier.stage, ""
        self._digest, self._path, self._attempt, self._retry_timeout = earlier.digest, path, attempt, retry_timeout
        self._silence, self._killed = Silence(), Killed()
        self._first = self._state = read_state(path)
        self._others = OtherRecipe(earlier, self._first)
        self._is_old = False
        # Clocks of two nodes may differ by hours; where they do, a failure from before is taken for an old one.
        self._is_recent = self._first is not None and abs(time.time() - self._first.since) <= START_SECONDS
        self._failed: tuple[float, float] | None = None  # since when, and when it was seen

    @property
    def where_and_what(self) -> str:
        """With the stage's newest progress."""
        text = self._state.progress_text if self._state else ""
        return f"{self.where}: {text}" if text else self.where

    def is_over(self, waited: float, behind: bool) -> bool:
        """Whether it has succeeded. `behind`: a stage before it is not done. Raises StageError when it never will."""
        state, first = read_state(self._path), self._first
        silent = self._silence.of(state)
        self.where = state.state if state else "not begun"
        if state and self._digest not in (None, state.digest):
            self._others.check(state, waited)
            self.where = _other(state, silent)
            state = None  # another recipe's: the expected run has not begun
        self._is_old |= behind and waited > STALE_SECONDS and first is not None and first.state == "succeeded"
        if state and self._is_old and first and _run_of(state) == _run_of(first):
            self.where = "not begun; succeeded before"
            state = None
        if state and state.state == "succeeded":
            return True
        if state and state.attempt != self._attempt:
            if state.ended or silent > LOST_SECONDS or waited <= GRACE_SECONDS:
                self.where = f"not begun; {state.state} in another attempt"
                state = None
            else:
                self._attempt = state.attempt  # it was not stopped for a new attempt, so it is the one to come
        self._state = state
        if state:
            self._check(state, waited, silent)
        return False

    def _check(self, state: StageState, waited: float, silent: float) -> None:
        """Raises StageError when this run, which has not succeeded, will not."""
        if state.state == "failed" and (self._failed is None or self._failed[0] != state.since):
            self._failed = state.since, waited
        over = self._failed is not None and waited - self._failed[1] >= self._retry_timeout
        is_new = self._first is None or _run_of(self._first) != _run_of(state)
        if state.state == "failed" and over and (is_new or self._is_recent or waited > GRACE_SECONDS):
            raise StageError(f"{self.stage} failed, so there is nothing to do here: {state.error}")
        if silent > LOST_SECONDS:
            raise StageError(
                f"{self.stage} has not been heard of for {clock(silent)} (it was {self.where_and_what}); "
                f"its pod is gone, see `pairwise-rm logs {self.stage}`"
            )
        if end := self._killed.noticed(state, waited):
            raise StageError(
                f"{self.stage} was killed: its Ray job has {end}, and it was {self.where_and_what}; "
                f"see `pairwise-rm logs {self.stage}`"
            )


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
