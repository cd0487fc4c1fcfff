"""Atomic writes: a reader sees the old file or the new one, never a part of it.

All output of the stages is written here: to a temporary name on the same file system, flushed, then renamed. An
interrupted stage leaves the previous output in place.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import hashlib
import json
import os
import re
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
    """Yields a temporary folder beside `target`; on success it replaces `target` as a whole.

    A process that is killed leaves the old folder or the new one. Where the file system cannot exchange two folders in
    one step (NFS), it may leave neither for a moment: `recover` puts the old one back, as does the next call.
    """
    with _errors_of(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        with working_folder(target.parent, target.name) as temporary:
            yield temporary
            _open_to_others(temporary)
            for path in temporary.rglob("*"):
                if path.is_file() and not path.is_symlink():
                    flush(path)
            _put_in_place(temporary, target)


@contextlib.contextmanager
def working_folder(parent: Path, name: str) -> Iterator[Path]:
    """Yields an empty folder `.<name>.<random>.tmp`, removed at the end like those that killed processes left behind.

    A process holds a lock while it uses its folder: what nobody holds is left over. Where the file system has no locks,
    nothing of others is removed.
    """
    recover(parent / name)
    handle, lock = _locked_file(parent, name)
    folder = lock.with_suffix(".tmp")
    try:
        folder.mkdir()
        yield folder
    finally:
        _remove(folder)
        lock.unlink(missing_ok=True)
        os.close(handle)


def recover(target: Path) -> None:
    """Puts back the folder that a killed process had just moved aside, and removes what it left beside `target`."""
    left = re.compile(rf"\.{re.escape(target.name)}\.[a-z0-9_]{{8}}\.lock")  # the names of `tempfile`
    for lock in [path for path in target.parent.glob(".*.lock") if left.fullmatch(path.name)]:
        with contextlib.suppress(OSError), open(lock, "ab") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            previous = lock.with_suffix(_ASIDE)
            if previous.exists() and not target.exists():
                os.replace(previous, target)
            _remove(previous)
            _remove(lock.with_suffix(".tmp"))
            lock.unlink()


_ASIDE = ".old"


def _locked_file(parent: Path, name: str) -> tuple[int, Path]:
    while True:
        handle, path = tempfile.mkstemp(prefix=f".{name}.", suffix=".lock", dir=parent)
        with contextlib.suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_EX)
        if os.fstat(handle).st_nlink:
            return handle, Path(path)
        os.close(handle)  # taken for left over, before it was locked


def _put_in_place(temporary: Path, target: Path) -> None:
    """Afterwards the old folder has the temporary name."""
    if not target.exists():
        os.replace(temporary, target)
    elif not _exchange(temporary, target):
        previous = temporary.with_suffix(_ASIDE)
        os.replace(target, previous)
        try:
            os.replace(temporary, target)
        except OSError:
            os.replace(previous, target)
            raise
        os.replace(previous, temporary)


def _exchange(one: Path, other: Path) -> bool:
    """Swaps two names in one step; False where the system cannot."""
    libc = ctypes.CDLL(None, use_errno=True)
    here, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    try:
        return bool(libc.renameat2(here, os.fsencode(one), here, os.fsencode(other), exchange) == 0)
    except AttributeError:
        return False


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def flush(path: Path) -> None:
    """Waits until a file is on the disk."""
    with open(path, "rb") as handle:
        try:
            os.fsync(handle.fileno())
        except OSError as error:
            if error.errno not in _NO_FSYNC:
                raise


_NO_FSYNC = (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EBADF, errno.EROFS)
"""What network file systems answer that cannot do it for a file that is open for reading."""


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
