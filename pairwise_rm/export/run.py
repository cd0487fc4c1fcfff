"""The export stage: the newest checkpoint as a plain Hugging Face folder with a model card.

Merging runs as a Ray task that requests its memory, since a cluster's head has none to spare. `merged/` is what
evaluation judges; `export/` is the same files (hard links where the file system has them) with a model card that has
the metrics.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pairwise_rm import cpu
from pairwise_rm.atomic_io import atomic_folder, recover, write_json, write_text
from pairwise_rm.errors import InputError, StageError
from pairwise_rm.export.fsdp_merge import SHARD_BYTES, merge_weights, weight_bytes
from pairwise_rm.export.model_card import model_card
from pairwise_rm.hf_model import check_model_folder
from pairwise_rm.recipe.model import ExportConfig, Recipe
from pairwise_rm.run_folder import RunFolder
from pairwise_rm.train import checkpoints

RECORD = "merged.json"
CARD = "README.md"
_RAY_DEADLINE = 600.0
_OF_READING = (errno.ENOENT, errno.EIO, errno.ESTALE)
"""Of what the merge reads: the folder that it writes to has just been made."""


def merge(recipe: Recipe, *, checkpoint: Path | None = None, warn: Callable[[str], None] | None = None) -> Path:
    """Merges a checkpoint (the run's newest whole one) into `<run>/merged`; returns that folder.

    Each checkpoint is checked and merged once. `warn` is called with a line for each that is damaged, and set aside.

    Raises InputError when there is no finished checkpoint or the given one is damaged, StageError when merging fails.
    """
    folder = RunFolder.of(recipe)
    recover(folder.merged)
    there = [checkpoint] if checkpoint else checkpoints.sealed(folder.checkpoints)
    merged = _read(folder.merged / RECORD).get("merge")
    if merged and there and merged == _record(recipe, there[-1].absolute()):
        return folder.merged
    chosen = _chosen(folder, checkpoint, warn)
    record = _record(recipe, chosen)
    with atomic_folder(folder.merged) as temporary:
        written = _merge_in_ray(recipe, chosen / "actor", temporary)
        write_json(temporary / RECORD, {"merge": record, **written})
        check_model_folder(str(temporary))
    return folder.merged


def export(
    recipe: Recipe,
    *,
    checkpoint: Path | None = None,
    out: Path | None = None,
    warn: Callable[[str], None] | None = None,
) -> Path:
    """Writes the judge, ready to serve, and returns its folder.

    The card has the metrics of `<run>/evaluation` that exist. Raises as `merge` does.
    """
    folder = RunFolder.of(recipe)
    target = out or folder.export
    recover(target)
    if target.exists() and not (target / RECORD).is_file():
        raise InputError(f"{target}: is there already and no export of pairwise-rm; it is left alone")
    merged = merge(recipe, checkpoint=checkpoint, warn=warn)
    with atomic_folder(target) as temporary:
        for path in sorted(merged.iterdir()):
            _link(path, temporary / path.name)
        record = {**_read(merged / RECORD), "export": recipe.export.model_dump()}
        write_json(temporary / RECORD, record)
        write_text(temporary / CARD, model_card(recipe, folder, record))
        shutil.copy(folder.train / "recipe.yaml", temporary / "recipe.yaml")
    return target


def refresh_card(recipe: Recipe) -> Path | None:
    """Writes the card of an export again, with the run's newest metrics; None without an export.

    The exported checkpoint and its licence are read from the export, not from this recipe.
    """
    folder = RunFolder.of(recipe)
    record = _read(folder.export / RECORD)
    if "export" not in record:
        return None
    exported = recipe.model_copy(update={"export": ExportConfig(**record["export"])})
    write_text(folder.export / CARD, model_card(exported, folder, record))
    return folder.export / CARD


def _record(recipe: Recipe, chosen: Path) -> dict[str, Any]:
    """What a merge is of."""
    step, sealed = checkpoints.step_of(chosen), chosen / checkpoints.SEAL
    at = sealed.stat().st_mtime_ns if sealed.is_file() else None
    return {"checkpoint": str(chosen), "step": step, "dtype": _dtype(recipe), "sealed": at}


def _chosen(folder: RunFolder, checkpoint: Path | None, warn: Callable[[str], None] | None) -> Path:
    if checkpoint is not None:
        checkpoints.check(checkpoint)
        return checkpoint.absolute()
    newest = checkpoints.newest(folder.checkpoints, warn)
    if newest is None:
        raise InputError(f"{folder.checkpoints}: no finished checkpoint; `pairwise-rm train` writes them")
    return newest


def _dtype(recipe: Recipe) -> str:
    return recipe.export.dtype or recipe.model.dtype


def _merge_in_ray(recipe: Recipe, actor: Path, target: Path) -> dict[str, Any]:
    import ray

    from pairwise_rm.ray_session import ray_session, reserved

    lora = recipe.model.lora
    scale = lora.alpha / lora.rank if lora else None
    wanted = recipe.export.memory_gib
    memory = int(wanted * (1 << 30)) if wanted else 3 * min(weight_bytes(actor), SHARD_BYTES) + (1 << 30)
    environment = cpu.environment() if recipe.device == "cpu" else {}
    task = ray.remote(_merge_task)
    with (
        ray_session(recipe.device, gpus=0, cpus=1, env=environment),
        reserved([{"CPU": 1, "memory": memory}], deadline=_RAY_DEADLINE) as group,
    ):
        strategy = ray.util.scheduling_strategies.PlacementGroupSchedulingStrategy(group)
        job = task.options(num_cpus=1, memory=memory, scheduling_strategy=strategy, max_retries=0)
        try:
            return dict(ray.get(job.remote(str(actor), str(target), _dtype(recipe), scale)))
        except ray.exceptions.RayTaskError as error:
            cause = error.cause
            if isinstance(cause, OSError) and cause.errno in _OF_READING:
                raise StageError(f"{cause.filename or actor}: cannot be read: {cause.strerror}") from cause
            if isinstance(cause, (StageError, OSError)):
                raise cause from None
            raise
        except ray.exceptions.RayError as error:
            gib, line = memory / (1 << 30), str(error).strip().splitlines()[0]
            raise StageError(f"{actor}: merging with {gib:.1f} GiB (export.memory_gib) failed: {line}") from error


def _merge_task(actor: str, target: str, dtype: str, lora_scale: float | None) -> dict[str, Any]:
    source, folder = Path(actor), Path(target)
    written = merge_weights(source, folder, dtype, lora_scale)
    for path in sorted((source / "huggingface").iterdir()):
        if path.is_file() and path.suffix != ".safetensors" and path.name != "config.json":
            shutil.copy(path, folder / path.name)
    config = json.loads((source / "huggingface" / "config.json").read_text())
    config.pop("torch_dtype", None)
    write_json(folder / "config.json", {**config, "dtype": dtype})
    return written


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:
        # Object stores and some network file systems have no hard links.
        shutil.copy(source, target)


def _read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text()) if path.is_file() else {}
