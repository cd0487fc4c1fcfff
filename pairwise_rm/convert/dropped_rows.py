"""dropped.jsonl: every sound row that is in no output file, with its file, line and the reason."""

from __future__ import annotations

import json
from pathlib import Path
from types import TracebackType

from pairwise_rm.contract.rows import Pair
from pairwise_rm.convert.counts import DropReason
from pairwise_rm.convert.source import SourceFile


class DroppedRows:
    """Writes dropped rows. A duplicate has the `pair_id` of the row that is kept."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("w", encoding="utf-8")

    def __enter__(self) -> DroppedRows:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def add(self, source: SourceFile, number: int, reason: DropReason, pair: Pair, identity: str) -> None:
        told = {"file": source.name, "line": number, "reason": reason, "pair_id": identity}
        self._write(told | ({"source_id": pair.source_id} if pair.source_id is not None else {}))

    def without_pair(self, source: SourceFile, number: int, reason: DropReason) -> None:
        self._write({"file": source.name, "line": number, "reason": reason})

    def left_out(self, source: SourceFile, number: int, pairs: int) -> None:
        """Further pairs of a row, beyond the converter's limit."""
        self._write({"file": source.name, "line": number, "reason": "pairs_per_prompt", "pairs": pairs})

    def unread(self, source: SourceFile, first: int, last: int, rows: int) -> None:
        """Rows beyond data.configs.limit: one entry for a file, as they were not looked at."""
        self._write({"file": source.name, "line": first, "last_line": last, "reason": "limit", "rows": rows})

    def _write(self, told: dict[str, object]) -> None:
        self._file.write(json.dumps(told) + "\n")
