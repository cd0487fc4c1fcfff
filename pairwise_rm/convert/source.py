"""The files of a source, wherever they are, and the side of each."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from pairwise_rm.convert.converters import Side
from pairwise_rm.convert.source_rows import KINDS, kind_of
from pairwise_rm.errors import InputError


class SourceFile(NamedTuple):
    """A file to read. `name`: what the outputs call it; `side`: that of all its rows, or None where they say."""

    path: Path
    name: str
    side: Side | None = None


class Source(NamedTuple):
    """The files in their order; `sha256`: the expected one of a single file; `repo`, `revision`: of hub files."""

    files: list[SourceFile]
    sha256: str | None = None
    repo: str | None = None
    revision: str | None = None

    @property
    def shown(self) -> str:
        """The files as a message names them."""
        more = len(self.files) - 1
        return f"{self.files[0].path}" + (f" and {more} more file{'s'[: more > 1]}" if more else "")


def in_folder(files: Sequence[Path], where: str) -> list[Path]:
    """The files of a folder that hold rows. Raises InputError if there are none, or of two kinds."""
    kinds = {path: kind for path in files if not path.name.startswith(".") and (kind := kind_of(path))}
    if not kinds:
        raise InputError(f"{where} is a folder without a file of a known kind, expected {KINDS}")
    if len(set(kinds.values())) > 1:
        both = " and ".join(sorted(set(kinds.values())))
        raise InputError(f"{where} is a folder with {both} files; give a pattern, such as *{min(kinds.values())}")
    return list(kinds)


def sided(train: Sequence[tuple[Path, str]], test: Sequence[tuple[Path, str]]) -> list[SourceFile]:
    """Files and their names with the side of each: where there are test files, the others are for training."""
    side: Side | None = "train" if test else None
    return [SourceFile(*file, side) for file in train] + [SourceFile(*file, "test") for file in test]
