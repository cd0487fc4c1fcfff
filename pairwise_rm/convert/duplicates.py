"""Finds pairs that occurred before, in memory that does not grow with their number.

SQLite's private temporary database holds one small row a pair (its 64-bit id and who won); it lives in a cache
of fixed size and spills into a private temporary file when that is full.
"""

from __future__ import annotations

import sqlite3
from types import TracebackType
from typing import Literal

from pairwise_rm.contract.rows import Pair
from pairwise_rm.errors import StageError

Repeat = Literal["duplicate", "contradictory"]

_CACHE_KIB = 16 << 10


class SeenPairs:
    """`repeated(pair, identity)` is None for a new pair, and says how a known one comes back:

    "duplicate"       the same prompt and responses with the same preferred response, in whichever order
    "contradictory"   the same prompt and responses with another preferred response
    """

    def __init__(self) -> None:
        self._database = sqlite3.connect("", isolation_level=None)
        self._database.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
        self._database.execute("PRAGMA journal_mode = OFF")
        self._database.execute("CREATE TABLE seen (pair INTEGER PRIMARY KEY, winner INTEGER NOT NULL)")
        self._database.execute("BEGIN")
        self._cursor = self._database.cursor()

    def __enter__(self) -> SeenPairs:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._database.close()

    def repeated(self, pair: Pair, identity: str) -> Repeat | None:
        key = int.from_bytes(bytes.fromhex(identity), "big", signed=True)
        winner = _winner(pair)
        try:
            self._cursor.execute("INSERT OR IGNORE INTO seen VALUES (?, ?)", (key, winner))
            if self._cursor.rowcount:
                return None
            (known,) = self._cursor.execute("SELECT winner FROM seen WHERE pair = ?", (key,)).fetchone()
        except sqlite3.OperationalError as error:
            raise StageError(f"looking for duplicates needs room in the temporary folder (TMPDIR): {error}") from error
        return "duplicate" if known == winner else "contradictory"


def _winner(pair: Pair) -> int:
    """The winner whichever response the source names first: 0 none, 1 the smaller text, 2 the greater."""
    if pair.preferred == "tie":
        return 0
    first, second = pair.responses
    return 1 if (first < second) == (pair.preferred == "A") else 2
