"""manifest.json: what was converted, from what, by which versions; and whether that output exists already.

It holds no time and no host name: the same input, config and versions give the same five files, byte by byte.
`digest` covers the config (without the paths) and the input's content, and decides whether an existing output is this
one.
"""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pairwise_rm import __version__
from pairwise_rm.atomic_io import sha256_of
from pairwise_rm.contract.rows import MANIFEST_FILE
from pairwise_rm.convert.counts import Counts
from pairwise_rm.convert.output_folder import OUTPUT_FILES
from pairwise_rm.convert.source import Source
from pairwise_rm.errors import InputError
from pairwise_rm.recipe.load import flatten
from pairwise_rm.recipe.model import DatasetConfig

FORMAT = 2
"""Of the rows and of the manifest; raised when either changes, so that older outputs are made anew."""

_PATHS = ("data.configs.path", "data.configs.test_path", "data.export.output_dir")


def content_sha256(source: Source, checksums: Sequence[str]) -> str:
    """The checksum of the input: that of a single file, else one over each file's and the side of its rows."""
    if len(checksums) == 1:
        return checksums[0]
    files = [[checksum, file.side] for checksum, file in zip(checksums, source.files, strict=True)]
    return hashlib.sha256(json.dumps(files).encode()).hexdigest()


def digest(config: DatasetConfig, input_sha256: str) -> str:
    settings = {key: value for key, value in flatten(_dumped(config), "data.").items() if key not in _PATHS}
    content = json.dumps([FORMAT, settings, input_sha256], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()


def build(
    config: DatasetConfig, source: Source, checksums: Sequence[str], counts: Counts, folder: Path
) -> dict[str, Any]:
    """The manifest of the output files that lie in `folder`."""
    import pyarrow

    input_sha256 = content_sha256(source, checksums)
    sizes = [file.path.stat().st_size for file in source.files]
    return {
        "format": FORMAT,
        "digest": digest(config, input_sha256),
        "config": _dumped(config),
        "input": {
            "repo": source.repo,
            "revision": source.revision,
            "bytes": sum(sizes),
            "sha256": input_sha256,
            "files": [
                {"name": file.name, "path": str(file.path), "side": file.side, "bytes": size, "sha256": checksum}
                for file, size, checksum in zip(source.files, sizes, checksums, strict=True)
            ],
        },
        "counts": counts.as_json(),
        "outputs": {
            name: {"bytes": (folder / name).stat().st_size, "sha256": sha256_of(folder / name)}
            for name in OUTPUT_FILES
            if name != MANIFEST_FILE
        },
        "versions": {
            "pairwise_rm": __version__,
            "pyarrow": pyarrow.__version__,
            "python": platform.python_version(),
        },
    }


def read(output_dir: Path) -> dict[str, Any] | None:
    """The manifest in the folder, or None if no conversion has written there.

    Raises InputError for output files without a manifest of ours.
    """
    path = output_dir / MANIFEST_FILE
    for folder in (output_dir, *output_dir.parents):
        if folder.exists() and not folder.is_dir():
            raise InputError(f"data.export.output_dir: {folder} is a file, expected a folder")
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        for name in OUTPUT_FILES:
            if (output_dir / name).exists():
                raise InputError(f"{output_dir / name}: has no {MANIFEST_FILE} beside it, so {_not_ours()}") from None
        return None
    except (ValueError, UnicodeDecodeError):
        raise InputError(f"{path}: not a manifest of ours, so {_not_ours()}") from None
    if not isinstance(manifest, dict) or not {"format", "digest", "config", "input", "counts", "outputs"} <= set(
        manifest
    ):
        raise InputError(f"{path}: not a manifest of ours, so {_not_ours()}")
    return manifest


def _not_ours() -> str:
    return "it is not replaced; choose another output_dir, or pass --overwrite"


def is_intact(manifest: Mapping[str, Any], output_dir: Path) -> bool:
    """Whether the output files match the manifest."""
    for name, expected in manifest["outputs"].items():
        path = output_dir / name
        if not path.is_file() or path.stat().st_size != expected["bytes"] or sha256_of(path) != expected["sha256"]:
            return False
    return True


def refuse_other(
    manifest: Mapping[str, Any], config: DatasetConfig, source: Source, checksums: Sequence[str], output_dir: Path
) -> None:
    """Raises InputError that names the first key in which the existing output differs, if any."""
    input_sha256 = content_sha256(source, checksums)
    if manifest["digest"] == digest(config, input_sha256):
        return
    raise InputError(
        f"{output_dir}: holds an output of another {_difference(manifest, config, input_sha256)}; "
        "choose another output_dir, or pass --overwrite"
    )


def _difference(manifest: Mapping[str, Any], config: DatasetConfig, input_sha256: str) -> str:
    if manifest["format"] != FORMAT:
        return f"format: {manifest['format']} -> {FORMAT}"
    old = flatten(manifest["config"], "data.")
    for key, value in flatten(_dumped(config), "data.").items():
        if key != "data.export.output_dir" and old.get(key) != value:
            return f"config: {key}: {json.dumps(old.get(key))} -> {json.dumps(value)}"
    return f"input: sha256 {manifest['input']['sha256'][:16]}... -> {input_sha256[:16]}..."


def _dumped(config: DatasetConfig) -> dict[str, Any]:
    return config.model_dump(mode="json")
