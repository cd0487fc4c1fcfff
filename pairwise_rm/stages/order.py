"""Waiting for an earlier stage on the head alone: no GPU is held, no Ray worker, one small process.

All RayJobs start together. A stage reads the earlier one's state from the shared volume until it has succeeded
with the right recipe. It fails at once, and names the stage, when that has failed or its pod is gone.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pairwise_rm.errors import InputError, StageError
from pairwise_rm.lines import WaitingLine, clock
from pairwise_rm.stages import STAGES
from pairwise_rm.stages.state import LOST_SECONDS, StageState, read_state

POLL_SECONDS = 3.0
TELL_SECONDS = 60.0
START_SECONDS = 60.0
"""RayJobs that are made together begin within this time of each other."""
GRACE_SECONDS = 120.0
"""A failure from longer before this stage began may be an earlier attempt's, whose retry has not started yet."""


@dataclass(frozen=True)
class Earlier:
    """The stage to wait for. Without a digest any finished one of this run folder will do."""

    stage: str
    digest: str | None

    @classmethod
    def parse(cls, text: str, of: str) -> Earlier:
        """From `train=3f2a...` or `train`. Raises InputError for a stage that does not come before `of`."""
        stage, _, digest = text.partition("=")
        before = STAGES[: STAGES.index(of)]
        if stage not in before:
            raise InputError(f"--after {text}: expected one of {', '.join(before) or 'none'} before {of}")
        return cls(stage, digest or None)


class Pace:
    """Says what is waited for when that is new, and once a minute while it is not."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say, self._began = say, time.monotonic()
        self._told, self._last = -TELL_SECONDS, ""

    def tell(self, what: str) -> None:
        now = time.monotonic()
        if what != self._last or now - self._told >= TELL_SECONDS:
            self._say(str(WaitingLine(what, now - self._began)))
            self._told, self._last = now, what


def await_stage(earlier: Earlier, path: Path, timeout: float, say: Callable[[str], None]) -> None:
    """Returns when the earlier stage's state in `path` is `succeeded`.

    Raises StageError when it failed, when it stopped writing, and after `timeout` seconds.
    """
    began, pace = time.time(), Pace(say)
    while True:
        state = read_state(path)
        if state and earlier.digest not in (None, state.digest):
            state = None  # of another recipe; this one's has not begun
        if state and state.state == "succeeded":
            return
        waited = time.time() - began
        if state and state.state == "failed" and (state.since >= began - START_SECONDS or waited > GRACE_SECONDS):
            raise StageError(f"{earlier.stage} failed, so there is nothing to do here: {state.error}")
        if state and state.lost and waited > LOST_SECONDS:
            silent = clock(time.time() - state.heartbeat)
            raise StageError(
                f"{earlier.stage} has not been heard of for {silent} (it was {_where(state)}); "
                f"its pod is gone, see `pairwise-rm logs {earlier.stage}`"
            )
        if waited > timeout:
            raise StageError(
                f"{earlier.stage} was not done after {clock(waited)} (it is {_where(state)}); "
                f"stages.<stage>.inputTimeout says how long to wait"
            )
        pace.tell(f"{earlier.stage} ({state.state if state else 'not begun'})")
        time.sleep(POLL_SECONDS)


def _where(state: StageState | None) -> str:
    if state is None:
        return "not begun"
    return f"{state.state}{f': {state.message}' if state.message else ''}"
