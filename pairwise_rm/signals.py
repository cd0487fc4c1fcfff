"""SIGTERM as an exception, so that cleanup runs as it does on any other error."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from typing import Any


@contextlib.contextmanager
def sigterm_raises(error: BaseException) -> Iterator[None]:
    """Raises `error` in the block when SIGTERM comes; the handler from before is back afterwards. Main thread only."""

    def interrupt(*_: Any) -> None:
        raise error

    previous = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)
