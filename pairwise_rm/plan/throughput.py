"""The table of GPUs and measured constants, `throughput.yaml`: every figure with its kind, source and date."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from importlib import resources
from typing import Any, Literal, NamedTuple

import yaml

from pairwise_rm.errors import InputError
from pairwise_rm.recipe.model import Recipe

GIB = 1 << 30
DEFAULT_GPU = "a100-80gb"


class Figure(NamedTuple):
    """`what` it is, in words; `date` is that of the source."""

    value: float
    kind: Literal["measured", "vendor", "assumed"]
    source: str
    date: str
    what: str = ""


class Gpu(NamedTuple):
    """A kind of GPU. `chart`: its name in the chart's `gpuProduct`, or None; `node_label`: the GPU operator's."""

    name: str
    title: str
    figures: dict[str, Figure]
    chart: str | None
    node_label: str

    @property
    def memory(self) -> int:
        """Bytes that PyTorch and vLLM see."""
        return int(self.figures["memory_gib"].value * GIB)

    @property
    def flops(self) -> float:
        return self.figures["bf16_tflops"].value * 1e12

    @property
    def bandwidth(self) -> float:
        """Bytes a second of its memory."""
        return self.figures["hbm_tb_s"].value * 1e12

    @property
    def link(self) -> float:
        """Bytes a second to another GPU of the node, in one direction."""
        return self.figures["link_gb_s"].value * 1e9

    @property
    def host_link(self) -> float:
        """Bytes a second from and to host memory."""
        return self.figures["host_gb_s"].value * 1e9

    @property
    def train_hfu(self) -> float:
        return self.figures["train_hfu"].value


@functools.cache
def _table() -> dict[str, Any]:
    text = (resources.files("pairwise_rm.plan") / "throughput.yaml").read_text(encoding="utf-8")
    table: dict[str, Any] = yaml.safe_load(text)
    return table


@functools.cache
def gpus() -> dict[str, Gpu]:
    found = {}
    for name, entry in _table()["gpus"].items():
        figures = {key: _figure(value) for key, value in entry.items() if isinstance(value, dict)}
        found[name] = Gpu(name, entry["title"], figures, entry.get("chart"), entry["node_label"])
    return found


@functools.cache
def constants() -> dict[str, Figure]:
    return {name: _figure(entry) for name, entry in _table()["constants"].items()}


def constant(name: str) -> float:
    return constants()[name].value


def gib(name: str) -> int:
    """A constant in GiB, as bytes."""
    return int(constant(name) * GIB)


def _figure(entry: dict[str, Any]) -> Figure:
    return Figure(float(entry["value"]), entry["kind"], entry["source"], str(entry["date"]), entry.get("what", ""))


def find_gpu(name: str) -> Gpu:
    """Raises InputError with the known names."""
    if found := gpus().get(name.lower()):
        return found
    raise InputError(f"--gpu {name}: expected one of {', '.join(gpus())}")


def gpu_of(recipe: Recipe) -> Gpu:
    """The GPU that a recipe's description names, such as `8 x A100-40GB`; else the A100-80GB."""
    text = f"{recipe.name} {recipe.description}".lower()
    return next((gpu for name, gpu in gpus().items() if name in text), gpus()[DEFAULT_GPU])


def used(gpu: Gpu) -> Iterator[tuple[str, Figure]]:
    """Every figure that a plan for this GPU rests on."""
    words = {
        "memory_gib": "GiB of a GPU",
        "bf16_tflops": "TFLOP/s in bfloat16",
        "hbm_tb_s": "TB/s of its memory",
        "link_gb_s": "GB/s between GPUs of a node",
        "host_gb_s": "GB/s from and to host memory",
        "train_hfu": "utilisation of a GPU in pre-training, recomputation counted",
    }
    for name, figure in gpu.figures.items():
        yield name, figure._replace(what=words[name])
    yield from constants().items()
