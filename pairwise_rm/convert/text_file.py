"""Opens a text file, plain or compressed, for reading as bytes; says in one line what is wrong with it."""

from __future__ import annotations

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
                self._refuse_utf16(stream.peek(4)[:4])
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

    def _refuse_utf16(self, start: bytes) -> None:
        # JSON and CSV begin with ASCII, of which each character has a zero byte in UTF-16.
        if start[:2] in (b"\xff\xfe", b"\xfe\xff") or b"\0" in start[:2]:
            raise InputError(f"{self.path}: text in UTF-16, expected UTF-8; `iconv -f UTF-16 -t UTF-8` converts it")
