"""rejected.jsonl: every row that is no valid pair, with its file, line, the reason and the start of its text."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import TracebackType

from pairwise_rm.convert.fields import RowError
from pairwise_rm.convert.source import SourceFile
from pairwise_rm.errors import InputError

TEXT_KEPT = 500
"""Characters of the source line."""
PLACES_SHOWN = 3
"""Rows of each reason that the error names."""


def listing_of(output_dir: Path) -> Path:
    """Where the rejected rows are listed when they are too many for an output: beside its folder."""
    return output_dir.with_name(f"{output_dir.name}.rejected.jsonl")


class RejectedRows:
    """Writes all rejected rows; `check` raises InputError, with the first ones, when they are more than `allowed`."""

    def __init__(self, path: Path, allowed: int) -> None:
        self._path = path
        self._allowed = allowed
        self._count = 0
        self._first = ""
        self._by_reason: dict[str, int] = {}
        self._places: dict[str, list[str]] = {}
        self._file = path.open("w", encoding="utf-8")

    def __enter__(self) -> RejectedRows:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def add(self, source: SourceFile, number: int, error: RowError, text: str) -> None:
        self._count += 1
        self._first = self._first or f"{source.path}:{number}: {error}"
        self._by_reason[error.reason] = self._by_reason.get(error.reason, 0) + 1
        places = self._places.setdefault(error.reason, [])
        if len(places) < PLACES_SHOWN:
            places.append(f"{source.name}:{number}")
        told = {"file": source.name, "line": number, "reason": error.reason, "message": str(error)}
        self._file.write(json.dumps({**told, "source": text[:TEXT_KEPT]}) + "\n")

    def check(self, output_dir: Path) -> None:
        """Raises InputError when more rows were rejected than allowed. The list is then moved to `listing_of`."""
        listing = listing_of(output_dir)
        if self._count <= self._allowed:
            listing.unlink(missing_ok=True)
            return
        self._file.close()
        try:
            shutil.move(self._path, listing)
            where = f"listed in {listing}"
        except OSError as error:
            where = f"{listing}, which would list them, cannot be written: {error.strerror or error}"
        reasons = "; ".join(
            f"{reason} {count:,} ({', '.join(self._places[reason])}{', ...'[: 5 * (count > PLACES_SHOWN)]})"
            for reason, count in sorted(self._by_reason.items(), key=lambda item: -item[1])
        )
        raise InputError(
            f"{self._first} (rejected rows: {self._count}, allowed by data.configs.max_rejected: {self._allowed}; "
            f"{reasons}; {where})"
        )
