"""Memory of one GPU (or of the training process on a CPU) by part, at the peak of each phase of a step.

How verl 0.9.1 holds memory with the keys that a recipe renders to, each read from its source:

- **Weights.** `fsdp2` shards them over all GPUs (`fsdp_size: -1`) in `fsdp_config.model_dtype`, float32 unless the
  recipe says otherwise; passes compute in `mixed_precision.param_dtype`, bfloat16
  (workers/engine/fsdp/transformer_impl.py). Gradients and both Adam moments have the dtype of the sharded weight.
  With LoRA that holds for the adapter too, which is cast to the base's dtype, and only the adapter has gradients and
  moments.
- **What is gathered.** Each decoder layer, and embedding and output layer where they are not tied, is an FSDP unit of
  its own; tied ones are in the root (utils/fsdp_utils.py, apply_fsdp2). A unit is gathered in the compute dtype
  before its pass and freed after it; the next one is fetched ahead, so two layers are there. Gradients are reduced
  after every micro-batch (`use_no_sync_for_gradient_accumulation: false`) in float32, from a copy of a unit's
  gradients.
- **Reference.** Its FSDP is `forward_only`, for which verl forces CPUOffloadPolicy: its weights are in host memory
  whatever `param_offload` says, in its own `model_dtype`. With LoRA the reference is the actor without its adapter.
- **Optimizer.** torch's AdamW, which on a GPU goes over lists of tensors and makes a temporary of the size of the
  sharded weights in its step. `zero_grad` when an update ends frees the gradients.
- **Activations.** Gradient checkpointing is per layer: its input is kept, and a layer's inner tensors are there for
  one layer at a time. Counted below tensor by tensor; a test compares with what autograd saves.
- **Logits.** Of every token of a micro-batch over the whole vocabulary, in the compute dtype. Log-probabilities are
  flash-attn's cross-entropy where flash-attn is installed, which works in place; else a log-softmax a token, in
  float32 under autocast, which is kept for the backward pass. Old log-probabilities compute the entropy too.
- **vLLM.** Takes `gpu_memory_utilization` of the whole card; the KV cache is what its weights and its profile run
  leave. Between rollouts it sleeps: level 2 drops weights and cache, level 1 (LoRA) moves its weights to host memory.
  Weights are sent through a bucket of 2 GiB on the GPU, a full tensor in the trainer's dtype at a time.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import NamedTuple

from pairwise_rm.plan.layout import Layout
from pairwise_rm.plan.model_shape import ModelShape
from pairwise_rm.plan.throughput import GIB, Gpu, gib

PARTS = (
    *("weights", "gradients", "optimizer", "optimizer's step", "reference", "adapters"),
    *("gathered", "activations", "logits"),
    *("vLLM weights", "KV cache", "vLLM activations", "weight sync", "context"),
)
"""Names of the parts, in the order in which they are shown."""
_BLOCK = 16  # tokens of a block of vLLM's KV cache
_LORA_SLOTS = 1  # verl's max_loras
_FUSED_TOKENS = 512  # verl's fused linear cross-entropy works on so many tokens at a time

# Bytes of a logit (a token times an entry of the vocabulary) at the peak, measured with verl's own functions on a CPU:
# (end of the forward pass, backward pass) of an update, a pass without gradients, and that with the entropy.
# Keys: bytes of the compute dtype, whether the batch is packed.
_LOGIT_BYTES = {
    (4, True): ((4, 16), 4, 12),
    (4, False): ((12, 24), 12, 12),
    (2, True): ((6, 6), 2, 14),
    (2, False): ((10, 10), 6, 14),
}
_ENTROPY_IN_UPDATE = 8


@dataclass(frozen=True)
class Peak:
    """Bytes of each part at the largest moment of a phase."""

    phase: str
    parts: dict[str, int]
    moment: str = ""

    @property
    def total(self) -> int:
        return sum(self.parts.values())


class KvCache(NamedTuple):
    """Of one replica. `tokens`: that fit at once. `longest`, `typical`: sequences of that length that fit."""

    bytes: int
    token_bytes: int
    tokens: int
    longest: int
    typical: int


@dataclass(frozen=True)
class GpuMemory:
    """All phases of one GPU. `capacity`: bytes that PyTorch sees of it; None on a CPU."""

    peaks: list[Peak]
    capacity: int | None
    kv: KvCache
    judge_kv: KvCache | None = None

    @property
    def worst(self) -> Peak:
        return max(self.peaks, key=lambda peak: peak.total)

    @property
    def over(self) -> list[tuple[Peak, int]]:
        """Phases that do not fit, with the bytes by which."""
        if self.capacity is None:
            return []
        return [(peak, peak.total - self.capacity) for peak in self.peaks if peak.total > self.capacity]

    @property
    def fits(self) -> bool:
        return not self.over and self.short_cache is None

    @property
    def short_cache(self) -> str | None:
        """The phase whose KV cache does not hold one sequence of full length."""
        if self.kv.longest < 1:
            return "rollout"
        return "judging" if self.judge_kv is not None and self.judge_kv.longest < 1 else None


@dataclass(frozen=True)
class Trainer:
    """The actor's sharded state on one GPU, and the passes over it."""

    shape: ModelShape
    layout: Layout
    longest_prompt: int

    def shard(self, weights: int) -> int:
        return -(-weights // self.layout.gpus)

    @property
    def adapters(self) -> int:
        lora = self.layout.lora
        return self.shape.adapter_weights(lora.rank, lora.targets) if lora else 0

    @property
    def trained(self) -> int:
        """Weights with gradients."""
        return self.adapters if self.layout.lora else self.shape.weights

    def state(self, *, updates: bool = False, rolls_out: bool = False) -> dict[str, int]:
        """What stays on the GPU; the reference is there only where host and GPU are one memory."""
        layout = self.layout
        here = layout.device == "cpu"
        params_away = layout.offload_params and rolls_out and not here
        optimizer_away = layout.offload_optimizer and not updates and not here
        parts = {
            "weights": 0 if params_away else layout.master_bytes * self.shard(self.shape.weights),
            "adapters": 0 if params_away else layout.master_bytes * self.shard(self.adapters),
            "optimizer": 0 if optimizer_away else 2 * layout.master_bytes * self.shard(self.trained),
        }
        if here and layout.reference and not layout.lora:
            parts["reference"] = layout.reference_bytes * self.shard(self.shape.weights)
        return parts

    # ---- passes

    def unit(self) -> int:
        """Weights of a decoder layer with its adapters, which are gathered together."""
        return self.shape.layer_weights + self.adapters // self.shape.layers

    def trained_unit(self) -> int:
        return self.adapters // self.shape.layers if self.layout.lora else self.shape.layer_weights

    def gathered_layers(self) -> int:
        """The layer at work and the next one."""
        return 2 * self.layout.compute_bytes * self.unit()

    def root(self) -> int:
        """The tied embedding, which the root keeps gathered for the whole pass."""
        return self.layout.compute_bytes * self.shape.embedding if self.shape.tied else 0

    def kept(self, tokens: int) -> int:
        """Activations that wait for the backward pass: each layer's input, or all that a layer saves."""
        layers = self.shape.layers
        if self.layout.checkpointing:
            return layers * self.layout.compute_bytes * self.shape.hidden * tokens
        return layers * (self.saved_by_layer(tokens) + self.layout.compute_bytes * self.shape.hidden * tokens)

    def saved_by_layer(self, tokens: int) -> int:
        """What autograd keeps of one layer, without its input."""
        return tokens * self._saved_a_token() + self._attention_matrix(tokens)

    def _saved_a_token(self) -> int:
        shape, c = self.shape, self.layout.compute_bytes
        h, q, kv, f = shape.hidden, shape.q_size, shape.kv_size, shape.ffn
        # RMSNorm works in float32. In bfloat16 its input is copied for that; in float32 it is the residual itself.
        norms = 2 * (4 + c + c) * h if c == 2 else 5 * c * h
        of_norm = (4 + c if c == 2 else 2 * c) if shape.qk_norm else 0
        attention = (c + of_norm) * q + (c + of_norm) * kv + c * kv + c * q + 4 * shape.heads
        if self.masked():
            attention += 2 * c * (q - kv)  # keys and values are repeated for each query head
        adapters = 0
        if lora := self.layout.lora:
            adapters = c * lora.rank * len(shape.adapted(lora.targets))
        return norms + attention + 4 * c * f + adapters

    def masked(self, log_prob: bool = False) -> bool:
        """Whether sdpa gets a mask: several samples in one pack, or padding."""
        several = (self.layout.log_prob_micro if log_prob else self.layout.micro) > 1
        return self.layout.attention == "sdpa" and (self.layout.dynamic or several)

    def _attention_matrix(self, tokens: int, log_prob: bool = False) -> int:
        """What attention keeps that grows with the square of the length."""
        layout, heads = self.layout, self.shape.heads
        one = tokens if layout.packed else min(tokens, self.longest_prompt + layout.response_limit)
        count = 1 if layout.packed else -(-tokens // one)
        if layout.attention == "eager":
            return count * one * one * heads * (4 + layout.compute_bytes)
        return count * one * one * (1 + layout.compute_bytes) if self.masked(log_prob) else 0

    def backward_temporaries(self, tokens: int) -> int:
        """Gradients of activations at the widest place of a layer's backward pass, the MLP."""
        return self.layout.compute_bytes * (2 * self.shape.ffn + self.shape.hidden) * tokens

    def forward_temporaries(self, tokens: int) -> int:
        """Tensors of a layer at the widest place of a pass without gradients."""
        matrix = self._attention_matrix(tokens, log_prob=True)
        return self.layout.compute_bytes * (3 * self.shape.ffn + 4 * self.shape.hidden) * tokens + matrix

    def logits(self, tokens: int, moment: str) -> int:
        """Bytes around the output layer. `moment`: forward or backward of an update, old or ref log-probabilities."""
        layout = self.layout
        if layout.fused:
            return 4 * layout.compute_bytes * min(tokens, _FUSED_TOKENS) * self.shape.vocab
        c = layout.compute_bytes
        (forward, backward), infer, with_entropy = _LOGIT_BYTES[c, layout.packed]
        on_gpu = layout.device != "cpu"
        if layout.packed and on_gpu:
            with_entropy = infer  # torch.compile makes one kernel of it
        if layout.packed and on_gpu and layout.attention == "flash_attention_2":
            forward = backward = infer = with_entropy = c  # flash-attn's cross-entropy
        if layout.entropy:
            forward, backward = forward + _ENTROPY_IN_UPDATE, backward + _ENTROPY_IN_UPDATE
        each = {"forward": forward, "backward": backward, "old": with_entropy, "reference": infer}[moment]
        return (each + (c if layout.scaled else 0)) * tokens * self.shape.vocab

    def head(self) -> int:
        """The output layer, gathered; nothing where the root holds it anyway."""
        return 0 if self.shape.tied else self.layout.compute_bytes * self.shape.embedding

    def update(self) -> Peak:
        """The largest of four moments: logits, the first layer to go backward, the embedding, the optimizer."""
        layout, shape = self.layout, self.shape
        tokens = layout.micro_batch(self.longest_prompt)
        c, state = layout.compute_bytes, self.state(updates=True)
        state["gradients"] = layout.master_bytes * self.shard(self.trained)
        kept = self.kept(tokens)
        head_gradient = 0 if layout.lora else c * shape.embedding
        # Gradients of a unit, and the float32 copy that is reduced.
        unit_gradient = (c + 4) * self.trained_unit()
        root_gradient = c * shape.embedding if shape.tied and not layout.lora else 0
        layer = 0 if not layout.checkpointing else self.saved_by_layer(tokens)
        moments = [
            Peak(
                "update",
                {
                    **state,
                    "gathered": self.head() + self.root(),
                    "activations": kept,
                    "logits": max(self.logits(tokens, "forward"), self.logits(tokens, "backward") + head_gradient),
                },
                "logits",
            ),
            Peak(
                "update",
                {
                    **state,
                    "gathered": self.gathered_layers() + self.root() + root_gradient + unit_gradient,
                    "activations": kept + layer + self.backward_temporaries(tokens),
                },
                "backward pass of a layer",
            ),
            Peak(
                "update",
                {
                    **state,
                    "gathered": self.head() + self.root() + (0 if layout.lora else (c + 4) * shape.embedding),
                    "activations": (kept if not shape.tied else 0) + c * shape.hidden * tokens,
                },
                "gradients of the output layer" if not shape.tied else "gradients of the tied embedding",
            ),
            Peak("update", {**state, "optimizer's step": self._optimizer_temporary()}, "the optimizer's step"),
        ]
        return max(moments, key=lambda peak: peak.total)

    def _optimizer_temporary(self) -> int:
        layout = self.layout
        if layout.device != "cpu" and layout.optimizer_in_lists:
            return layout.master_bytes * self.shard(self.trained)
        largest = self.trained_unit() // 3 if layout.lora else self.largest()
        return 2 * layout.master_bytes * self.shard(largest)

    def log_probs(self, phase: str, moment: str) -> Peak:
        layout = self.layout
        tokens = layout.micro_batch(self.longest_prompt, log_prob=True)
        streamed = moment == "reference" and not layout.lora
        parts = self.state(rolls_out=streamed)
        parts["gathered"] = self.gathered_layers() + self.root()
        if streamed and layout.device != "cpu":
            # A layer's shard comes from host memory in the reference's own dtype.
            parts["reference"] = 2 * layout.reference_bytes * self.shard(self.unit())
        passing = {**parts, "activations": self.forward_temporaries(tokens)}
        hidden = layout.compute_bytes * self.shape.hidden * tokens
        last = {**parts, "gathered": self.head() + self.root(), "activations": hidden}
        last["logits"] = self.logits(tokens, moment)
        return max(Peak(phase, passing, "a layer"), Peak(phase, last, "logits"), key=lambda peak: peak.total)

    def largest(self) -> int:
        """Weights of the largest tensor."""
        return max(self.shape.embedding, self.shape.ffn * self.shape.hidden)


@dataclass(frozen=True)
class Rollout:
    """vLLM on one GPU."""

    shape: ModelShape
    layout: Layout

    def weights(self) -> int:
        """A rank's share: linear layers and vocabulary are split over the tensor-parallel ranks."""
        layout = self.layout
        lora = layout.lora
        slots = _LORA_SLOTS * self.shape.adapter_weights(lora.rank, lora.targets) if lora else 0
        return layout.rollout_bytes * (self.shape.weights + slots) // layout.tensor_parallel

    def profile_run(self) -> int:
        """vLLM's trial: activations of `max_num_batched_tokens` tokens, logits of all sequences in float32."""
        layout, shape = self.layout, self.shape
        tokens = layout.max_num_batched_tokens
        split = (2 * shape.ffn + shape.ffn + shape.q_size + 2 * shape.kv_size) // layout.tensor_parallel
        logits = 3 * 4 * layout.max_num_seqs * shape.vocab
        return layout.rollout_bytes * tokens * (split + 3 * shape.hidden) + logits

    def token_bytes(self) -> int:
        """Of the KV cache on one rank; with more ranks than key heads, each rank has one head."""
        heads = max(1, self.shape.kv_heads // self.layout.tensor_parallel)
        return 2 * self.shape.layers * heads * self.shape.head_dim * self.layout.rollout_bytes

    def cache(self, room: int, typical: int) -> KvCache:
        """`room`: bytes for it; `typical`: tokens of a usual sequence."""
        each = self.token_bytes()
        tokens = max(0, room) // (each * _BLOCK) * _BLOCK
        longest = self.layout.prompt_limit + self.layout.response_limit
        return KvCache(max(0, room), each, tokens, tokens // longest, tokens // max(1, typical))


def gpu_memory(
    shape: ModelShape, layout: Layout, gpu: Gpu | None, longest_prompt: int | None = None, typical: int | None = None
) -> GpuMemory:
    """Peaks of the phases of a step on one GPU, or with `gpu=None` of the training process on a CPU.

    Args:
        longest_prompt: tokens of the longest prompt of the data; None: the recipe's limit.
        typical: tokens of a usual prompt with its response, for the concurrency; None: the limits' half.
    """
    longest = min(longest_prompt or layout.prompt_limit, layout.prompt_limit)
    limit = layout.prompt_limit + layout.response_limit
    trainer, rollout = Trainer(shape, layout, longest), Rollout(shape, layout)
    if gpu is None:
        peaks = _with_reference(trainer, {})
        cache = rollout.cache(1 * GIB, typical or limit // 2)  # VLLM_CPU_KVCACHE_SPACE
        return GpuMemory([Peak("rollout", _present(trainer.state())), *peaks], None, cache)
    context = {"context": gib("trainer_context_gib")}
    share = int(layout.gpu_memory_utilization * gpu.memory)
    inside = gib("vllm_context_gib")
    room = share - rollout.weights() - rollout.profile_run() - inside
    cache = rollout.cache(room, typical or limit // 2)
    vllm = {
        "vLLM weights": rollout.weights(),
        "vLLM activations": rollout.profile_run(),
        "KV cache": cache.bytes,
        "context": context["context"] + inside + gib("vllm_beyond_gib"),
    }
    asleep = {"context": context["context"] + gib("vllm_asleep_gib")}
    state = trainer.state(rolls_out=True)
    sync = {"weight sync": layout.bucket_bytes + _sent(trainer), "vLLM weights": rollout.weights()}
    # verl loads the whole module back to merge or collect adapters, and else a shard at a time.
    state_in_sync = trainer.state() if layout.lora else state
    judge, judge_cache = _judge(shape, layout, gpu)
    peaks = [
        Peak("rollout", _present(state | vllm)),
        *_with_reference(trainer, asleep),
        Peak("checkpoint", _present(trainer.state() | asleep)),
        Peak("weight sync", _present(state_in_sync | asleep | sync)),
        judge,
    ]
    return GpuMemory(peaks, gpu.memory, cache, judge_cache)


def _judge(shape: ModelShape, layout: Layout, gpu: Gpu) -> tuple[Peak, KvCache]:
    """An engine of the evaluation, which has its GPU for itself; a LoRA judge is merged by then."""
    alone = dataclasses.replace(layout, tensor_parallel=layout.judge_parallel, lora=None)
    engine, inside = Rollout(shape, alone), gib("vllm_context_gib")
    room = int(layout.judge_share * gpu.memory) - engine.weights() - engine.profile_run() - inside
    cache = engine.cache(room, 1)
    parts = {
        "vLLM weights": engine.weights(),
        "vLLM activations": engine.profile_run(),
        "KV cache": cache.bytes,
        "context": inside + gib("vllm_beyond_gib"),
    }
    return Peak("judging", parts), cache


def _with_reference(trainer: Trainer, asleep: dict[str, int]) -> list[Peak]:
    found = [trainer.log_probs("old log-probabilities", "old")]
    if trainer.layout.reference:
        found.append(trainer.log_probs("reference log-probabilities", "reference"))
    found.append(trainer.update())
    return [Peak(peak.phase, _present(peak.parts | asleep), peak.moment) for peak in found]


def _sent(trainer: Trainer) -> int:
    """The largest tensor, gathered, or all adapters."""
    return trainer.layout.master_bytes * (trainer.adapters if trainer.layout.lora else trainer.largest())


def _present(parts: dict[str, int]) -> dict[str, int]:
    return {name: parts[name] for name in PARTS if parts.get(name)}
