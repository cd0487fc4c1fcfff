"""What a node needs beside its GPUs: host memory, /dev/shm, Ray CPUs, and what the volumes have to hold."""

from __future__ import annotations

import math
from dataclasses import dataclass

from pairwise_rm.hf_model import is_hub_name
from pairwise_rm.plan.layout import Layout
from pairwise_rm.plan.memory import Trainer
from pairwise_rm.plan.model_shape import ModelShape, Shape
from pairwise_rm.plan.throughput import GIB, constant, gib
from pairwise_rm.recipe.model import Recipe
from pairwise_rm.train.preflight import ray_cpus_needed

_FIELDS = 10 * 8
"""Bytes of a token in Ray and TransferQueue: ids, masks, positions, three log-probabilities, rewards, advantages."""
_EXPORT_BYTES = {"bfloat16": 2, "float32": 4}


@dataclass(frozen=True)
class Host:
    """Bytes of one node, by part. `shm`: what of it is in /dev/shm. `ray_cpus`: of all nodes together."""

    parts: dict[str, int]
    shm: int
    ray_cpus: int
    moment: str

    @property
    def total(self) -> int:
        return sum(self.parts.values())


@dataclass(frozen=True)
class Storage:
    """Bytes on the volumes. `checkpoint`: one of them; `kept`: how many of them there are at once."""

    checkpoint: int
    kept: int
    merged: int
    export: int
    cache: int

    @property
    def runs(self) -> int:
        return self.checkpoint * self.kept + self.merged + self.export


def host_memory(shape: ModelShape, layout: Layout, recipe: Recipe, tokens: int) -> Host:
    """Host memory of the node with rank 0, at the larger of start-up and training.

    Args:
        tokens: of a step, prompts and responses of all samples.

    Offloaded tensors are pinned (verl copies with `non_blocking`, FSDP's CPUOffloadPolicy with `pin_memory`), and torch
    rounds a pinned allocation up to a power of two.
    """
    gpus = layout.gpus_per_node
    processes = gib("host_base_gib") + int(layout.agent_workers * constant("host_gib_an_agent_worker") * GIB)
    if layout.device != "cpu":
        processes += int(gpus * constant("host_gib_a_gpu") * GIB)
    batch = tokens * _FIELDS * 2  # in the object store, and in TransferQueue
    parts = {"processes": processes, "batch": batch}
    loading = {**parts}
    if layout.device == "cpu":
        return Host(parts, layout.bucket_bytes + batch, ray_cpus_needed(recipe), "training")
    if layout.reference and not layout.lora:
        parts["reference"] = gpus * pinned(shape, layout.gpus, layout.reference_bytes)
        loading["reference"] = parts["reference"]
    if layout.offload_params:
        parts["weights offloaded"] = gpus * pinned(shape, layout.gpus, layout.master_bytes)
    if layout.offload_optimizer:
        trainer = Trainer(shape, layout, layout.prompt_limit)
        moments = 2 * layout.master_bytes * trainer.shard(trainer.trained)
        full = 2 * pinned(shape, layout.gpus, layout.master_bytes)
        parts["optimizer offloaded"] = gpus * (moments if layout.lora else full)
    if layout.lora:
        parts["vLLM's weights, asleep"] = gpus * layout.rollout_bytes * shape.weights // layout.tensor_parallel
    # Rank 0 loads the whole model on its host; with tied embeddings every rank does.
    ranks = gpus if shape.tied else 1
    loading["whole model, while loading"] = ranks * layout.master_bytes * shape.weights
    moment, worst = max((("training", parts), ("start-up", loading)), key=lambda item: sum(item[1].values()))
    return Host({name: size for name, size in worst.items() if size}, GIB + batch, ray_cpus_needed(recipe), moment)


def pinned(shape: ModelShape, gpus: int, each: int) -> int:
    """Bytes of one rank's pinned shards, each of which is rounded up to a power of two."""
    return sum(_power_of_two(each * _shard(tensor, gpus)) for tensor in shape.tensors())


def _shard(tensor: Shape, gpus: int) -> int:
    """Numbers of a tensor that one of `gpus` ranks has: FSDP2 splits the first dimension."""
    return -(-tensor[0] // gpus) * math.prod(tensor[1:])


def _power_of_two(size: int) -> int:
    return 1 << max(0, size - 1).bit_length()


def storage(shape: ModelShape, layout: Layout, recipe: Recipe) -> Storage:
    """What the volume of the runs and the cache have to hold.

    A checkpoint has the sharded weights, adapters and moments as they are in memory, the base of a LoRA run included.
    `keep_checkpoints` and the one that is being written are there at once. `merged` is written beside the one before
    it; the export is hard links to it, or a copy where the file system has none.
    """
    trainer = Trainer(shape, layout, layout.prompt_limit)
    weights = shape.weights + trainer.adapters
    checkpoint = layout.master_bytes * (weights + 2 * trainer.trained)
    merged = _EXPORT_BYTES[recipe.export.dtype or recipe.model.dtype] * shape.weights
    from_hub = not recipe.model.make and is_hub_name(recipe.model.path)
    return Storage(
        checkpoint=checkpoint,
        kept=recipe.train.keep_checkpoints + 1,
        merged=2 * merged,
        export=merged,
        cache=layout.rollout_bytes * shape.weights if from_hub else 0,
    )
