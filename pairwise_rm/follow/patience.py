"""Asking a cluster again and again for hours: an API server that restarts is no end, one that stays away is."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from pairwise_rm.follow.faults import OutOfReach

_PAUSE_SECONDS = 5.0
_PATIENCE_SECONDS = 300.0

T = TypeVar("T")


def patiently(ask: Callable[[], T], say: Callable[[str], None]) -> T:
    """What `ask` returns, asked again while the API server is out of reach. Raises OutOfReach after five minutes."""
    end = time.monotonic() + _PATIENCE_SECONDS
    told = False
    while True:
        try:
            return ask()
        except OutOfReach as error:
            if time.monotonic() > end:
                raise
            if not told:
                say(f"{error}; asking again")
                told = True
            time.sleep(_PAUSE_SECONDS)
