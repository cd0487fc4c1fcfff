"""Sealed checkpoints: a list of every file with its size, written last.

A folder without the seal was interrupted while it was written; one whose files do not match it was cut short
afterwards. Resuming, merging and export look at the seal first.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

from pairwise_rm.atomic_io import write_json
from pairwise_rm.errors import InputError

SEAL = "checkpoint.json"


def seal(folder: Path) -> None:
    """Records the size of every file of a finished checkpoint."""
    files = {
        str(path.relative_to(folder)): path.stat().st_size
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path != folder / SEAL
    }
    write_json(folder / SEAL, {"step": step_of(folder), "files": files})


def step_of(folder: Path) -> int:
    """The step in a folder's name, such as `global_step_20`."""
    match = re.fullmatch(r"global_step_(\d+)", folder.name)
    if not match:
        raise InputError(f"{folder}: expected a checkpoint folder named global_step_<N>")
    return int(match.group(1))


def check_seal(folder: Path) -> None:
    """Raises InputError when the checkpoint has no seal, lacks a file or holds one of another size."""
    if not (folder / SEAL).is_file():
        raise InputError(f"{folder}: not a finished checkpoint ({SEAL} is missing)")
    try:
        files: dict[str, int] = json.loads((folder / SEAL).read_text())["files"]
    except (json.JSONDecodeError, KeyError, TypeError):
        raise InputError(f"{folder}: cut short: {SEAL} is not what was written; remove this folder") from None
    for name, size in files.items():
        path = folder / name
        if not path.is_file():
            raise InputError(f"{folder}: cut short: {name} is missing; remove this folder to go on from an older one")
        if path.stat().st_size != size:
            found = path.stat().st_size
            raise InputError(
                f"{folder}: cut short: {name} has {found} bytes, expected {size}; "
                "remove this folder to go on from an older one"
            )


def sealed(checkpoints: Path) -> list[Path]:
    """The finished checkpoints of a run, oldest first."""
    if not checkpoints.is_dir():
        return []
    found = [path for path in checkpoints.iterdir() if re.fullmatch(r"global_step_\d+", path.name)]
    return sorted((path for path in found if (path / SEAL).is_file()), key=step_of)


def newest(checkpoints: Path) -> Path | None:
    """The newest finished checkpoint, whole; None when there is none. Raises InputError when it is cut short."""
    found = sealed(checkpoints)
    if not found:
        return None
    check_seal(found[-1])
    return found[-1]
