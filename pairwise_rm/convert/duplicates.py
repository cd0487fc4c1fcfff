"""Finds repeated pairs, and labels of one pair that contradict each other, in memory that does not grow with them.

A private temporary SQLite database holds one small row per pair (its 64-bit id, the winner, the strength, its place in
the source), and one per winner of a repeated pair, in a cache of fixed size that spills into a temporary file.

A row is kept as soon as it is read, since most pairs come once. Where a later row changes that, `is_wrong` becomes true
and the source is read again: `settle` makes the same calls answer from all rows.
"""

from __future__ import annotations

import sqlite3
from types import TracebackType
from typing import Literal

from pairwise_rm.contract.rows import Pair
from pairwise_rm.errors import StageError
from pairwise_rm.recipe.model import SourceConfig

Repeat = Literal["duplicate", "contradictory"]

_CACHE_KIB = 16 << 10
_TABLES = (
    "CREATE TABLE seen (pair INTEGER PRIMARY KEY, winner INTEGER NOT NULL, strength INTEGER NOT NULL, place INTEGER)",
    "CREATE TABLE votes (pair INTEGER, winner INTEGER, count INTEGER, strength INTEGER, place INTEGER,"
    " PRIMARY KEY (pair, winner)) WITHOUT ROWID",
)
_VOTE = (
    "INSERT INTO votes VALUES (?, ?, 1, ?, ?) ON CONFLICT DO UPDATE SET count = count + 1,"
    " place = iif(excluded.strength > strength, excluded.place, place), strength = max(strength, excluded.strength)"
)


class SeenPairs:
    """`repeated(pair, identity)` is None for a pair to keep, and else why this row of it is not:

    "duplicate"       another row with the same prompt, responses and preferred response, in whichever order, is kept:
                      the one with the greatest strength, or the first of those (the first of all for `first`)
    "contradictory"   other rows have the same prompt and responses with another preferred response
    """

    def __init__(self, config: SourceConfig) -> None:
        self._config = config
        self._database = sqlite3.connect("", isolation_level=None)
        self._database.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
        self._database.execute("PRAGMA journal_mode = OFF")
        for table in _TABLES:
            self._database.execute(table)
        self._database.execute("BEGIN")
        self._cursor = self._database.cursor()
        self._place = 0
        self._settled = False
        self.is_wrong = False
        """Whether a row was kept, or another dropped, that should not have been."""

    def __enter__(self) -> SeenPairs:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._database.close()

    def settle(self) -> None:
        """All rows were seen; what follows are the same rows once more."""
        self._place, self._settled = 0, True

    def repeated(self, pair: Pair, identity: str) -> Repeat | None:
        key = int.from_bytes(bytes.fromhex(identity), "big", signed=True)
        self._place += 1
        strength = -1 if pair.strength is None else pair.strength
        try:
            if self._settled:
                return self._decided(key, _winner(pair))
            return self._first_sight(key, _winner(pair), strength)
        except sqlite3.OperationalError as error:
            raise StageError(f"looking for duplicates needs room in the temporary folder (TMPDIR): {error}") from error

    def _first_sight(self, key: int, winner: int, strength: int) -> Repeat | None:
        execute = self._cursor.execute
        execute("INSERT OR IGNORE INTO seen VALUES (?, ?, ?, ?)", (key, winner, strength, self._place))
        if self._cursor.rowcount:
            return None
        known, known_strength, place = execute(
            "SELECT winner, strength, place FROM seen WHERE pair = ?", (key,)
        ).fetchone()
        if self._config.conflicts != "first":
            if execute("SELECT 1 FROM votes WHERE pair = ?", (key,)).fetchone() is None:
                execute(_VOTE, (key, known, known_strength, place))
            execute(_VOTE, (key, winner, strength, self._place))
            stronger = strength > known_strength and self._config.duplicates == "drop"
            self.is_wrong = self.is_wrong or winner != known or stronger
        if winner != known:
            return "contradictory"
        return "duplicate" if self._config.duplicates == "drop" else None

    def _decided(self, key: int, winner: int) -> Repeat | None:
        votes = self._cursor.execute(
            "SELECT count, winner, place FROM votes WHERE pair = ? ORDER BY count DESC", (key,)
        ).fetchall()
        if not votes:
            return None
        if len(votes) > 1 and (self._config.conflicts == "drop" or votes[0][0] == votes[1][0]):
            return "contradictory"
        _, kept, place = votes[0]
        if winner != kept:
            return "contradictory"
        return None if place == self._place or self._config.duplicates == "keep" else "duplicate"


def _winner(pair: Pair) -> int:
    """The winner, independent of the responses' order: 0 none, 1 the lesser text, 2 the greater."""
    if pair.preferred == "tie":
        return 0
    first, second = pair.responses
    return 1 if (first < second) == (pair.preferred == "A") else 2
