"""rejected.jsonl: every row that is not a valid pair, with its line number, the reason and the start of its text."""

from __future__ import annotations

import json
from pathlib import Path
from types import TracebackType

from pairwise_rm.convert.fields import RowError
from pairwise_rm.errors import InputError

TEXT_KEPT = 500
"""Characters of the source line."""


class RejectedRows:
    """Writes rejected rows and raises InputError, naming the first one, when they are more than `allowed`."""

    def __init__(self, path: Path, source: Path, allowed: int) -> None:
        self._source = source
        self._allowed = allowed
        self._count = 0
        self._first = ""
        self._file = path.open("w", encoding="utf-8")

    def __enter__(self) -> RejectedRows:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def add(self, number: int, error: RowError, text: str) -> None:
        self._count += 1
        self._first = self._first or f"{self._source}:{number}: {error}"
        if self._count > self._allowed:
            raise InputError(
                f"{self._first} (rejected rows: {self._count}, allowed by data.configs.max_rejected: {self._allowed})"
            )
        entry = {"line": number, "reason": error.reason, "message": str(error), "source": text[:TEXT_KEPT]}
        self._file.write(json.dumps(entry) + "\n")
