"""Reads the rows of tables: CSV, whose cells have no types, and parquet, of which only the needed columns are read."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pairwise_rm.convert.fields import Cell, RowError
from pairwise_rm.convert.row_reader import MAX_LINE, RowReader
from pairwise_rm.convert.text_file import TextFile
from pairwise_rm.errors import InputError

_PARQUET_BATCH = 64


class CsvReader(RowReader):
    """The first record names the columns. An empty cell is null, and a number is its digits (`fields.Cell`)."""

    def __init__(self, path: Path, delimiter: str) -> None:
        super().__init__(path)
        self._file = TextFile(path)
        self._delimiter = delimiter
        self._columns: list[str] = []

    def progress(self) -> tuple[int, int]:
        return self._file.progress()

    def __iter__(self) -> Iterator[tuple[int, list[str]]]:
        csv.field_size_limit(MAX_LINE)
        with self._file.opened() as stream:
            records = csv.reader(
                io.TextIOWrapper(stream, "utf-8-sig", newline=""), delimiter=self._delimiter, strict=True
            )
            try:
                yield from self._records(records)
            except UnicodeDecodeError as error:
                advice = "`iconv -f LATIN1 -t UTF-8` converts a file in latin-1"
                raise InputError(f"{self.path}: not UTF-8 ({error.reason}); {advice}") from error
            except csv.Error as error:
                raise InputError(f"{self.path}:{records.line_num}: not CSV: {error}") from error

    def _records(self, records: Any) -> Iterator[tuple[int, list[str]]]:
        self._columns = next(records, [])
        if len(set(self._columns)) < len(self._columns):
            twice = next(name for name in self._columns if self._columns.count(name) > 1)
            raise InputError(f"{self.path}:1: the header names {twice!r} twice")
        if len(self._columns) == 1 and (other := next((mark for mark in ";\t|," if mark in self._columns[0]), None)):
            expected = "a comma" if self._delimiter == "," else "a tab"
            raise InputError(f"{self.path}:1: the columns are separated by {other!r}, expected {expected}")
        number = records.line_num + 1
        for cells in records:
            if cells:
                yield number, cells
            else:
                self.blank_lines += 1
            number = records.line_num + 1

    def parse(self, item: list[str]) -> dict[str, Any]:
        if len(item) != len(self._columns):
            raise RowError("wrong_cells", f"the row has {len(item)} cells, expected {len(self._columns)} as the header")
        return {name: Cell(cell) if cell else None for name, cell in zip(self._columns, item, strict=True)}


class ParquetReader(RowReader):
    def __init__(self, path: Path, columns: frozenset[str] | None = None) -> None:
        super().__init__(path)
        self._wanted = columns
        self._done = self._total = 0

    def __iter__(self) -> Iterator[tuple[int, dict[str, Any]]]:
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            with pq.ParquetFile(self.path, pre_buffer=False) as file:
                self._total = file.metadata.num_rows
                columns = self._columns(file.schema_arrow.names)
                for batch in file.iter_batches(_PARQUET_BATCH, columns=columns, use_threads=False):
                    for row in batch.to_pylist():
                        self._done += 1
                        yield self._done, row
        except (pa.ArrowException, UnicodeDecodeError) as error:
            first_line = str(error).partition("\n")[0]
            raise InputError(f"{self.path}: not a sound parquet file: {first_line}") from error
        except (ValueError, OverflowError) as error:
            first_line = str(error).partition("\n")[0]
            raise InputError(f"{self.path}: after row {self._done}: a value out of range: {first_line}") from error
        except OSError as error:
            raise InputError(f"{self.path}: cannot be read: {str(error).partition(chr(10))[0]}") from error

    def _columns(self, there: list[str]) -> list[str] | None:
        if self._wanted is None:
            return None
        found = [name for name in there if name in self._wanted]
        if there and not found:
            raise InputError(
                f"{self.path}: has none of the columns that are needed, found {', '.join(there)}; "
                "see data.configs.source"
            )
        return found

    def progress(self) -> tuple[int, int]:
        return self._done, self._total
