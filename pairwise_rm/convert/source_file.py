"""Finds the source's files: local ones, or downloads from the hub whose revision is pinned.

They are only located here; `pairwise_rm.convert.source_rows` reads them.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Sequence
from pathlib import Path

from pairwise_rm.convert.converters import HubFile
from pairwise_rm.convert.hub_files import from_hub
from pairwise_rm.convert.source import Source, SourceFile, in_folder, sided
from pairwise_rm.convert.source_rows import KINDS, SUFFIXES
from pairwise_rm.errors import InputError
from pairwise_rm.recipe.model import SourceConfig


def locate(config: SourceConfig, hub: HubFile | None, official: bool = True) -> Source:
    """The source's files on this machine, downloaded if needed, in the order of their names.

    `hub` is the converter's own hub file. `official`: whether the held-out rows come from `test_path`, if there is one.

    Raises InputError if a file does not exist or is of no known kind, StageError if the hub is unreachable.
    """
    if config.type == "huggingface":
        return _checked(from_hub(config, hub, official), config)
    for key in ("repo", "revision"):
        if getattr(config, key) is not None:
            raise InputError(f"data.configs.{key}: only a source of `type: huggingface` has one")
    if not config.path:
        raise InputError(f"data.configs.path: missing, expected a {KINDS} file")
    train = _local_files(_listed(config.path), "data.configs.path")
    test = _local_files(_listed(config.test_path), "data.configs.test_path") if config.test_path and official else []
    return _checked(Source(_named(train, test), config.sha256), config)


def _listed(path: str | Sequence[str]) -> list[str]:
    return [path] if isinstance(path, str) else list(path)


def _local_files(places: Sequence[str], key: str) -> list[Path]:
    found = {path for place in places for path in _at(place, key)}
    files = sorted(found, key=str)
    for path in files:
        if not os.access(path, os.R_OK):
            raise InputError(f"{key}: {path} cannot be read: permission denied")
        if not path.name.endswith(SUFFIXES):
            raise InputError(f"{key}: {path.name} is of no known kind, expected {KINDS}")
        if path.stat().st_size == 0:
            raise InputError(f"{key}: {path} is empty, expected preference rows")
    return files


def _at(place: str, key: str) -> list[Path]:
    """The file of that name, the files of a folder, or those that match a pattern."""
    path = Path(place).expanduser()
    if path.is_dir():
        return in_folder([entry for entry in path.iterdir() if entry.is_file()], f"{key}: {path}")
    if path.exists():
        return [path]
    if not glob.has_magic(place):
        raise InputError(f"{key}: {path} does not exist")
    matching = [Path(name) for name in glob.glob(str(path), recursive=True)]
    if files := [match for match in matching if match.is_file()]:
        return files
    raise InputError(f"{key}: no file matches {path}")


def _named(train: Sequence[Path], test: Sequence[Path]) -> list[SourceFile]:
    """The files with names that tell them apart, relative to the folder that they share."""
    absolute = [Path(os.path.abspath(path)) for path in (*train, *test)]
    base = Path(os.path.commonpath([path.parent for path in absolute]))
    names = [path.relative_to(base).as_posix() for path in absolute]
    return sided(list(zip(train, names, strict=False)), list(zip(test, names[len(train) :], strict=True)))


def _checked(source: Source, config: SourceConfig) -> Source:
    names = [file.name for file in source.files]
    for file in source.files:
        if names.count(file.name) > 1:
            raise InputError(f"data.configs.test_path: {file.path} is in data.configs.path as well")
    if config.sha256 is not None and len(source.files) > 1:
        raise InputError(
            f"data.configs.sha256: is that of one file, and the source has {len(source.files)}; leave it out: "
            "manifest.json has the checksum of each"
        )
    return source
