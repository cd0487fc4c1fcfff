"""Outputs to an object store through fsspec: `s3://bucket/path`, `gs://…`, `abfs://…`.

A folder is complete when its manifest.json is there, which is written last and lists every file with its size.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pairwise_rm.errors import InputError, StageError

MANIFEST = "manifest.json"


def check_target(uri: str) -> None:
    """Raises InputError, before any work is done, when no fsspec implementation is installed for the URI."""
    _open(uri)


def upload(folder: Path, uri: str) -> str:
    """Copies a folder to `<uri>/<its name>`; returns where. Raises StageError when the store refuses."""
    filesystem, root = _open(uri)
    target = f"{root.rstrip('/')}/{folder.name}"
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    sizes = {str(path.relative_to(folder)): path.stat().st_size for path in files}
    try:
        if filesystem.exists(f"{target}/{MANIFEST}"):
            filesystem.rm(f"{target}/{MANIFEST}")
        for path, name in zip(files, sizes, strict=True):
            filesystem.makedirs(f"{target}/{name}".rpartition("/")[0], exist_ok=True)
            filesystem.put_file(str(path), f"{target}/{name}")
        with filesystem.open(f"{target}/{MANIFEST}", "w") as handle:
            json.dump({"files": sizes}, handle, indent=2)
    except (OSError, ValueError) as error:
        raise StageError(f"storage.upload: {uri}: {type(error).__name__}: {str(error).splitlines()[0]}") from error
    return f"{uri.rstrip('/')}/{folder.name}"


def _open(uri: str) -> tuple[Any, str]:
    import fsspec

    if "://" not in uri:
        raise InputError(f"storage.upload: {uri!r}: expected a URI such as s3://bucket/path")
    try:
        filesystem, root = fsspec.core.url_to_fs(uri)
    except (ValueError, ImportError) as error:
        raise InputError(f"storage.upload: {uri}: {error}") from error
    return filesystem, str(root)
