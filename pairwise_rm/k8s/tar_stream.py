"""Unpacks a tar stream into a folder: completely or not at all, and nothing outside of it."""

from __future__ import annotations

import hashlib
import json
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import IO, Any

from pairwise_rm.errors import InputError, StageError

MARK = "fetched.json"
_BLOCK = 1 << 20

Progress = Callable[[int], None]


def unpack(stream: IO[bytes], folder: Path, progress: Progress) -> list[dict[str, Any]]:
    """Writes the regular files of a tar stream; returns name, size and SHA-256 of each.

    Raises StageError for a stream that is cut short, and for a name that leads out of the folder.
    """
    files = []
    try:
        with tarfile.open(fileobj=stream, mode="r|", bufsize=_BLOCK) as archive:
            for member in archive:
                name = safe_name(member)
                content = archive.extractfile(member)
                assert content is not None  # a regular file has content
                path = folder / name
                path.parent.mkdir(parents=True, exist_ok=True)
                files.append({"name": name, "size": member.size, "sha256": _write(content, path, progress)})
                if path.stat().st_size != member.size:
                    raise StageError(f"{name}: the transfer broke off in this file")
    except tarfile.TarError as error:
        raise StageError(f"the transfer broke off: {error}") from error
    return files


def safe_name(member: tarfile.TarInfo) -> str:
    """The member's name. Raises StageError unless it is a regular file at a relative path that stays inside."""
    path = PurePosixPath(member.name)
    if not member.isreg() or path.is_absolute() or ".." in path.parts or "\\" in member.name or not path.parts:
        raise StageError(f"refused {member.name!r} from the pod: expected a regular file inside the run folder")
    return str(path)


def check_target(target: Path, run_folder: str, weights: bool) -> None:
    """Raises InputError unless `target` is absent, empty, or an earlier fetch that this one may replace."""
    if not target.exists():
        return
    if not target.is_dir():
        raise InputError(f"--out {target}: is a file, expected a folder")
    if not any(target.iterdir()):
        return
    if not (target / MARK).is_file():
        raise InputError(f"--out {target}: holds other files; expected a new folder or an earlier fetch")
    earlier = json.loads((target / MARK).read_text(encoding="utf-8"))
    if earlier.get("run_folder") != run_folder:
        raise InputError(f"--out {target}: holds another run, {earlier.get('run_folder')}; give another folder")
    if earlier.get("weights") and not weights:
        raise InputError(f"--out {target}: holds the weights too, which would go; add --weights or another folder")


def _write(content: IO[bytes], path: Path, progress: Progress) -> str:
    digest = hashlib.sha256()
    with open(path, "wb") as handle:
        while block := content.read(_BLOCK):
            handle.write(block)
            digest.update(block)
            progress(len(block))
    return digest.hexdigest()


def free_space(folder: Path, needed: int) -> None:
    """Raises StageError when the file system of `folder` cannot take that many bytes."""
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise StageError(f"{folder}: {needed / 1e9:.1f} GB are to come, {free / 1e9:.1f} GB are free")
