"""The attempts at one training, a JSON line each, and when another one makes sense.

    <run>/train/attempts.jsonl
    {"attempt": 2, "began": 1760000000.0, "after": 10, "ended": 1760000310.2, "reached": 13, "checkpoint": 12,
     "outcome": "failed", "reason": "WorkerDict (pid 4711 on 10.0.0.7) died: its node left", "retried": true,
     "host": "judge-head", "pid": 1234}

`after`: the step that it went on after; `reached`: the last step that it finished; `checkpoint`: the newest one when it
ended, 0 for none; `host` and `pid`: of the process that makes the attempts. An attempt whose own process was killed has
no end; the next one notes that.
"""

from __future__ import annotations

import dataclasses
import json
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pairwise_rm.atomic_io import write_text
from pairwise_rm.errors import InputError
from pairwise_rm.train.failure import Failure

ATTEMPTS_FILE = "attempts.jsonl"
FIRST_PAUSE, LONGEST_PAUSE = 5.0, 300.0
"""Seconds before the second attempt, and the bound of what doubles with each one after it."""

Outcome = Literal["running", "done", "failed", "hung", "preempted", "stopped", "killed"]


@dataclass(frozen=True)
class Attempt:
    """Times are Unix seconds."""

    attempt: int
    began: float
    after: int
    ended: float | None = None
    reached: int | None = None
    checkpoint: int | None = None
    outcome: Outcome = "running"
    reason: str | None = None
    retried: bool = False
    host: str | None = None
    pid: int | None = None


def read_attempts(path: Path) -> list[Attempt]:
    """All attempts, oldest first. Raises InputError, with its number, for a line that is none."""
    if not path.is_file():
        return []
    known = {field.name for field in dataclasses.fields(Attempt)}
    found = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            found.append(Attempt(**{key: value for key, value in json.loads(line).items() if key in known}))
        except (ValueError, TypeError, AttributeError):
            raise InputError(f"{path}:{number}: not an attempt of pairwise-rm; remove the line") from None
    return found


class Attempts:
    """The attempts of a run folder, written as they begin and end."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._attempts = read_attempts(path)

    def begin(self, after: int) -> int:
        """Notes an attempt that goes on after this step; returns its number, from 1."""
        if self._attempts and self._attempts[-1].outcome == "running":
            self._attempts[-1] = dataclasses.replace(
                self._attempts[-1], outcome="killed", checkpoint=after, reason="ended without a word: it was killed"
            )
        number = self._attempts[-1].attempt + 1 if self._attempts else 1
        began, host = round(time.time(), 3), os.uname().nodename
        self._attempts.append(Attempt(number, began, after, host=host, pid=os.getpid()))
        self._write()
        return number

    def end(self, outcome: Outcome, reached: int, checkpoint: int, reason: str | None = None) -> None:
        """Notes how the running attempt has ended."""
        self._attempts[-1] = dataclasses.replace(
            self._attempts[-1],
            ended=round(time.time(), 3), reached=reached, checkpoint=checkpoint, outcome=outcome, reason=reason,
        )  # fmt: skip
        self._write()

    def retry(self) -> None:
        """Notes that the attempt which ended last is followed by another one of the same call."""
        self._attempts[-1] = dataclasses.replace(self._attempts[-1], retried=True)
        self._write()

    def _write(self) -> None:
        lines = [json.dumps(dataclasses.asdict(attempt), ensure_ascii=False) for attempt in self._attempts]
        write_text(self._path, "\n".join(lines) + "\n")


@dataclass(frozen=True)
class Ended:
    """An attempt of this call that has failed: where it began, the step that it reached, its newest checkpoint."""

    failure: Failure
    after: int
    reached: int
    checkpoint: int


def restarts_used(ended: Sequence[Ended]) -> int:
    """Failed attempts since the last new checkpoint, the one that made it included. Preempted ones do not count."""
    used = 0
    for one in reversed(ended):
        used += one.failure.kind != "preempted"
        if one.checkpoint > one.after:
            break
    return used


def why_no_more(ended: Sequence[Ended], restarts: int) -> str | None:
    """Why the failure that came last is not followed by another attempt; None when it is, "" where that needs no words.

    A failure that comes from what the run was given is final. So is an error of the program before any step was made,
    or the same kind of failure at the same step twice: memory or a defect, which the next attempt meets again.
    """
    last = ended[-1]
    kind = last.failure.kind
    if kind == "asked":
        return "the same command goes on"
    if kind == "final" or (kind == "program" and last.reached == 0):
        return "trying again cannot mend this"
    if kind in ("program", "memory") and len(ended) > 1:
        before = ended[-2]
        if (before.failure.kind, before.reached) == (kind, last.reached):
            return f"the same failure after step {last.reached} as in the attempt before"
    if restarts_used(ended) > restarts:
        return f"{restarts} restarts without a new checkpoint between them (train.restarts)" if restarts else ""
    return None


def pause_before_next(ended: Sequence[Ended]) -> float:
    """Seconds: none after a preemption, else doubling while no checkpoint is made."""
    used = restarts_used(ended)
    return min(FIRST_PAUSE * 2 ** (used - 1), LONGEST_PAUSE) if used else 0.0
