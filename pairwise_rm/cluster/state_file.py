"""A stage's state, as a file in the shared volume that the stages after it read.

    <run>/stages/train.json
    {"stage": "train", "digest": "3f2a...", "state": "running", "since": 1760000000.0, "heartbeat": 1760000310.2,
     "progress": {"v": 1, "stage": "train", "event": "step", "step": 3, ...}, "error": null, "v": 1}

It is replaced as a whole and refreshed every few seconds, so a reader on another node can tell a running stage from one
whose pod is gone. `digest` is that of the stage's recipe file: a state with another digest belongs to another recipe.
`attempt` tells a run that was asked for again from the one before it, with the same recipe.
`progress` is the newest line of `pairwise_rm.progress`.
"""

from __future__ import annotations

import dataclasses
import json
import threading
import time
from pathlib import Path
from typing import Any, Literal

from pairwise_rm.atomic_io import write_json
from pairwise_rm.cluster.ray_job import own_submission_id
from pairwise_rm.errors import PairwiseError, StageError, missing_extra
from pairwise_rm.progress import Line
from pairwise_rm.recipe.model import Recipe
from pairwise_rm.run_folder import RunFolder

HEARTBEAT_SECONDS = 10.0
LOST_SECONDS = 600.0
"""A stage that should be writing and has not for this time is gone: an order of magnitude above what NFS caches."""

State = Literal["waiting", "running", "retrying", "succeeded", "failed"]
"""`retrying`: an attempt of the stage has failed, and it tries again by itself."""


@dataclasses.dataclass(frozen=True)
class StageState:
    """`since`: when this state began; `heartbeat`: when the stage last wrote; both Unix seconds of its own clock.
    `ray_job`: the id under which the stage was submitted to Ray.
    """

    stage: str
    digest: str
    state: State
    since: float
    heartbeat: float
    progress: dict[str, Any] | None = None
    error: str | None = None
    ray_job: str | None = None
    attempt: str = ""
    v: int = 1

    @property
    def ended(self) -> bool:
        return self.state in ("succeeded", "failed")

    @property
    def progress_text(self) -> str:
        """The newest progress in words; empty if unknown."""
        line = Line.of(self.progress)
        return str(line.event) if line and line.event else ""


class Silence:
    """For how long a stage that has not ended has written nothing, as the reader of its state sees it.

    The heartbeat is only compared with itself: the writer's clock may differ from the reader's, and may be set.
    """

    def __init__(self) -> None:
        self._last: StageState | None = None
        self._changed = time.monotonic()

    def of(self, state: StageState | None) -> float:
        """Seconds since the state, which is read again and again, changed last; 0 for one that has ended."""
        now = time.monotonic()
        if state != self._last or state is None or state.ended:
            self._last, self._changed = state, now
        return now - self._changed


def state_file(recipe: Recipe, stage: str) -> Path:
    """Converted pairs serve many runs, so convert's state lies beside them; the others' in the run folder."""
    folder = RunFolder.of(recipe)
    return (folder.data if stage == "convert" else folder.root) / "stages" / f"{stage}.json"


def read_state(path: Path) -> StageState | None:
    """The state in a file, or None where no stage has written one. Raises StageError for a damaged file."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        known = {field.name for field in dataclasses.fields(StageState)}  # a later version may have more fields
        return StageState(**{key: value for key, value in value.items() if key in known})
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, AttributeError) as error:
        raise StageError(f"{path}: damaged: {error}; remove it to run this stage again") from error


def renew(path: Path, state: StageState) -> None:
    """Writes a state that has ended as one that ends now: a run of its recipe has found that nothing is left to do.

    A stage that waits for this run would take the earlier time for the end of a run before it.
    """
    now = time.time()
    write_json(path, dataclasses.asdict(dataclasses.replace(state, since=now, heartbeat=now)))


class StateWriter:
    """Writes a stage's state while the block runs, and its outcome at the end.

        with StateWriter(path, "train", digest) as state:
            state.now("waiting")
            ...
            state.now("running")

    An error in the block is recorded as the failure's one line, and propagates.
    """

    def __init__(self, path: Path, stage: str, digest: str, attempt: str = "") -> None:
        self.path = path
        self._lock = threading.Lock()
        self._end = threading.Event()
        began = time.time()
        self._state = StageState(stage, digest, "waiting", began, began, ray_job=own_submission_id(), attempt=attempt)
        self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)
        self._write_error: StageError | None = None

    def __enter__(self) -> StateWriter:
        self._write()
        self._thread.start()
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self._end.set()
        self._thread.join()
        if error is None:
            self.now("succeeded")
        else:
            self.now("failed", error=sentence_of(error))
        if error is None and self._write_error:
            raise self._write_error

    def now(self, state: State, line: Line | None = None, error: str | None = None) -> None:
        """Records that the stage is in this state."""
        self._change(state=state, since=time.time(), progress=line and line.as_json(), error=error)
        self._write()

    def say(self, line: Line) -> None:
        """Records the progress; written with the next heartbeat."""
        self._change(progress=line.as_json())

    def _change(self, **changes: Any) -> None:
        with self._lock:
            self._state = dataclasses.replace(self._state, **changes)

    def _write(self) -> None:
        with self._lock:
            self._state = dataclasses.replace(self._state, heartbeat=time.time())
            write_json(self.path, dataclasses.asdict(self._state))

    def _beat(self) -> None:
        while not self._end.wait(HEARTBEAT_SECONDS):
            try:
                self._write()
                self._write_error = None
            except StageError as error:
                # One failed write must not end hours of training; if the volume stays away, the last write raises.
                self._write_error = error


def sentence_of(error: BaseException) -> str:
    """Why the stage ended, in one line."""
    if isinstance(error, PairwiseError):
        return "; ".join(str(error).splitlines())
    if isinstance(error, KeyboardInterrupt):
        return "stopped before it was done"
    if isinstance(error, ModuleNotFoundError) and (sentence := missing_extra(error)):
        return sentence
    return f"{type(error).__name__}: {error}".splitlines()[0]
