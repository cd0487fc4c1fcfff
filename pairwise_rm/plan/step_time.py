"""Seconds of a step by phase, from the arithmetic and the bytes that each phase moves; see docs/plan.md.

Every phase is the largest of what limits it (arithmetic, memory bandwidth, links between GPUs, Python that starts
kernels) and a fixed part. The figures are those of `throughput.yaml`.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

from pairwise_rm.plan.layout import Layout
from pairwise_rm.plan.lengths import Lengths
from pairwise_rm.plan.memory import GpuMemory, KvCache, Rollout, Trainer
from pairwise_rm.plan.model_shape import ModelShape
from pairwise_rm.plan.throughput import Gpu, constant
from pairwise_rm.recipe.model import Recipe

_ROLLOUTS_OF_VALIDATION = 1


@dataclass(frozen=True)
class StepTime:
    """Seconds by phase, and of the whole run. `steps`: None where the data's rows are unknown.

    `limits`: what limits each phase.
    """

    phases: dict[str, float]
    limits: dict[str, str]
    steps: int | None
    validations: float
    checkpoints: float
    start: float
    evaluation: float
    evaluation_gpus: int
    gpus: int
    tokens: int

    @property
    def step(self) -> float:
        return sum(self.phases.values())

    @property
    def training(self) -> float | None:
        """Seconds of the train stage."""
        if self.steps is None:
            return None
        return self.start + self.steps * self.step + self.validations + self.checkpoints

    @property
    def gpu_hours(self) -> float | None:
        """Training, and judging before and after it."""
        if self.training is None:
            return None
        return (self.training * self.gpus + self.evaluation * self.evaluation_gpus) / 3600


def step_time(
    shape: ModelShape, layout: Layout, gpu: Gpu, lengths: Lengths, memory: GpuMemory, recipe: Recipe
) -> StepTime:
    """The times of a recipe on `gpu`."""
    timer = _Timer(shape, layout, gpu, lengths)
    samples = layout.samples
    engines = (layout.replicas, layout.tensor_parallel)
    rollout, rollout_limit = timer.generate(layout.batch, layout.rollouts, *engines, memory.kv)
    phases = {"rollout": constant("fixed_rollout_s") + rollout}
    limits = {"rollout": rollout_limit}
    for name, times in timer.passes().items():
        phases[name], limits[name] = times
    phases["weight sync"], limits["weight sync"] = constant("fixed_sync_s") + timer.sync(), "links"
    phases["rest"], limits["rest"] = constant("fixed_rest_s"), "Python"
    steps = _steps(recipe, lengths)
    train = recipe.train
    validations = 0.0
    if train.validate_every and steps:
        rows = train.validate_samples or (lengths.rows or 0)
        once, _ = timer.generate(rows, _ROLLOUTS_OF_VALIDATION, *engines, memory.kv)
        validations = steps // train.validate_every * once
    trainer = Trainer(shape, layout, lengths.longest)
    checkpoint = layout.master_bytes * (shape.weights + trainer.adapters + 2 * trainer.trained)
    saves = math.ceil(steps / train.save_every) if steps else 0
    return StepTime(
        phases=phases,
        limits=limits,
        steps=steps,
        validations=validations,
        checkpoints=saves * checkpoint / (constant("storage_gb_s") * 1e9),
        start=constant("start_s"),
        evaluation=_evaluation(timer, recipe, lengths, memory),
        evaluation_gpus=recipe.evaluate.replicas * recipe.evaluate.tensor_parallel,
        gpus=layout.gpus,
        tokens=round(samples * lengths.sequence),
    )


def _steps(recipe: Recipe, lengths: Lengths) -> int | None:
    if lengths.rows is None:
        return recipe.train.steps
    in_data = recipe.train.epochs * (lengths.rows // recipe.train.batch_size)
    return min(recipe.train.steps or in_data, in_data)


_HELD_OUT = 896
"""Rows of HelpSteer2's validation split, where the test file's are not known."""


def _evaluation(timer: _Timer, recipe: Recipe, lengths: Lengths, memory: GpuMemory) -> float:
    """Seconds of judging the held-out rows before and after training."""
    evaluate = recipe.evaluate
    rows = min(2 * evaluate.limit, _HELD_OUT) if evaluate.limit else _HELD_OUT
    cache = memory.judge_kv or memory.kv
    once, _ = timer.generate(rows, evaluate.samples, evaluate.replicas, evaluate.tensor_parallel, cache)
    return 2 * once


@dataclass(frozen=True)
class _Timer:
    shape: ModelShape
    layout: Layout
    gpu: Gpu
    lengths: Lengths

    # ---- rollouts

    def generate(self, prompts: int, each: int, replicas: int, parallel: int, cache: KvCache) -> tuple[float, str]:
        """Seconds to answer `prompts` prompts `each` times, and what takes them: reading prompts, or decoding.

        Decoding goes on until the longest response has ended, taken as twice the mean or the limit; until then each
        step reads the weights once, and the cache of every sequence that is still going.
        """
        if not prompts:
            return 0.0, ""
        layout, shape, gpu = self.layout, self.shape, self.gpu
        of_replica = math.ceil(prompts * each / replicas)
        room = max(1, int(cache.tokens / self.lengths.sequence))
        at_once = min(of_replica, layout.max_num_seqs, room)
        mean = self.lengths.response
        longest = min(layout.response_limit, 2 * mean)
        steps = max(1.0, of_replica / at_once) * mean + (longest - mean)
        going = of_replica * mean / steps
        read = Rollout(shape, dataclasses.replace(layout, tensor_parallel=parallel)).token_bytes()
        keys = going * (self.lengths.prompt + mean / 2) * read
        weights = layout.rollout_bytes * shape.multiplied / parallel
        bandwidth = (weights + keys) / (gpu.bandwidth * constant("hbm_share"))
        arithmetic = 2 * shape.multiplied * going / (parallel * gpu.flops * constant("prefill_mfu"))
        step = max(bandwidth, arithmetic) + self._reduces(going, parallel) + constant("decode_step_ms") * 1e-3
        # A prompt's responses share its prefix within a replica.
        copies = replicas * (1 - (1 - 1 / replicas) ** each)
        reading = prompts * copies * self.lengths.prompt * self.forward_flops(self.lengths.prompt)
        prefill = reading / (replicas * parallel * gpu.flops * constant("prefill_mfu"))
        decode = steps * step
        return prefill + decode, "prompts" if prefill > decode else "decoding"

    def _reduces(self, going: float, parallel: int) -> float:
        """Seconds of a decoding step's all-reduces: two a layer, each its latency and its bytes over the link."""
        if parallel == 1:
            return 0.0
        size = 2 * (parallel - 1) / parallel * going * self.shape.hidden * self.layout.rollout_bytes
        each = constant("all_reduce_us") * 1e-6 + size / (self.gpu.link * constant("link_share"))
        return 2 * self.shape.layers * each

    def forward_flops(self, length: float) -> float:
        """Of a token in a sequence of that length: two for each weight, and attention over half of it."""
        attention = 2 * self.shape.layers * self.shape.q_size * length
        return 2 * self.shape.multiplied + attention

    # ---- the trainer

    def passes(self) -> dict[str, tuple[float, str]]:
        """Old log-probabilities, the reference's, and the update: seconds, and what limits them."""
        layout, gpu = self.layout, self.gpu
        trainer = Trainer(self.shape, layout, self.lengths.longest)
        move = layout.master_bytes * trainer.shard(self.shape.weights) / gpu.host_link if layout.offload_params else 0.0
        moments = 2 * layout.master_bytes * trainer.shard(trainer.trained) / gpu.host_link
        moments = moments if layout.offload_optimizer else 0.0
        found = {}
        for name in ("old log-probabilities", "reference log-probabilities"):
            if name.startswith("reference") and not layout.reference:
                continue
            streamed = name.startswith("reference") and not layout.lora
            seconds, limit = self._micro_batches(trainer, log_prob=True, streamed=streamed)
            seconds += 0.0 if streamed else 2 * move
            found[name] = seconds + constant("fixed_log_prob_s"), limit
        seconds, limit = self._micro_batches(trainer, log_prob=False, streamed=False)
        found["update"] = seconds + 2 * (move + moments) + constant("fixed_update_s"), limit
        return found

    def _micro_batches(self, trainer: Trainer, *, log_prob: bool, streamed: bool) -> tuple[float, str]:
        """All micro-batches of a GPU: each the largest of arithmetic, gathering, kernel starts, and host memory."""
        layout, shape, gpu = self.layout, self.shape, self.gpu
        a_gpu = layout.samples / layout.gpus
        padded = self.lengths.sequence if layout.packed else self._padded(log_prob)
        tokens = a_gpu * padded
        if layout.dynamic:
            budget = layout.log_prob_tokens if log_prob else layout.update_tokens
            mini = 1.0 if log_prob else layout.batch / layout.mini_batch
            count = max(mini * math.ceil(tokens / mini / max(budget, padded)), 1)
        else:
            count = a_gpu / (layout.log_prob_micro if log_prob else layout.micro)
        forward = self.forward_flops(self.lengths.sequence)
        if trainer.masked(log_prob):
            # sdpa with a mask multiplies every token of a micro-batch with every other one.
            pack = tokens / count if layout.packed else padded
            forward = 2 * shape.multiplied + 4 * shape.layers * shape.q_size * pack
        times = 1.0
        if not log_prob:
            # Backward is twice the forward pass; of a frozen base only the gradients of activations are made.
            times = 1 + (1 if layout.lora else 2) + (1 if layout.checkpointing else 0)
        utilisation = gpu.train_hfu * constant("verl_share_of_hfu")
        arithmetic = times * forward * tokens / (gpu.flops * utilisation)
        moved = layout.compute_bytes * (shape.weights + trainer.adapters) * (1 if log_prob else 2)
        moved += 0 if log_prob else 4 * trainer.trained
        gathering = count * moved * (layout.gpus - 1) / layout.gpus / self.link()
        starts = count * times * shape.layers * constant("layer_start_ms") * 1e-3
        limits = {"arithmetic": arithmetic, "gathering weights": gathering, "starting kernels": starts}
        if streamed:
            shard = layout.reference_bytes * trainer.shard(shape.weights)
            limits["weights from host memory"] = count * shard / gpu.host_link
        name = max(limits, key=lambda key: limits[key])
        return limits[name], name

    def _padded(self, log_prob: bool) -> float:
        """Without packing each sample of a micro-batch is as long as the longest of it."""
        several = (self.layout.log_prob_micro if log_prob else self.layout.micro) > 1
        if not several:
            return self.lengths.sequence
        longest = min(self.layout.response_limit, 2 * self.lengths.response)
        return self.lengths.percentile(0.95) + longest

    def link(self) -> float:
        """Bytes a second that a GPU gathers from the others."""
        share = constant("link_share")
        return self.gpu.link * share if self.layout.nodes == 1 else constant("internode_gb_s") * 1e9

    def sync(self) -> float:
        """Every weight is gathered in the trainer's dtype and copied into vLLM; of LoRA only the adapters."""
        layout = self.layout
        trainer = Trainer(self.shape, layout, self.lengths.longest)
        size = layout.master_bytes * (trainer.adapters if layout.lora else self.shape.weights)
        gathered = size * (layout.gpus - 1) / layout.gpus / self.link()
        copied = 2 * size / (self.gpu.bandwidth * constant("hbm_share"))
        # Level 1 sleep keeps vLLM's weights in host memory.
        woken = layout.rollout_bytes * self.shape.weights / layout.tensor_parallel / self.gpu.host_link
        return gathered + copied + (woken if layout.lora else 0.0)
