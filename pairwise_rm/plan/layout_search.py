"""Layouts of the same training: which of them fit, and which costs least.

Only what shapes speed is changed: tensor parallel, samples or tokens of a micro-batch, what is offloaded, vLLM's
share, and the number of GPUs where that is left open. LoRA shapes the judge; it is tried where no layout with all
weights fits.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, TypeVar

from pairwise_rm.plan.estimate import TIGHT, Estimate, estimate_layout
from pairwise_rm.plan.layout import Layout, Lora
from pairwise_rm.plan.memory import GpuMemory, gpu_memory

COUNTS = ((1, 1), (1, 2), (1, 4), (1, 8), (2, 8), (4, 8))
"""(nodes, GPUs of a node) that are tried where the number is left open."""
_SHARES = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
_MICRO = (1, 2, 4, 8, 16, 32)
_TOKENS = (8192, 16384, 24576, 32768)
_OFFLOADS = ((False, False), (False, True), (True, True))
_LORA = Lora(64, "all-linear")
_ACTOR, _ROLLOUT = "train.verl.actor_rollout_ref.actor", "train.verl.actor_rollout_ref.rollout"
_LORA_KEYS: dict[str, Any] = {
    "model.lora": {"rank": _LORA.rank, "alpha": 32, "target_modules": _LORA.targets},
    "train.learning_rate": 1e-5,
    f"{_ACTOR}.fsdp_config.model_dtype": "bfloat16",
    f"{_ROLLOUT}.layered_summon": True,
}
"""As in the shipped LoRA recipe: an adapter wants a higher learning rate, and its frozen base needs no float32."""
_WORTH = 0.98
"""A layout replaces one nearer to the recipe, which is tried before it, if it costs less than this share of it."""
_FUSED_OPTIMIZER = f"{_ACTOR}.optim.override_optimizer_config"


class Found(NamedTuple):
    """A layout with its estimate. `changes`: recipe keys, dotted, that differ from the recipe's."""

    estimate: Estimate
    changes: dict[str, Any]


def search(plan: Estimate, counts: Sequence[tuple[int, int]] | None = None) -> list[Found]:
    """The cheapest layout that fits for each number of GPUs, the cheapest of all first.

    Args:
        plan: the recipe as it is.
        counts: (nodes, GPUs of a node) to try; None: COUNTS.
    """
    found: list[Found] = []
    for lora in (plan.layout.lora is not None, True):
        for nodes, gpus in counts or COUNTS:
            base = _judged_by(dataclasses.replace(plan.layout, nodes=nodes, gpus_per_node=gpus))
            if lora and base.lora is None:
                base = _with_lora(base)
            if best := _cheapest(plan, base):
                found.append(best)
        if found or lora:
            break
    return sorted(found, key=lambda one: _price(one.estimate))


def _cheapest(plan: Estimate, base: Layout) -> Found | None:
    for in_lists in (base.optimizer_in_lists, False):
        # The fused step has no temporary; it is tried only where torch's default does not fit.
        best: Estimate | None = None
        for layout in _layouts(dataclasses.replace(base, optimizer_in_lists=in_lists)):
            if not _fits_well(_memory(plan, layout)):
                continue
            one = estimate_layout(plan.recipe, plan.shape, layout, plan.lengths, plan.gpu, plan.price)
            if best is None or _price(one) < _WORTH * _price(best):
                best = one
        if best is not None:
            return Found(best, changes(plan.layout, best.layout))
    return None


def _memory(plan: Estimate, layout: Layout) -> GpuMemory:
    return gpu_memory(plan.shape, layout, plan.gpu, plan.lengths.longest, round(plan.lengths.sequence))


def _fits_well(memory: GpuMemory) -> bool:
    return memory.fits and (memory.capacity is None or memory.worst.total <= (1 - TIGHT) * memory.capacity)


def _price(plan: Estimate) -> float:
    """GPU-hours of the run, or GPU-seconds of a step where the steps are not known."""
    assert plan.time is not None
    return plan.time.gpu_hours or plan.time.step * plan.time.gpus


def _layouts(base: Layout) -> Iterator[Layout]:
    """Every layout that verl can share among these GPUs; none where the batch cannot be shared."""
    if base.samples % base.gpus or (base.mini_batch * base.rollouts) % base.gpus:
        return
    of_mini, of_step = base.mini_batch * base.rollouts // base.gpus, base.samples // base.gpus
    parallel = [size for size in (1, 2, 4, 8) if base.gpus_per_node % size == 0]
    sizes = _first(base.tensor_parallel, parallel)
    offloads = _first((base.offload_params, base.offload_optimizer), _OFFLOADS)
    shares = _first(base.gpu_memory_utilization, _SHARES)
    for (params, optimizer), size, share in itertools.product(offloads, sizes, shares):
        laid = dataclasses.replace(
            base,
            tensor_parallel=size,
            gpu_memory_utilization=share,
            offload_params=params,
            offload_optimizer=optimizer,
        )
        if base.attention == "flash_attention_2" and base.packed:
            for tokens in _TOKENS:
                if tokens >= base.prompt_limit + base.response_limit:
                    yield dataclasses.replace(laid, dynamic=True, update_tokens=tokens, log_prob_tokens=2 * tokens)
            continue
        for micro, times in itertools.product(_first(base.micro, _MICRO), (1, 2, 4)):
            if of_mini % micro == 0 and of_step % (micro * times) == 0:
                yield dataclasses.replace(laid, dynamic=False, micro=micro, log_prob_micro=micro * times)


_Value = TypeVar("_Value")


def _first(own: _Value, others: Sequence[_Value]) -> list[_Value]:
    """`others` with the recipe's own value, if it is one of them, in front."""
    return sorted(others, key=lambda value: value != own)


def _judged_by(layout: Layout) -> Layout:
    """With no more engines of the evaluation than there are GPUs."""
    parallel = min(layout.judge_parallel, layout.gpus)
    return dataclasses.replace(layout, judge_parallel=parallel, judges=min(layout.judges, layout.gpus // parallel))


def _with_lora(layout: Layout) -> Layout:
    return dataclasses.replace(layout, lora=_LORA, master_bytes=2)


_KEYS = {
    "nodes": "train.nodes",
    "gpus_per_node": "train.gpus_per_node",
    "tensor_parallel": "train.tensor_parallel",
    "gpu_memory_utilization": "train.gpu_memory_utilization",
    "offload_params": "train.offload.params",
    "offload_optimizer": "train.offload.optimizer",
    "micro": "train.micro_batch_size_per_gpu",
    "log_prob_micro": "train.log_prob_micro_batch_size_per_gpu",
    "judges": "evaluate.replicas",
    "judge_parallel": "evaluate.tensor_parallel",
    "dynamic": f"{_ACTOR}.use_dynamic_bsz",
    "update_tokens": f"{_ACTOR}.ppo_max_token_len_per_gpu",
    "log_prob_tokens": f"{_ROLLOUT}.log_prob_max_token_len_per_gpu",
}
"""Recipe keys of what a search changes."""


def changes(before: Layout, after: Layout) -> dict[str, Any]:
    """Recipe keys, dotted, by which `after` differs from `before`."""
    found: dict[str, Any] = {}
    for name, key in _KEYS.items():
        if getattr(before, name) != getattr(after, name) and not (name.endswith("_tokens") and not after.dynamic):
            found[key] = getattr(after, name)
    if after.lora is not None and before.lora is None:
        found |= _LORA_KEYS
    if not after.optimizer_in_lists and before.optimizer_in_lists:
        found[_FUSED_OPTIMIZER] = {"fused": True}
    return found


def what_helps(plan: Estimate) -> list[dict[str, Any]]:
    """Single changes with which a layout that does not fit does, as recipe keys; those that keep the judge first."""
    layout = plan.layout
    variants: list[dict[str, Any]] = [
        {"optimizer_in_lists": False},
        {"offload_optimizer": True},
        {"offload_params": True, "offload_optimizer": True},
        *({"gpu_memory_utilization": share} for share in reversed(_SHARES) if share < layout.gpu_memory_utilization),
        *({"tensor_parallel": size} for size in (2, 4, 8) if _parallel(layout, size)),
        {"micro": 1, "log_prob_micro": 1},
    ]
    tried = [dataclasses.replace(layout, **variant) for variant in variants]
    if layout.lora is None:
        tried.append(_with_lora(layout))
    found: list[dict[str, Any]] = []
    for one in tried:
        made = changes(layout, one)
        same_key = any(made.keys() == other.keys() for other in found)
        if made and not same_key and _memory(plan, one).fits:
            found.append(made)
    return found


def _parallel(layout: Layout, size: int) -> bool:
    return size > layout.tensor_parallel and layout.gpus_per_node % size == 0
