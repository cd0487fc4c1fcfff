"""Reads JSON rows that are not one a line: an array, or objects one after the other, as people call `.json`."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pairwise_rm.convert.row_reader import MAX_LINE, RowReader
from pairwise_rm.convert.text_file import TextFile
from pairwise_rm.errors import InputError

_CHUNK = 1 << 20
_BETWEEN = re.compile(r"[\s,]*")
_START = re.compile(rb"(?:\xef\xbb\xbf)?\s*")


def is_over_lines(path: Path, strict: bool) -> bool:
    """Whether the rows are not one a line. `strict`: for a file that is named .jsonl, whose lines may be bad."""
    with TextFile(path).opened() as stream:
        start = stream.read(_CHUNK)
    start = start[_START.match(start).end() :]  # type: ignore[union-attr]
    line, newline, rest = start.partition(b"\n")
    if strict:
        return bool(newline) and (line.strip() == b"[" or (line.strip() == b"{" and rest.lstrip()[:1] == b'"'))
    if start[:1] == b"[" or not start:
        return True
    try:
        json.loads(line.decode("utf-8", "replace"))
    except (ValueError, RecursionError):
        return True
    return False


class JsonReader(RowReader):
    """Holds one row and one chunk of the file; `number` is the line on which a row begins."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._file = TextFile(path)

    def progress(self) -> tuple[int, int]:
        return self._file.progress()

    def __iter__(self) -> Iterator[tuple[int, Any]]:
        with self._file.opened() as stream:
            try:
                yield from self._values(io.TextIOWrapper(stream, "utf-8-sig"))
            except UnicodeDecodeError as error:
                advice = "`iconv -f LATIN1 -t UTF-8` converts a file in latin-1"
                raise InputError(f"{self.path}: not UTF-8 ({error.reason}); {advice}") from error

    def _values(self, text: io.TextIOWrapper) -> Iterator[tuple[int, Any]]:
        decoder = json.JSONDecoder()
        buffer, at, line = text.read(_CHUNK), 0, 1
        start = _BETWEEN.match(buffer).end()  # type: ignore[union-attr]
        array = buffer[start : start + 1] == "["
        if array:
            line += buffer.count("\n", 0, start)
            at = start + 1
        ended = False
        while True:
            after = _BETWEEN.match(buffer, at).end()  # type: ignore[union-attr]
            line += buffer.count("\n", at, after)
            at = after
            if at == len(buffer):
                buffer, at = text.read(_CHUNK), 0
                if buffer:
                    continue
                if array and not ended:
                    raise InputError(f"{self.path}:{line}: the array is cut short, expected its ]")
                return
            if ended:
                raise InputError(f"{self.path}:{line}: text after the end of the array")
            if array and buffer[at] == "]":
                ended, at = True, at + 1
                continue
            try:
                value, end = decoder.raw_decode(buffer, at)
            except RecursionError as error:
                raise InputError(f"{self.path}:{line}: nested too deeply") from error
            except ValueError as error:  # a number of thousands of digits is no JSONDecodeError
                cut = isinstance(error, json.JSONDecodeError) and len(buffer) - at < MAX_LINE
                more = text.read(max(_CHUNK, len(buffer) - at)) if cut else ""
                if not more:
                    raise self._not_json(buffer, at, line, error) from error
                buffer, at = buffer[at:] + more, 0
                continue
            yield line, value
            line += buffer.count("\n", at, end)
            at = end

    def _not_json(self, buffer: str, at: int, line: int, error: ValueError) -> InputError:
        reason, start = str(error), buffer[at : at + 20]
        if isinstance(error, json.JSONDecodeError):
            reason = error.msg
            line += buffer.count("\n", at, error.pos)
        return InputError(f"{self.path}:{line}: not JSON: {reason} (in the row that begins with {start!r})")

    @staticmethod
    def text_of(item: Any) -> str:
        return json.dumps(item)
