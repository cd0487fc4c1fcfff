"""Atomic writes: a reader sees the old file or the new one, never a part of it.

All output of the stages is written here: to a temporary name on the same file system, flushed, then renamed. An
interrupted stage leaves the previous output in place.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pairwise_rm.errors import StageError


@contextlib.contextmanager
def atomic_path(target: Path) -> Iterator[Path]:
    """Yields a temporary path beside `target`; on success it replaces `target`, on any error it is removed.

    Raises StageError when the disk is full or the folder cannot be written.
    """
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        with _errors_of(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            yield temporary
            with open(temporary, "rb") as handle:
                os.fsync(handle.fileno())
            os.replace(temporary, target)
    finally:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            temporary.unlink()


@contextlib.contextmanager
def atomic_folder(target: Path) -> Iterator[Path]:
    """Yields a temporary folder beside `target`; on success it replaces `target` as a whole."""
    with _errors_of(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".tmp", dir=target.parent))
        try:
            yield temporary
            _open_to_others(temporary)
            previous = temporary.with_suffix(".old")
            there = target.exists()
            if there:
                os.replace(target, previous)
            try:
                os.replace(temporary, target)
            except OSError:
                if there:
                    os.replace(previous, target)
                raise
            shutil.rmtree(previous, ignore_errors=True)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


@contextlib.contextmanager
def _errors_of(target: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StageError(f"{target}: cannot be written: {error.strerror or error}") from error


def _open_to_others(folder: Path) -> None:
    """Sets the permissions that the umask allows; mkdtemp and safetensors give them to the owner alone."""
    mask = os.umask(0)
    os.umask(mask)
    for path in (folder, *folder.rglob("*")):
        if not path.is_symlink():
            path.chmod((0o777 if path.is_dir() else 0o666 | path.stat().st_mode & 0o111) & ~mask)


def atomic_symlink(link: Path, target: str) -> None:
    """Points `link` at `target` (relative to the link's folder) in one step; replaces an existing link."""
    temporary = link.with_name(f".{link.name}.{os.getpid()}.tmp")
    with contextlib.suppress(FileNotFoundError):
        temporary.unlink()
    os.symlink(target, temporary)
    os.replace(temporary, link)


def write_text(target: Path, text: str) -> None:
    with atomic_path(target) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(target: Path, value: Any) -> None:
    write_text(target, json.dumps(value, indent=2, ensure_ascii=False, sort_keys=False) + "\n")


def sha256_of(path: Path) -> str:
    """Hex SHA-256 of a file, read in 1 MiB blocks."""
    digest = hashlib.sha256()
    with open(path, "rb") as handle:
        while block := handle.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
