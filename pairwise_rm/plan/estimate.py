"""A recipe on a kind of GPU: memory, host, volumes and time, put together."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pairwise_rm.plan.host import Host, Storage, host_memory, storage
from pairwise_rm.plan.layout import Layout
from pairwise_rm.plan.lengths import Lengths, lengths_of
from pairwise_rm.plan.memory import GpuMemory, gpu_memory
from pairwise_rm.plan.model_shape import ModelShape, shape_of
from pairwise_rm.plan.step_time import StepTime, step_time
from pairwise_rm.plan.throughput import GIB, Gpu, used
from pairwise_rm.recipe.model import Recipe

TIGHT = 0.05
"""Of a GPU's memory: less than this to spare is said to be tight."""


@dataclass(frozen=True)
class Estimate:
    """`gpu` and `time` are None with `device: cpu`, whose speed nobody measured."""

    recipe: Recipe
    shape: ModelShape
    layout: Layout
    lengths: Lengths
    gpu: Gpu | None
    memory: GpuMemory
    host: Host
    storage: Storage
    time: StepTime | None
    price: float | None = None

    @property
    def fits(self) -> bool:
        return self.memory.fits

    @property
    def spare(self) -> int | None:
        """Bytes that the fullest phase leaves; negative where it does not fit."""
        return None if self.memory.capacity is None else self.memory.capacity - self.memory.worst.total

    @property
    def tight(self) -> bool:
        spare, capacity = self.spare, self.memory.capacity
        return self.fits and spare is not None and capacity is not None and spare < TIGHT * capacity

    @property
    def cost(self) -> float | None:
        hours = self.time.gpu_hours if self.time else None
        return None if hours is None or self.price is None else hours * self.price

    def as_json(self) -> dict[str, Any]:
        """Bytes and seconds, as they are."""
        gpu, time, memory, lengths = self.gpu, self.time, self.memory, self.lengths
        return {
            "recipe": self.recipe.name,
            "model": {"name": self.shape.name, "weights": self.shape.weights, "source": self.shape.source},
            "device": self.layout.device,
            "gpu": gpu.name if gpu else None,
            "nodes": self.layout.nodes,
            "gpus_per_node": self.layout.gpus_per_node,
            "lengths": {
                "prompt_mean": lengths.prompt,
                "prompt_longest": lengths.longest,
                "prompt_source": lengths.prompt_source,
                "estimated": lengths.estimated,
                "response_mean": lengths.response,
                "response_source": lengths.response_source,
                "rows": lengths.rows,
                "histogram": [list(entry) for entry in lengths.histogram()],
            },
            "memory": {
                "capacity": memory.capacity,
                "fits": self.fits,
                "tight": self.tight,
                "spare": self.spare,
                "phases": [
                    {"phase": peak.phase, "total": peak.total, "moment": peak.moment or None, "parts": peak.parts}
                    for peak in memory.peaks
                ],
                "kv_cache": memory.kv._asdict(),
            },
            "host": {
                "parts": self.host.parts,
                "total": self.host.total,
                "moment": self.host.moment,
                "shm": self.host.shm,
                "ray_cpus": self.host.ray_cpus,
            },
            "storage": {
                "checkpoint": self.storage.checkpoint,
                "checkpoints_at_once": self.storage.kept,
                "merged": self.storage.merged,
                "export": self.storage.export,
                "runs": self.storage.runs,
                "cache": self.storage.cache,
            },
            "time": time
            and {
                "tokens_a_step": time.tokens,
                "phases": time.phases,
                "limits": time.limits,
                "step": time.step,
                "steps": time.steps,
                "training": time.training,
                "gpu_hours": time.gpu_hours,
                "price": self.price,
                "cost": self.cost,
            },
            "assumptions": [{"name": name, **figure._asdict()} for name, figure in (used(gpu) if gpu else ())],
        }


def estimate(
    recipe: Recipe,
    gpu: Gpu | None,
    *,
    data: Path | None = None,
    response: float | None = None,
    price: float | None = None,
) -> Estimate:
    """The plan of a recipe. Raises InputError where its model or the data cannot be read.

    Args:
        gpu: the kind of GPU; None with `device: cpu`.
        data: a parquet file of pairs, whose lengths count; None: the recipe's own, where they are there.
        response: mean tokens of a response; None: as measured in this run, else half of the limit.
        price: of a GPU for an hour, in any currency.
    """
    shape, layout, lengths = shape_of(recipe.model), Layout.of(recipe), lengths_of(recipe, data, response)
    return estimate_layout(recipe, shape, layout, lengths, gpu, price)


def estimate_layout(
    recipe: Recipe, shape: ModelShape, layout: Layout, lengths: Lengths, gpu: Gpu | None, price: float | None = None
) -> Estimate:
    """The same, of what is read already."""
    memory = gpu_memory(shape, layout, gpu, lengths.longest, round(lengths.sequence))
    time = step_time(shape, layout, gpu, lengths, memory, recipe) if gpu else None
    tokens = round(layout.samples * lengths.sequence)
    host = host_memory(shape, layout, recipe, tokens)
    return Estimate(recipe, shape, layout, lengths, gpu, memory, host, storage(shape, layout, recipe), time, price)


def in_gib(size: float) -> str:
    """`12.3 GiB`, or `850 MiB` below a GiB."""
    return f"{size / GIB:,.1f} GiB" if abs(size) >= GIB else f"{size / (1 << 20):,.0f} MiB"
