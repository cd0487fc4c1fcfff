"""Asks a training that runs, in whatever process, to save after its running step and to end."""

from __future__ import annotations

import os
from pathlib import Path

from pairwise_rm.errors import InputError
from pairwise_rm.train import preemption
from pairwise_rm.train.attempts import ATTEMPTS_FILE, Attempt, read_attempts


def stop(folder: Path) -> str:
    """Asks the training that writes into this train folder, and says in one line what is to be expected.

    Raises InputError where no training has begun.
    """
    attempts = read_attempts(folder / ATTEMPTS_FILE)
    if not attempts:
        raise InputError(f"{folder}: no training has begun here; expected a recipe, or the folder of a run")
    last = attempts[-1]
    running = is_running(last)
    if running is False:
        return f"{folder}: nothing is running; {_ended(last)}"
    if preemption.asked(folder):
        return f"{folder}: asked already; the training ends after its running step"
    preemption.ask(folder)
    which = "the training" if running else f"the training on {last.host or 'another machine'}, if it is still there,"
    return f"{folder}: asked; {which} saves after its running step and ends, and the same command goes on later"


def is_running(attempt: Attempt) -> bool | None:
    """Whether the process that made this attempt is there and has not given up; None where this machine cannot say."""
    if attempt.outcome != "running" and not attempt.retried:
        return False
    if attempt.pid is None or attempt.host != os.uname().nodename:
        return None
    try:
        os.kill(attempt.pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True  # another user's
    return True


def _ended(attempt: Attempt) -> str:
    if attempt.outcome == "done":
        return f"training is done, up to step {attempt.reached}"
    saved = attempt.checkpoint if attempt.checkpoint is not None else attempt.after
    how = "was killed" if attempt.outcome == "running" else f"has ended ({attempt.outcome})"
    return f"the last attempt {how}, and the next one goes on after step {saved}"
