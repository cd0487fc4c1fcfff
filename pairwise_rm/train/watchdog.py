"""Runs the driver process and follows it: phases from its log, steps from its metrics; ends it when it hangs.

The driver's output goes to train.log; the user sees a line per phase, a line per step and, on failure, one line with
the cause. A driver without output for `train.stall_timeout` seconds is ended: a vLLM worker that dies during weight
sync leaves verl waiting for good.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pairwise_rm.errors import StageError
from pairwise_rm.recipe.model import Recipe
from pairwise_rm.run_folder import RunFolder
from pairwise_rm.signals import sigterm_raises
from pairwise_rm.train.metrics_file import read_steps


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
_CAUSE = re.compile(r"^(?:\([^)]*\)\s*)?((?:[\w.]+\.)?(?:\w*(?:Error|Exception)|Interrupted|Preempted): .*)$")


def run_driver(
    recipe: Recipe,
    folder: RunFolder,
    environment: Mapping[str, str],
    first: int,
    last: int,
    watch: Watch | None,
    driver: Sequence[str] = (sys.executable, "-m", "pairwise_rm.train.verl_driver"),
) -> None:
    """Runs the driver to its end. Raises StageError with its cause when it fails or hangs."""
    log = folder.train / "train.log"
    command = [*driver, str(folder.train / "launch.json")]
    with open(log, "ab") as output:
        begin = output.tell()
        process = subprocess.Popen(
            command, stdout=output, stderr=subprocess.STDOUT, env={**environment, "PYTHONUNBUFFERED": "1"},
            start_new_session=True,
        )  # fmt: skip
    with _ended(process):
        follower = _Follower(log, begin, folder.metrics, first, last, watch)
        while process.poll() is None:
            time.sleep(0.3)
            follower.look()
            if follower.silent_for() > recipe.train.stall_timeout:
                raise StageError(
                    f"training said nothing for {recipe.train.stall_timeout} s (train.stall_timeout) after "
                    f"{follower.where()}; ended. See {log}"
                )
        follower.look()
        if process.returncode:
            raise StageError(_cause(log, begin, process.returncode))


@contextlib.contextmanager
def _ended(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """Ends the driver and all it started, whatever happens; SIGTERM becomes KeyboardInterrupt meanwhile."""

    try:
        with sigterm_raises(KeyboardInterrupt()):
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
    def __init__(self, log: Path, begin: int, metrics: Path, first: int, last: int, watch: Watch | None) -> None:
        self.log, self.position, self.metrics = log, begin, metrics
        self.next_step, self.last, self.watch = first, last, watch
        self.phase = "starting Ray"
        self.heard = time.monotonic()
        self._report(None)

    def look(self) -> None:
        with open(self.log, "rb") as handle:
            handle.seek(self.position)
            new = handle.read()
        self.position += len(new)
        if new:
            self.heard = time.monotonic()
            text = new.decode(errors="replace")
            for mark, phase in _PHASES:
                if mark in text and self.phase != phase:
                    self.phase = phase
                    self._report(None)
        for line in read_steps(self.metrics):
            if line["step"] >= self.next_step:
                self.next_step = line["step"] + 1
                self.heard = time.monotonic()
                self._report(line)

    def _report(self, metrics: dict[str, Any] | None) -> None:
        if self.watch:
            self.watch(DriverProgress(self.next_step - 1, self.last, self.phase, metrics))

    def silent_for(self) -> float:
        return time.monotonic() - self.heard

    def where(self) -> str:
        return f"step {self.next_step - 1}" if self.phase == "first step" else f"{self.phase!r}"


def _cause(log: Path, begin: int, code: int) -> str:
    with open(log, "rb") as handle:
        handle.seek(begin)
        lines = handle.read().decode(errors="replace").splitlines()
    causes = [match.group(1) for line in lines if (match := _CAUSE.match(line.strip()))]
    ours = [cause for cause in causes if cause.startswith("pairwise_rm.errors.")]
    # Ray wraps an actor's error in its own; the innermost stands last before Ray's.
    others = [cause for cause in causes if not cause.startswith("ray.")]
    chosen = (ours or others or causes or [f"verl ended with exit code {code}"])[-1]
    chosen = re.sub(r"^pairwise_rm\.errors\.\w+: ", "", chosen)
    return f"training failed: {chosen} (see {log})"
