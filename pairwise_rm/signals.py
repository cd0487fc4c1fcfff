"""SIGTERM as an exception, so that cleanup runs as it does on any other error, or as a request to end soon."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Iterator
from typing import Any


@contextlib.contextmanager
def sigterm_raises(error: BaseException) -> Iterator[None]:
    """Raises `error` in the block on SIGTERM, and restores the handler afterwards. Main thread only."""

    def interrupt(*_: Any) -> None:
        raise error

    previous = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


class SigtermNoted:
    """Notes when SIGTERM comes in the block (`at`, monotonic seconds); a second one is raised as KeyboardInterrupt.

    Outside of the main thread, which alone gets signals, nothing is noted.
    """

    def __init__(self) -> None:
        self.at: float | None = None
        self._previous: Any = None

    def __enter__(self) -> SigtermNoted:
        if threading.current_thread() is threading.main_thread():
            self._previous = signal.signal(signal.SIGTERM, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        if self._previous is not None:
            signal.signal(signal.SIGTERM, self._previous)

    def _note(self, *_: object) -> None:
        if self.at is not None:
            raise KeyboardInterrupt
        self.at = time.monotonic()
