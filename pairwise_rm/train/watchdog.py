"""Runs the driver process and follows it: loading from its log, steps from its metrics; ends it when it hangs.

The driver's output goes to train.log; the user sees a line per phase of loading, a line per step and, on failure, one
line with the cause. A driver hangs when nothing has come of it (no step, no phase, no prompt's rollouts) for several
times as long as this phase has ever taken; a phase that it has not been through before has `train.stall_timeout`. A
vLLM worker that dies during weight sync, for one, leaves verl waiting for good. The stacks of all processes are kept.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from pairwise_rm.atomic_io import write_text
from pairwise_rm.errors import StageError
from pairwise_rm.progress import duration
from pairwise_rm.recipe.model import Recipe
from pairwise_rm.run_folder import RunFolder
from pairwise_rm.signals import SigtermNoted
from pairwise_rm.train import attempt_processes, preemption
from pairwise_rm.train.failure import Failure, ended_with, failure_in
from pairwise_rm.train.metrics_file import read_steps
from pairwise_rm.train.phases import PHASE_FILE, Phase, read_phase


class DriverProgress(NamedTuple):
    """`metrics` is None while a phase before the first step goes on; `phase` then says which."""

    step: int
    last: int
    phase: str
    metrics: dict[str, Any] | None

    @property
    def holds_gpus(self) -> bool:
        """Whether verl's actors are placed, so that the cluster cannot lose their nodes as idle."""
        return self.metrics is not None or self.phase in _PHASES_ON_GPUS


Watch = Callable[[DriverProgress], None]

# What verl logs, and the phase that the user sees for it.
_PHASES = (
    ("Started a local Ray instance", "Ray is up"),
    ("Connected to Ray cluster", "connected to Ray"),
    ("samples, dropped:", "data loaded"),
    ("actor and ref model engine initialized", "actor and reference loaded"),
    ("all initialize finished", "vLLM loaded, ready to roll out"),
    ("Training Progress", "first step"),
)
_PHASES_ON_GPUS = ("actor and reference loaded", "vLLM loaded, ready to roll out", "first step")
_SLOWEST_OF = 5
_HUNG_AFTER = 5.0
"""Times as long as the slowest of the phase's last ones."""
_SHORTEST_BOUND = 120.0
"""Seconds: a machine that swaps or a volume that is away for a moment is no reason to throw a step away."""


class DriverFailed(StageError):
    """The driver has ended without being done. `hung` counts as lost: another attempt may get through."""

    def __init__(self, failure: Failure, log: Path) -> None:
        self.failure = failure
        what = "ended" if failure.kind in ("asked", "preempted") else "failed"
        super().__init__(f"training {what}: {failure.cause} (see {log})")


def run_driver(
    recipe: Recipe,
    folder: RunFolder,
    environment: Mapping[str, str],
    first: int,
    last: int,
    watch: Watch | None,
    driver: Sequence[str] = (sys.executable, "-m", "pairwise_rm.train.verl_driver"),
    attempt: str = "",
) -> None:
    """Runs the driver to its end.

    Args:
        first, last: the steps that it is to make.
        attempt: marks its processes, so that their stacks are found when it hangs.

    Raises DriverFailed with its cause when it fails or hangs, KeyboardInterrupt on SIGTERM once it has had
    `train.stop_grace` seconds to save.
    """
    log = folder.train / "train.log"
    command = [*driver, str(folder.train / "launch.json")]
    (folder.train / PHASE_FILE).unlink(missing_ok=True)
    # Before the driver is there, so that it never runs on without us.
    with SigtermNoted() as terminated, open(log, "ab") as output:
        begin = output.tell()
        process = subprocess.Popen(
            command, stdout=output, stderr=subprocess.STDOUT, env={**environment, "PYTHONUNBUFFERED": "1"},
            start_new_session=True,
        )  # fmt: skip
        with _ended(process):
            follower = _Follower(log, begin, folder, first, last, watch, recipe.train.stall_timeout)
            while process.poll() is None:
                time.sleep(0.3)
                follower.look()
                if terminated.at is not None:
                    _let_it_save(process, follower, recipe.train.stop_grace)
                if reason := follower.hangs():
                    where = _keep_stacks(folder, attempt, recipe)
                    raise DriverFailed(Failure("hung", f"{reason}; {where}"), log)
            follower.look()
            if process.returncode:
                raise DriverFailed(failure_since(log, follower.mark, begin, process.returncode), log)


def _let_it_save(process: subprocess.Popen[bytes], follower: _Follower, grace: float) -> NoReturn:
    """Gives the driver the time that SIGTERM leaves to end its step and save; raises KeyboardInterrupt then."""
    end = time.monotonic() + grace
    if grace:
        preemption.ask(follower.folder.train, time.time() + grace)
    while process.poll() is None and time.monotonic() < end:
        time.sleep(0.2)
        follower.look()
    raise KeyboardInterrupt


def _keep_stacks(folder: RunFolder, attempt: str, recipe: Recipe) -> str:
    """Writes the stacks of the attempt's processes into the run folder; says where, or that there are none."""
    target = folder.train / "stacks" / f"{attempt or 'driver'}.txt"
    write_text(target, attempt_processes.stacks(attempt, recipe.device))
    return f"stacks in {target}"


@contextlib.contextmanager
def _ended(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """Ends the driver and all it started, whatever happens."""
    try:
        yield
    finally:
        if process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                # The driver alone first: Ray then ends its own workers.
                os.kill(process.pid, signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(15)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


class _Follower:
    """What has come of the driver. `mark`: where its log stood when its last step was done."""

    def __init__(
        self, log: Path, begin: int, folder: RunFolder, first: int, last: int, watch: Watch | None, longest: float
    ) -> None:
        self.log, self.position, self.mark, self.folder = log, begin, begin, folder
        self.next_step, self.last, self.watch = first, last, watch
        self.loading = "starting Ray"
        self.heard = time.monotonic()
        self._clock = PhaseClock(longest)
        self._phase: Phase | None = None
        self._report(None)

    def look(self) -> None:
        with open(self.log, "rb") as handle:
            handle.seek(self.position)
            new = handle.read()
        self.position += len(new)
        if new:
            text = new.decode(errors="replace")
            for mark, phase in _PHASES:
                if mark in text and self.loading != phase:
                    self.loading = phase
                    self._heard(phase)
                    self._report(None)
        if (phase_now := read_phase(self.folder.train / PHASE_FILE)) and phase_now != self._phase:
            self._phase = phase_now
            self._heard(phase_now.name)
        for line in read_steps(self.folder.metrics):
            if line["step"] >= self.next_step:
                self.next_step = line["step"] + 1
                self.mark = self.position
                self._heard(None)
                self._report(line)

    def _heard(self, phase: str | None) -> None:
        self.heard = time.monotonic()
        if phase:
            self._clock.enter(phase, self.heard)

    def _report(self, metrics: dict[str, Any] | None) -> None:
        if self.watch:
            self.watch(DriverProgress(self.next_step - 1, self.last, self.loading, metrics))

    def silent_for(self) -> float:
        return time.monotonic() - self.heard

    def hangs(self) -> str | None:
        """Why the driver counts as hung; None while it does not."""
        bound, why = self._clock.bound()
        if self.silent_for() <= bound:
            return None
        return f"nothing came of training for {duration(bound)} ({why}) in {self.where()}"

    def where(self) -> str:
        if self._phase:
            return str(self._phase)
        return f"step {self.next_step - 1}" if self.loading == "first step" else f"{self.loading!r}"


class PhaseClock:
    """How long each phase may be silent, learnt from how long it has taken."""

    def __init__(self, longest: float) -> None:
        self._longest = longest
        self._seconds: dict[str, deque[float]] = {}
        self._now: tuple[str, float] | None = None

    def enter(self, phase: str, at: float) -> None:
        """Notes that a phase begins, or goes on, at this time (monotonic seconds)."""
        if self._now and self._now[0] == phase:
            return
        if self._now:
            name, began = self._now
            self._seconds.setdefault(name, deque(maxlen=_SLOWEST_OF)).append(at - began)
        self._now = (phase, at)

    def bound(self) -> tuple[float, str]:
        """Seconds of silence after which the phase counts as hung, and where that comes from."""
        known = self._seconds.get(self._now[0]) if self._now else None
        learnt = max(_SHORTEST_BOUND, _HUNG_AFTER * max(known)) if known else self._longest
        if learnt >= self._longest:
            return self._longest, "train.stall_timeout"
        return learnt, f"its slowest of late took {duration(max(known or [0.0]))}"


def failure_since(log: Path, mark: int, begin: int, exit_code: int) -> Failure:
    """The failure told by the log after its last step; where nothing is told there, after the attempt's begin."""
    with open(log, "rb") as handle:
        handle.seek(begin)
        text = handle.read()
    parts = (text[mark - begin :], text)
    found = (failure_in(part.decode(errors="replace").splitlines()) for part in parts)
    return next((failure for failure in found if failure), None) or ended_with(exit_code)
