"""A notice that training has to end, and what can still be saved before it does.

A notice comes from Ray, when one of this job's nodes is being drained (`cluster/drain_node.py` in the pod that goes
asks for it), or from the file `save_and_end` in the run's train folder (`pairwise-rm stop` writes it). With one, the
running step is saved when it ends in time; when it cannot, and the weights are still those of the step before, that
step is. Nothing is begun that the deadline would tear.
"""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from pairwise_rm.atomic_io import write_text
from pairwise_rm.errors import first_line
from pairwise_rm.going_nodes import going_nodes
from pairwise_rm.train.metrics_file import read_steps

LOOK_SECONDS = 1.0
ASKED = "asked to save and end"
"""What a notice from the file says: the end was wanted, so no other attempt follows."""
_RECENT = 5
_Result = TypeVar("_Result")


@dataclass(frozen=True)
class Notice:
    """`what` happens, why if it is known, and when it ends: a Unix time, or None where there is no hurry."""

    what: str
    why: str = ""
    deadline: float | None = None

    @property
    def left(self) -> float | None:
        """Seconds until the deadline; below zero after it."""
        return None if self.deadline is None else self.deadline - time.time()

    def __str__(self) -> str:
        left = self.left
        within = [self.why] if self.why else []
        within += [] if left is None else [f"{max(0.0, left):.0f} s left"]
        return f"{self.what} ({', '.join(within)})" if within else self.what


# ---- the file ------------------------------------------------------------------------------------


def file_of(folder: Path) -> Path:
    """The file that asks for a save and the end, in a run's train folder."""
    return folder / "save_and_end"


def ask(folder: Path, deadline: float | None = None) -> None:
    """Asks the training that writes into this train folder to save and end, by `deadline` if there is one."""
    write_text(file_of(folder), "" if deadline is None else f"{deadline}\n")


def asked(folder: Path) -> Notice | None:
    """Whether a save and the end were asked for; a file without a number has no deadline."""
    try:
        content = file_of(folder).read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        return None
    try:
        deadline = float(content)
    except ValueError:
        deadline = None
    return Notice(ASKED, deadline=deadline)


def forget(folder: Path) -> None:
    """Removes what was asked before."""
    file_of(folder).unlink(missing_ok=True)


# ---- Ray's nodes ---------------------------------------------------------------------------------


def draining() -> Notice | None:
    """The first to go of the nodes that hold actors of this Ray job. About a millisecond where none is draining."""
    nodes = going_nodes()
    return Notice(f"node {nodes[0].name} is going", "preemption", nodes[0].deadline) if nodes else None


# ---- what can be saved ---------------------------------------------------------------------------


class Times(NamedTuple):
    """Seconds that a step takes until it can be saved, and those of a save; 0 where the run has not shown it yet."""

    step: float
    save: float


def learnt(metrics: Path) -> Times:
    """The shortest of the run's last steps, since a step that may end in time is worth waiting for; the last save."""
    lines = read_steps(metrics)
    after = ("timing_s/save_checkpoint", "timing_s/update_weights")
    steps = [
        line["timing_s/step"] - sum(line.get(name, 0.0) for name in after)
        for line in lines[-_RECENT:]
        if "timing_s/step" in line
    ]
    saves = [line[after[0]] for line in lines if after[0] in line]
    return Times(max(0.0, min(steps, default=0.0)), saves[-1] if saves else 0.0)


class Move(Enum):
    """What to do about a notice."""

    GO_ON = auto()
    SAVE = auto()
    END = auto()


def after_step(left: float | None, margin: float, save: float, saved: bool) -> Move:
    """Between two steps. `saved`: the last finished step has a checkpoint."""
    if saved:
        return Move.END
    return Move.SAVE if left is None or left - margin >= save else Move.END


def within_step(left: float | None, margin: float, times: Times, elapsed: float, saved: bool, whole: bool) -> Move:
    """While a step runs, `elapsed` seconds after its begin.

    Args:
        left: seconds until the deadline.
        margin: seconds before it at which everything has to be done.
        saved: the last finished step has a checkpoint, so ending now costs nothing of it.
        whole: the weights are still those of the last finished step, so it can be saved now.
    """
    if left is None:
        return Move.GO_ON
    room = left - margin - times.save
    if max(times.step - elapsed, LOOK_SECONDS) <= room:
        return Move.GO_ON
    if saved or room < 0:
        return Move.END
    return Move.SAVE if whole else Move.GO_ON


# ---- looking while a step runs -------------------------------------------------------------------


class Interrupted(Exception):
    """The block was ended because of a notice."""

    def __init__(self, notice: Notice, move: Move) -> None:
        super().__init__(str(notice))
        self.notice, self.move = notice, move


class Watch:
    """Looks for a notice once a second in a thread, and can interrupt what the main thread does.

    Ray's waits return when a signal handler raises KeyboardInterrupt, so a step that waits for minutes can be left.
    """

    def __init__(self, look: Callable[[], Notice | None], seconds: float = LOOK_SECONDS) -> None:
        self.notice: Notice | None = None
        self._look, self._seconds = look, seconds
        self._lock, self._stopped = threading.Lock(), threading.Event()
        self._due: Callable[[Notice], Move] | None = None
        self._fired: Interrupted | None = None
        self._raised = False

    @contextlib.contextmanager
    def looking(self) -> Iterator[None]:
        """The thread and the signal handler, for a block in the main thread."""
        previous = signal.signal(signal.SIGUSR1, self._handle)
        thread = threading.Thread(target=self._run, args=(threading.get_ident(),), daemon=True, name="notices")
        thread.start()
        try:
            yield
        finally:
            self._stopped.set()
            thread.join(2)  # a question to Ray's head that is away does not return
            signal.signal(signal.SIGUSR1, previous)

    def call(self, due: Callable[[Notice], Move], work: Callable[[], _Result]) -> _Result:
        """What `work` returns. Raises Interrupted as soon as `due` wants another move than to go on.

        No context manager: a signal that comes as one is left is raised outside of it.
        """
        try:
            try:
                self._set(due)
                result = work()
            finally:
                self._set(None)
            if self._fired:
                self._raised = True  # from here on its signal, if it has not come yet, raises nothing
        except BaseException:
            # Whatever the interruption has become on its way.
            if self._fired:
                raise self._fired from None
            raise
        if self._fired:
            raise self._fired
        return result

    def _set(self, due: Callable[[Notice], Move] | None) -> None:
        with self._lock:
            self._due = due

    def _handle(self, *_: Any) -> None:
        if self._fired and not self._raised:
            self._raised = True
            raise KeyboardInterrupt

    def _run(self, main: int) -> None:
        failed = False
        while not self._stopped.wait(self._seconds):
            try:
                found = self._look()
                failed = False
            except (RuntimeError, OSError, ValueError) as error:
                # Training itself ends when Ray is away for good.
                if not failed:
                    print(f"warning: cannot look for draining nodes: {first_line(error)}", flush=True)
                failed = True
                continue
            if found and not self.notice:
                print(f"notice: {found}", flush=True)
            self.notice = found or self.notice
            if self.notice:
                self._interrupt(main, self.notice)

    def _interrupt(self, main: int, notice: Notice) -> None:
        with self._lock:
            if self._due is None or self._fired:
                return
            move = self._due(notice)
            if move is not Move.GO_ON:
                self._fired = Interrupted(notice, move)
                signal.pthread_kill(main, signal.SIGUSR1)
