"""Reading each new checkpoint back in a thread, while training goes on; only then `latest` moves and older ones go."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from pairwise_rm.errors import InputError, StageError
from pairwise_rm.train import checkpoints


class ReadBack:
    """One that is damaged already is set aside; after two in a row `wait` raises."""

    def __init__(self, keep: int) -> None:
        self._keep = keep
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._reading: Future[None] | None = None
        self._damaged: list[Path] = []

    def begin(self, folder: Path) -> None:
        """Seals a checkpoint that was saved just now, so that a run which ends here resumes from it; reads it back."""
        self.wait()
        checkpoints.seal(folder)
        self._reading = self._thread.submit(self._read_back, folder)

    def wait(self, last: bool = False) -> None:
        """Waits until the checkpoint is read back.

        Raises StageError when it and the one before it were damaged, or it alone and it is the last.
        """
        if self._reading is not None:
            self._reading.result()
            self._reading = None
        if len(self._damaged) >= (1 if last else 2):
            raise StageError(f"{self._damaged[-1]}: damaged when it was read back right after the save; see train.log")

    def _read_back(self, folder: Path) -> None:
        try:
            checkpoints.seal_with_checksums(folder)
        except InputError as error:
            self._damaged.append(folder)
            print(f"warning: {error}; set aside as {checkpoints.set_aside(folder, 'damaged').name}", flush=True)
            return
        self._damaged = []
        checkpoints.point_latest_at(folder)
        checkpoints.prune(folder.parent, self._keep)
