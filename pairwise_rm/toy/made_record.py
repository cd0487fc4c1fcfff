"""`made.json`: who made a model folder and with what, so that making it again is a no-op and never an overwrite."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pairwise_rm.atomic_io import write_json
from pairwise_rm.errors import InputError

RECORD_FILE = "made.json"


def already_made(folder: Path, maker: str, parameters: dict[str, Any]) -> bool:
    """Whether `folder` holds exactly this model; False where there is nothing yet.

    Raises InputError when the folder holds anything else: it is never replaced.
    """
    how = "remove it to make it again, or choose another folder"
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder}: is a file; a model needs a folder of its own")
    if not folder.exists() or not any(folder.iterdir()):
        return False
    path = folder / RECORD_FILE
    if not path.exists():
        raise InputError(f"{folder}: is not empty and was not made by `pairwise-rm models`; choose another folder")
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{path}: is not JSON ({error}); {how}") from error
    if not isinstance(record, dict):
        raise InputError(f"{path}: must hold an object; {how}")
    for key, wished in {"maker": maker, **parameters}.items():
        if record.get(key) != wished:
            raise InputError(f"{folder}: was made with {key} {record.get(key)!r}, not {wished!r}; {how}")
    names = record.get("files")
    if not isinstance(names, list):
        raise InputError(f"{path}: files must be a list; {how}")
    for name in names:
        if not (folder / str(name)).is_file():
            raise InputError(f"{folder}: {name} is missing; {how}")
    return True


def write_record(folder: Path, maker: str, parameters: dict[str, Any], measured: dict[str, Any]) -> None:
    """`measured` is for people to read; only maker, parameters and files are ever compared."""
    files = sorted(path.name for path in folder.iterdir())
    write_json(folder / RECORD_FILE, {"maker": maker, **parameters, "files": files, "measured": measured})
