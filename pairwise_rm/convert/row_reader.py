"""What all readers of rows are: rows one at a time, with the number that a message names them by."""

from __future__ import annotations

import abc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pairwise_rm.convert.fields import RowError, shown

MAX_LINE = 64 << 20
"""Bytes. A longer line is no row but another format (one JSON array, say)."""


class RowReader(abc.ABC):
    """Iterates over `(number, item)`; `number` is the line (or parquet row) from 1, `parse` turns an item into a row.

    `blank_lines` counts lines without any text, which are not rows.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.blank_lines = 0

    @abc.abstractmethod
    def __iter__(self) -> Iterator[tuple[int, Any]]: ...

    @abc.abstractmethod
    def progress(self) -> tuple[int, int]:
        """How much was read, and of how much: bytes of the file, or rows of a parquet."""

    def parse(self, item: Any) -> dict[str, Any]:
        if not isinstance(item, dict):
            raise RowError("not_an_object", f"the row is {shown(item)}, expected an object")
        return item

    @staticmethod
    def text_of(item: Any) -> str:
        """An item as text, for rejected.jsonl."""
        return item.decode("utf-8", "replace").rstrip("\r\n") if isinstance(item, bytes) else repr(item)
