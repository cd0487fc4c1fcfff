"""Attempts at one training, one after the other, until it is done or trying again makes no sense.

What is under the driver may go at any time: a worker pod, vLLM's engine, a Ray process, the network. The supervisor
then says why in one line, ends what is left of the attempt, waits until the GPUs are there again, and goes on from the
newest checkpoint that is whole.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from pairwise_rm.errors import InputError, StageError
from pairwise_rm.progress import Retry
from pairwise_rm.ray_session import cluster_address
from pairwise_rm.recipe.model import Recipe
from pairwise_rm.run_folder import RunFolder
from pairwise_rm.train import attempt_processes, checkpoints, preemption
from pairwise_rm.train.attempts import (
    ATTEMPTS_FILE,
    Attempts,
    Ended,
    Outcome,
    pause_before_next,
    restarts_used,
    why_no_more,
)
from pairwise_rm.train.failure import Failure, Kind
from pairwise_rm.train.lost_node import what_became_of
from pairwise_rm.train.metrics_file import read_steps
from pairwise_rm.train.preflight import check_cluster
from pairwise_rm.train.watchdog import DriverFailed, Watch, run_driver

_WHOLE_AGAIN_SECONDS = 900.0
_POLL_SECONDS = 5.0


@dataclass(frozen=True)
class Hooks:
    """What a supervisor calls: `acquire` waits for GPUs, `prepare` writes the run folder for an attempt that goes on
    from this checkpoint and is marked so and returns the driver's environment, `tell` hears of each retry.
    """

    prepare: Callable[[Path | None, str], Mapping[str, str]]
    acquire: Callable[[], None] | None = None
    watch: Watch | None = None
    warn: Callable[[str], None] | None = None
    tell: Callable[[Retry], None] | None = None


class Supervisor:
    """Trains one run up to step `last`."""

    def __init__(self, recipe: Recipe, folder: RunFolder, last: int, hooks: Hooks) -> None:
        self._recipe, self._folder, self._last, self._hooks = recipe, folder, last, hooks
        self._ended: list[Ended] = []

    def run(self, start: Path | None) -> Path:
        """Attempts from this checkpoint on; returns the newest one.

        Raises StageError with the cause of the last failure, and why it is the last, and KeyboardInterrupt when it is
        stopped.
        """
        attempts: Attempts | None = None
        while True:
            self._gpus()
            mark, after = uuid.uuid4().hex[:12], checkpoints.step_of(start) if start else 0
            environment = self._hooks.prepare(start, mark)
            attempts = attempts or Attempts(self._folder.train / ATTEMPTS_FILE)
            number = attempts.begin(after)
            try:
                self._drive(environment, mark, after)
            except DriverFailed as error:
                start = self._note(attempts, error.failure, after)
                failure = self._ended[-1].failure
                final = why_no_more(self._ended, self._recipe.train.restarts)
                if final is None and preemption.asked(self._folder.train):
                    final = f"{preemption.ASKED}, so it is not tried again; the same command goes on"
                if final is not None:
                    whole = DriverFailed(failure, self._folder.train / "train.log")
                    raise StageError(f"{whole}{f'; {final}' if final else ''}") from error
                self._clean(mark)
                attempts.retry()
                self._wait(number + 1, failure, start)
            except BaseException as error:
                outcome: Outcome = "stopped" if isinstance(error, KeyboardInterrupt) else "failed"
                step = self._newest_step()
                attempts.end(outcome, self._reached(after), step, str(error) or None)
                if outcome == "stopped" and self._hooks.warn:
                    self._hooks.warn(f"stopped; the same command goes on after step {step}")
                raise
            else:
                attempts.end("done", self._last, self._last)
                return checkpoints.sealed(self._folder.checkpoints)[-1]

    def _drive(self, environment: Mapping[str, str], mark: str, after: int) -> None:
        run_driver(
            self._recipe, self._folder, environment, first=after + 1, last=self._last, watch=self._hooks.watch,
            attempt=mark,
        )  # fmt: skip
        written = checkpoints.sealed(self._folder.checkpoints)  # and read back by verl's driver
        if not written or checkpoints.step_of(written[-1]) < self._last:
            log = self._folder.train / "train.log"
            raise DriverFailed(Failure("program", f"verl ended without a checkpoint of step {self._last}"), log)

    def _gpus(self) -> None:
        """Waits for the GPUs. After a failure the node that had them may be gone, and another one on its way."""
        if self._hooks.acquire:
            self._hooks.acquire()
        end = time.monotonic() + (_WHOLE_AGAIN_SECONDS if self._ended and cluster_address() else 0)
        while True:
            try:
                check_cluster(self._recipe)
                return
            except InputError:
                if time.monotonic() >= end:
                    raise
                time.sleep(_POLL_SECONDS)

    def _note(self, attempts: Attempts, failure: Failure, after: int) -> Path | None:
        """Records the failure; returns the newest checkpoint that is whole."""
        failure = self._with_node(failure)
        start = checkpoints.newest(self._folder.checkpoints, self._hooks.warn)
        step, reached = checkpoints.step_of(start) if start else 0, self._reached(after)
        self._ended.append(Ended(failure, after, reached, step))
        outcomes: dict[Kind, Outcome] = {"preempted": "preempted", "hung": "hung", "asked": "stopped"}
        outcome = outcomes.get(failure.kind, "failed")
        attempts.end(outcome, reached, step, failure.cause)
        return start

    def _with_node(self, failure: Failure) -> Failure:
        """With the pod that is gone, where one is: its processes' ends are what that looks like from inside."""
        if not failure.ip or cluster_address() is None:
            return failure
        left = what_became_of(failure.ip, self._recipe.device)
        return failure._replace(cause=f"{failure.cause}; {left}") if left else failure

    def _clean(self, mark: str) -> None:
        """Ends what the driver's end has left: an engine whose actor was killed goes on and keeps its GPU."""
        left = attempt_processes.kill(mark, self._recipe.device)
        if left and self._hooks.warn:
            self._hooks.warn(f"what is left of the attempt could not be ended everywhere: {left}")

    def _wait(self, number: int, failure: Failure, start: Path | None) -> None:
        pause, step = pause_before_next(self._ended), checkpoints.step_of(start) if start else 0
        left = self._recipe.train.restarts - restarts_used(self._ended)
        if self._hooks.tell:
            self._hooks.tell(Retry(number, left, step, pause, failure.cause))
        end = time.monotonic() + pause
        while not preemption.asked(self._folder.train):
            if (left_over := end - time.monotonic()) <= 0:
                return
            time.sleep(min(left_over, preemption.LOOK_SECONDS))
        raise StageError(f"{preemption.ASKED} between two attempts; the same command goes on after step {step}")

    def _reached(self, after: int) -> int:
        return max((line["step"] for line in read_steps(self._folder.metrics)), default=after)

    def _newest_step(self) -> int:
        found = checkpoints.sealed(self._folder.checkpoints)
        return checkpoints.step_of(found[-1]) if found else 0
