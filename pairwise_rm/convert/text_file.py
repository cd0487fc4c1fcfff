"""Opens a text file, plain or compressed, for reading as bytes; says in one line what is wrong with it."""

from __future__ import annotations

import codecs
import contextlib
import gzip
import io
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, cast

from pairwise_rm.errors import InputError

_BUFFER = 1 << 20


class TextFile:
    """A file whose name's end (.gz, .zst) tells its compression."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._total = os.path.getsize(path)
        self._raw: BinaryIO | None = None

    def progress(self) -> tuple[int, int]:
        """Bytes of the file that were read, and all of them."""
        return (self._total if self._raw is None else self._raw.tell()), self._total

    @contextlib.contextmanager
    def opened(self) -> Iterator[io.BufferedReader]:
        """The decompressed bytes. Raises InputError for a file that is damaged, or not in UTF-8 as a whole."""
        try:
            with open(self.path, "rb", buffering=_BUFFER) as raw:
                self._raw = raw
                stream = self._decompressed(cast(io.BufferedReader, raw))
                self._refuse_other_encodings(stream.peek(4)[:4])
                yield stream
        except EOFError as error:
            raise InputError(f"{self.path}: the gzip file is cut short, expected its end marker") from error
        except (gzip.BadGzipFile, zlib.error) as error:
            raise InputError(f"{self.path}: not a sound gzip file: {error}") from error
        except OSError as error:
            if self.path.suffix == ".zst" and error.errno is None:
                raise InputError(f"{self.path}: not a sound zstd file: {error}") from error
            raise InputError(f"{self.path}: cannot be read: {error.strerror or error}") from error
        finally:
            self._raw = None

    def _decompressed(self, raw: io.BufferedReader) -> io.BufferedReader:
        if self.path.suffix == ".gz":
            return cast(io.BufferedReader, gzip.GzipFile(fileobj=raw))
        if self.path.suffix == ".zst":
            import pyarrow

            return io.BufferedReader(pyarrow.CompressedInputStream(raw, "zstd"), _BUFFER)
        return raw

    def _refuse_other_encodings(self, start: bytes) -> None:
        if encoding := _wide_encoding(start):
            name = encoding[: len("UTF-16")]
            raise InputError(f"{self.path}: text in {name}, expected UTF-8; `iconv -f {encoding} -t UTF-8` converts it")


def _wide_encoding(start: bytes) -> str | None:
    """The name that iconv has for UTF-16 or UTF-32, by a file's first four bytes; None for any other encoding.

    JSON and CSV begin with ASCII, of which each character has one zero byte in UTF-16, and three in UTF-32.
    """
    # Before UTF-16, whose byte order mark is the first half of this one.
    if start in (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE):
        return "UTF-32"
    if start[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
        return "UTF-16"
    if start[:3] == b"\0\0\0" or start[1:] == b"\0\0\0":
        return "UTF-32BE" if start[:1] == b"\0" else "UTF-32LE"
    if b"\0" in start[:2]:
        return "UTF-16BE" if start[:1] == b"\0" else "UTF-16LE"
    return None
