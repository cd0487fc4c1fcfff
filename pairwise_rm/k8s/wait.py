"""Waits for a stage to end, for CI: by the RayJob's status, with a line for each change."""

from __future__ import annotations

import re
import time
from collections.abc import Callable

from pairwise_rm.errors import StageError
from pairwise_rm.k8s.client import with_retries
from pairwise_rm.k8s.diagnosis import issues_of
from pairwise_rm.k8s.retry import how_to_try_again
from pairwise_rm.k8s.stage_status import StageView, other_version_note
from pairwise_rm.k8s.status import Follower
from pairwise_rm.progress import duration

POLL_SECONDS = 3.0
_DURATION = re.compile(r"\d+ (?:h|min|s)\b")
"""An issue that only lasts longer is not told again."""


def wait_for(follower: Follower, stage: str, timeout: float, say: Callable[[str], None]) -> None:
    """Waits until the stage has succeeded.

    Raises StageError, with the cause, when it failed, when it has a terminal issue, and after `timeout` seconds.
    Missing GPUs are only reported: a node may be added.
    """
    end = time.monotonic() + timeout
    told: set[str] = set()
    last = None
    while True:
        snapshot = with_retries(lambda: follower.snapshot(stage), say)
        if last and stage not in snapshot.jobs:
            raise StageError(f"{stage}: RayJob {last.job} was deleted while it was {last.state}")
        view = follower.stage(snapshot, stage)
        if last is None or _reported(view) != _reported(last):
            say(f"{time.strftime('%H:%M:%S')}  {stage} {view}")
        if (note := other_version_note([view])) and note not in told:
            say(f"! {note}")
            told.add(note)
        last = view
        if view.state == "succeeded":
            return
        if view.ended:
            if again := how_to_try_again(snapshot, [view]):
                say("\n  ".join(again))
            raise StageError(f"{stage} {view}")
        found = issues_of(snapshot, stage)
        for issue in found:
            if issue.terminal and view.state != "running":
                raise StageError(f"{stage} cannot go on ({view.state}): {issue}")
            if (words := _DURATION.sub("", str(issue))) not in told:
                say(f"! {issue}")
                told.add(words)
        if time.monotonic() >= end:
            why = f": {found[0]}" if found else ""
            raise StageError(f"{stage} is not done after {duration(timeout)}: it is {view}{why}")
        time.sleep(min(POLL_SECONDS, max(0.0, end - time.monotonic())))


def _reported(view: StageView) -> tuple[str | None, ...]:
    """The fields whose change prints a line; progress is not one of them."""
    return view.job, view.state, view.waits_for, view.note if view.state == "suspended" else None
