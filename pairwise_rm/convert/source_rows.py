"""Reads a source's rows one at a time: JSON lines, plain or gzipped, or parquet.

Memory is bounded whatever the size of the file: one line, or one small batch of a parquet row group.
A file that cannot be read to its end is an InputError, since a part of a source must not pass for the whole; a line
that is not JSON is a RowError, which the caller counts.
"""

from __future__ import annotations

import abc
import gzip
import json
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import orjson

from pairwise_rm.convert.fields import RowError, shown
from pairwise_rm.errors import InputError

SUFFIXES = (".jsonl", ".jsonl.gz", ".parquet")
MAX_LINE = 64 << 20
"""Bytes. A longer line is no row but another format (one JSON array, say)."""

_BOM = b"\xef\xbb\xbf"
_PARQUET_BATCH = 64


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


class JsonLinesReader(RowReader):
    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._total = os.path.getsize(path)
        self._raw: BinaryIO | None = None

    def __iter__(self) -> Iterator[tuple[int, bytes]]:
        try:
            with open(self.path, "rb", buffering=1 << 20) as raw:
                self._raw = raw
                lines = gzip.GzipFile(fileobj=raw) if self.path.name.endswith(".gz") else raw
                yield from self._lines(lines)
        except EOFError as error:
            raise InputError(f"{self.path}: the gzip file is cut short, expected its end marker") from error
        except (gzip.BadGzipFile, zlib.error) as error:
            raise InputError(f"{self.path}: not a sound gzip file: {error}") from error
        except OSError as error:
            raise InputError(f"{self.path}: cannot be read: {error.strerror or error}") from error
        finally:
            self._raw = None

    def _lines(self, lines: BinaryIO | gzip.GzipFile) -> Iterator[tuple[int, bytes]]:
        number = 0
        while line := lines.readline(MAX_LINE + 1):
            number += 1
            if len(line) > MAX_LINE:
                raise InputError(f"{self.path}:{number}: longer than {MAX_LINE >> 20} MiB, expected one row a line")
            if number == 1:
                line = line.removeprefix(_BOM)
            if line.isspace() or not line:
                self.blank_lines += 1
                continue
            yield number, line

    def progress(self) -> tuple[int, int]:
        return (self._total if self._raw is None else self._raw.tell()), self._total

    def parse(self, item: bytes) -> dict[str, Any]:
        try:
            row = orjson.loads(item)
        except orjson.JSONDecodeError as error:
            raise _not_json(item, error) from error
        return super().parse(row)


def _not_json(line: bytes, error: orjson.JSONDecodeError) -> RowError:
    """Why orjson, which is strict, refused the line: NaN, half a surrogate pair, or no valid JSON."""
    if "surrogate" in error.msg:
        return RowError("lone_surrogate", f"not valid text: {error.msg} (column {error.colno})")
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return RowError("not_json", f"not JSON: {error.msg} (column {error.colno})")
    return RowError("not_a_number", "not JSON: holds NaN or Infinity, expected a number or null")


class ParquetReader(RowReader):
    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._done = self._total = 0

    def __iter__(self) -> Iterator[tuple[int, dict[str, Any]]]:
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            with pq.ParquetFile(self.path, pre_buffer=False) as file:
                self._total = file.metadata.num_rows
                for batch in file.iter_batches(_PARQUET_BATCH, use_threads=False):
                    for row in batch.to_pylist():
                        self._done += 1
                        yield self._done, row
        except (pa.ArrowException, UnicodeDecodeError) as error:
            first_line = str(error).partition("\n")[0]
            raise InputError(f"{self.path}: not a sound parquet file: {first_line}") from error
        except OSError as error:
            raise InputError(f"{self.path}: cannot be read: {str(error).partition(chr(10))[0]}") from error

    def progress(self) -> tuple[int, int]:
        return self._done, self._total


def open_rows(path: Path) -> RowReader:
    """The reader for a file that `pairwise_rm.convert.source_file.locate` found."""
    return ParquetReader(path) if path.suffix == ".parquet" else JsonLinesReader(path)
