"""Merging the shards of an FSDP2 checkpoint into safetensors, one tensor at a time.

verl's own merger holds the model twice, casts to bfloat16 whatever dtype was asked for, and leaves a LoRA adapter
unmerged. Here the shards are memory-mapped, and no more than one output file is in memory: a 32B model
needs a few GiB. A LoRA adapter is added to its base weight, W + alpha/r * B A, in float32.
"""

from __future__ import annotations

import json
import os
import pickle
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pairwise_rm.errors import StageError

SHARD_BYTES = 4 << 30
INDEX = "model.safetensors.index.json"
_PREFIX = "base_model.model."


def merge_weights(actor: Path, target: Path, dtype: str, lora_scale: float | None) -> dict[str, Any]:
    """Writes the merged weights of a checkpoint's `actor/` folder to `target`, as safetensors.

    Args:
        actor: `global_step_N/actor`, with `model_world_size_W_rank_R.pt` and `fsdp_config.json`.
        target: an existing folder.
        dtype: `bfloat16` or `float32`, of the written weights.
        lora_scale: alpha / rank of the adapter to add; None for full weights.

    Returns: `tensors`, `parameters` and `bytes` of what was written. Raises StageError for a checkpoint whose parts are
    inconsistent.
    """
    import torch

    ranks = _load_ranks(actor)
    tied = json.loads((actor / "huggingface" / "config.json").read_text()).get("tie_word_embeddings", False)
    wanted = getattr(torch, dtype)
    writer = _ShardWriter(target)
    names = _merged_names(ranks[0], lora_scale is not None)
    if not names:
        raise StageError(f"{actor}: holds an adapter alone and no base weights; it cannot be merged")
    for name, key in names.items():
        if tied and name == "lm_head.weight":
            continue
        tensor = _whole(key, ranks)
        if lora_scale is not None and (pair := _adapter_of(key, ranks[0])):
            down, up = (_whole(part, ranks).float() for part in pair)
            tensor = tensor.float() + lora_scale * (up @ down)
        writer.add(name, (tensor.to(wanted) if tensor.is_floating_point() else tensor).contiguous())
    return writer.close()


def _load_ranks(actor: Path) -> list[dict[str, Any]]:
    import torch
    import torch.distributed.tensor  # makes DTensor known to weights_only

    world = json.loads((actor / "fsdp_config.json").read_text())["world_size"]
    paths = [actor / f"model_world_size_{world}_rank_{rank}.pt" for rank in range(world)]
    try:
        return [torch.load(path, map_location="cpu", mmap=True, weights_only=True) for path in paths]
    except (FileNotFoundError, RuntimeError, EOFError) as error:
        raise StageError(f"{actor}: cut short: {str(error).splitlines()[0]}") from error
    except pickle.UnpicklingError as error:
        raise StageError(f"{actor}: holds something else than weights, and is not loaded") from error


def _merged_names(state: dict[str, Any], lora: bool) -> dict[str, str]:
    """Names of the plain model, and under which key each stands in the checkpoint."""
    names = {}
    for key in state:
        if lora and ".lora_" in key:
            continue
        name = key.removeprefix(_PREFIX) if lora else key
        names[name.replace(".base_layer.", ".")] = key
    return names


def _adapter_of(key: str, state: dict[str, Any]) -> tuple[str, str] | None:
    if not key.endswith(".base_layer.weight"):
        return None
    stem = key.removesuffix("base_layer.weight")
    down, up = (next((k for k in state if k.startswith(f"{stem}lora_{part}.")), None) for part in "AB")
    if down is None or up is None:
        raise StageError(f"checkpoint: {key} has no LoRA adapter beside it")
    return down, up


def _whole(key: str, ranks: list[dict[str, Any]]) -> Any:
    """One tensor from its shards; a plain tensor is replicated, and must be equal on all ranks."""
    import torch
    from torch.distributed.tensor import DTensor

    shards = [rank[key] for rank in ranks]
    if not isinstance(shards[0], DTensor):
        if any(not torch.equal(shards[0], shard) for shard in shards[1:]):
            raise StageError(f"checkpoint: {key} differs between the ranks, though it is not sharded")
        return shards[0]
    placement = shards[0].placements[-1]
    local = [shard._local_tensor for shard in shards]
    if placement.is_replicate():
        return local[0]
    if not placement.is_shard() or len(shards[0].placements) > 1:
        raise StageError(f"checkpoint: {key} is placed as {shards[0].placements}; only FSDP's own sharding is known")
    whole = torch.cat(local, dim=placement.dim)
    if whole.shape != shards[0].shape:
        raise StageError(f"checkpoint: {key}: shards make {tuple(whole.shape)}, expected {tuple(shards[0].shape)}")
    return whole


class _ShardWriter:
    """Collects tensors into files of at most SHARD_BYTES, named as transformers names them."""

    def __init__(self, target: Path) -> None:
        self.target = target
        self.waiting: dict[str, Any] = {}
        self.size = self.total = self.parameters = 0
        self.files: list[tuple[Path, list[str]]] = []

    def add(self, name: str, tensor: Any) -> None:
        size = tensor.numel() * tensor.element_size()
        if self.waiting and self.size + size > SHARD_BYTES:
            self._flush()
        self.waiting[name] = tensor
        self.size += size
        self.total += size
        self.parameters += tensor.numel()

    def _flush(self) -> None:
        from safetensors import SafetensorError
        from safetensors.torch import save_file

        path = self.target / f"part-{len(self.files):05d}.safetensors"
        try:
            save_file(self.waiting, path, metadata={"format": "pt"})
        except SafetensorError as error:
            # Of what the system said its text alone is left.
            if number := re.search(r"\(os error (\d+)\)", str(error)):
                raise OSError(int(number[1]), os.strerror(int(number[1])), str(path)) from error
            raise
        self.files.append((path, list(self.waiting)))
        self.waiting, self.size = {}, 0

    def close(self) -> dict[str, Any]:
        self._flush()
        weights = dict(self._renamed())
        if len(self.files) > 1:
            index = {"metadata": {"total_size": self.total}, "weight_map": weights}
            (self.target / INDEX).write_text(json.dumps(index, indent=2) + "\n")
        return {"tensors": len(weights), "parameters": self.parameters, "bytes": self.total}

    def _renamed(self) -> Iterator[tuple[str, str]]:
        count = len(self.files)
        for number, (path, names) in enumerate(self.files, start=1):
            name = "model.safetensors" if count == 1 else f"model-{number:05d}-of-{count:05d}.safetensors"
            path.rename(self.target / name)
            yield from ((tensor, name) for tensor in names)


def weight_bytes(actor: Path) -> int:
    """Bytes of a checkpoint's weights on disk, over all ranks."""
    return sum(path.stat().st_size for path in actor.iterdir() if re.match(r"model_world_size_\d+_rank_\d+", path.name))
