"""Reads the rows of one source file one at a time; the kind of a file is told by its name's end.

.jsonl           one row a line
.json            an array of rows, one row after the other over any number of lines, or one row a line
.csv, .tsv       one row a record, under a header
.parquet         one row a row

All but parquet may be compressed (.gz, .zst). Memory is bounded whatever the size of the file: one row, or one small
batch of a parquet row group. A file that cannot be read to its end is an InputError, since a part of a source must not
pass for the whole; a row that cannot be is a RowError, which the caller counts.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson

from pairwise_rm.convert import json_rows, table_rows
from pairwise_rm.convert.fields import RowError
from pairwise_rm.convert.row_reader import MAX_LINE, RowReader
from pairwise_rm.convert.text_file import TextFile
from pairwise_rm.errors import InputError

_TEXT_KINDS = (".jsonl", ".json", ".csv", ".tsv")
_COMPRESSED = ("", ".gz", ".zst")
SUFFIXES = (*(kind + end for kind in _TEXT_KINDS for end in _COMPRESSED), ".parquet")
KINDS = ".jsonl, .json, .csv, .tsv (also .gz or .zst) or .parquet"

_BOM = b"\xef\xbb\xbf"


def kind_of(path: Path) -> str | None:
    """The kind of a file without its compression, such as ".jsonl"; None for no known one."""
    return next((kind for kind in (*_TEXT_KINDS, ".parquet") if path.name.endswith(_ends(kind))), None)


def _ends(kind: str) -> tuple[str, ...]:
    return tuple(kind + end for end in (_COMPRESSED if kind in _TEXT_KINDS else ("",)))


class JsonLinesReader(RowReader):
    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._file = TextFile(path)

    def __iter__(self) -> Iterator[tuple[int, bytes]]:
        number = 0
        with self._file.opened() as lines:
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
        return self._file.progress()

    def parse(self, item: bytes) -> dict[str, Any]:
        try:
            row = orjson.loads(item)
        except orjson.JSONDecodeError as error:
            row = _leniently(item, error)
        return super().parse(row)


def _leniently(line: bytes, error: orjson.JSONDecodeError) -> Any:
    """What orjson, which is strict, refused: NaN or half a surrogate pair matters only in a field that is read."""
    try:
        return json.loads(line.decode())
    except UnicodeDecodeError as undecodable:
        found = f"byte 0x{line[undecodable.start]:02x} at column {undecodable.start + 1}"
        advice = "is the file in latin-1, or in another encoding? `iconv -f LATIN1 -t UTF-8` converts it"
        raise RowError("not_utf8", f"not UTF-8 ({found}); {advice}") from undecodable
    except (ValueError, RecursionError):
        raise RowError("not_json", f"not JSON: {error.msg} (column {error.colno})") from error


def open_rows(path: Path, columns: frozenset[str] | None = None) -> RowReader:
    """The reader for a file of a known kind. `columns`: those that are needed; None: all."""
    kind = kind_of(path)
    if kind == ".parquet":
        return table_rows.ParquetReader(path, columns)
    if kind in (".csv", ".tsv"):
        return table_rows.CsvReader(path, "," if kind == ".csv" else "\t")
    if json_rows.is_over_lines(path, strict=kind == ".jsonl"):
        return json_rows.JsonReader(path)
    return JsonLinesReader(path)
