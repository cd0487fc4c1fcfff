"""Memory by part and phase: against what autograd keeps, what verl's functions take, and what was seen on a GPU."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from pairwise_rm.plan.layout import Layout
from pairwise_rm.plan.memory import _LOGIT_BYTES, GpuMemory, Peak, Rollout, Trainer, gpu_memory
from pairwise_rm.plan.model_shape import ModelShape, shape_of
from pairwise_rm.plan.throughput import GIB, find_gpu, gpu_of
from pairwise_rm.recipe.load import load_recipe

HIDDEN, HEADS, KV_HEADS, SIZE, FFN, TOKENS = 256, 4, 2, 64, 768, 64


def planned(recipe: str, *overrides: str, gpu: str | None = None) -> GpuMemory:
    loaded = load_recipe(recipe, overrides)
    kind = find_gpu(gpu) if gpu else gpu_of(loaded)
    return gpu_memory(shape_of(loaded.model), Layout.of(loaded), kind)


def phase(memory: GpuMemory, name: str) -> Peak:
    return next(peak for peak in memory.peaks if peak.phase == name)


def layout(**changed: Any) -> Layout:
    return dataclasses.replace(Layout.of(load_recipe("smoke")), **changed)


# ---- what autograd keeps -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["qwen2", "qwen3"])
@pytest.mark.parametrize("compute_bytes", [4, 2])
def test_a_layer_keeps_what_autograd_saves_of_it(kind: str, compute_bytes: int) -> None:
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    sizes = {
        "hidden_size": HIDDEN,
        "intermediate_size": FFN,
        "num_hidden_layers": 1,
        "vocab_size": 64,
        "num_attention_heads": HEADS,
        "num_key_value_heads": KV_HEADS,
        "head_dim": SIZE,
    }
    config = transformers.AutoConfig.for_model(kind, **sizes, attn_implementation="sdpa")
    dtype = torch.float32 if compute_bytes == 4 else torch.bfloat16
    model = transformers.AutoModelForCausalLM.from_config(config).to(dtype)
    weights = {weight.untyped_storage().data_ptr() for weight in model.parameters()}
    tokens = torch.randn(1, TOKENS, HIDDEN, dtype=model.dtype, requires_grad=True)
    rotary = model.model.rotary_emb(tokens, torch.arange(TOKENS)[None])
    known = weights | {tensor.untyped_storage().data_ptr() for tensor in (tokens, *rotary)}
    saved: dict[int, Any] = {}

    def keep(tensor: Any) -> Any:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in known:
            saved[storage.data_ptr()] = storage
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        model.model.layers[0](tokens, position_embeddings=rotary, attention_mask=None)
    measured = sum(storage.nbytes() for storage in saved.values())
    shape = ModelShape.of_config("layer", {"model_type": kind, **sizes})
    trainer = Trainer(shape, layout(compute_bytes=compute_bytes, micro=1), TOKENS)
    assert trainer.saved_by_layer(TOKENS) == pytest.approx(measured, rel=0.01)


@pytest.mark.parametrize("packed", [True, False], ids=["packed", "padded"])
@pytest.mark.parametrize("work", ["update", "old", "reference"])
def test_logits_take_what_verls_functions_take_of_them(packed: bool, work: str) -> None:
    torch, functions = pytest.importorskip("torch"), pytest.importorskip("verl.utils.torch_functional")
    from tests.unit.plan.live_memory import LiveMemory

    vocab, tokens = 2048, 256
    samples = 1 if packed else 2
    hidden = torch.randn(samples, tokens // samples, 8)
    weight = torch.randn(vocab, 8, requires_grad=work == "update")
    labels = torch.randint(0, vocab, (tokens,))
    with LiveMemory() as live, torch.enable_grad() if work == "update" else torch.no_grad():
        logits = torch.nn.functional.linear(hidden, weight)
        flat = logits.squeeze(0)
        if work == "old":
            functions.entropy_from_logits(flat)
        if not packed:
            starts, lengths = torch.zeros(2, dtype=torch.int64), torch.full((2,), tokens // 2)
            nested = torch.nested.narrow(logits, 1, starts, lengths, layout=torch.jagged)
            flat = torch.cat(list(nested.unbind()))
        log_probs = functions.logprobs_from_logits_v2(flat, labels)
        del logits, flat
        if work == "update":
            log_probs.sum().backward()
    (_, backward), infer, with_entropy = _LOGIT_BYTES[4, packed]
    expected = {"update": backward, "old": with_entropy, "reference": infer}[work]
    assert live.peak / (tokens * vocab) == pytest.approx(expected, rel=0.1)


# ---- what was seen on an H200 (shared/gpu/README.md) --------------------------------------------------------------


@pytest.mark.parametrize(("name", "seen"), [("rollout", 88), ("checkpoint", 20)])
def test_an_8b_with_lora_takes_what_was_seen_of_it_on_an_h200(name: str, seen: float) -> None:
    memory = planned("qwen3-8b-lora-1x80g", gpu="h200")
    assert phase(memory, name).total / GIB == pytest.approx(seen, rel=0.05)


# ---- rules --------------------------------------------------------------------------------------------------------


def test_weights_gradients_and_moments_are_shared_among_all_gpus() -> None:
    update = phase(planned("qwen3-8b-8x40g"), "update")
    share = 4 * 8_190_735_360 / 8
    assert update.parts["weights"] == pytest.approx(share)
    assert update.parts["gradients"] == pytest.approx(share)
    assert update.parts["optimizer"] == pytest.approx(2 * share)


def test_with_lora_only_the_adapter_has_gradients_and_moments() -> None:
    memory = planned("qwen3-8b-lora-1x80g")
    adapter = 2 * 36 * 64 * (8192 + 2 * 5120 + 8192 + 3 * 16384)
    update = phase(memory, "update")
    assert update.parts["adapters"] == adapter
    assert update.parts["gradients"] == adapter
    assert update.parts["optimizer"] == 2 * adapter
    assert not any("reference" in peak.parts for peak in memory.peaks)


def test_what_is_offloaded_is_on_the_gpu_only_while_it_is_used() -> None:
    memory = planned("qwen3-32b-8x80g")
    assert "weights" not in phase(memory, "rollout").parts
    assert [peak.phase for peak in memory.peaks if "optimizer" in peak.parts] == ["update"]


def test_the_optimizers_step_needs_a_copy_of_the_weights_unless_it_is_fused() -> None:
    fused = "train.verl.actor_rollout_ref.actor.optim.override_optimizer_config={fused: true}"
    plain, without = planned("qwen3-32b-8x80g"), planned("qwen3-32b-8x80g", fused)
    assert plain.worst.moment == "the optimizer's step"
    assert not plain.fits
    assert without.fits


def test_the_kv_cache_of_an_8b_takes_144_kib_a_token() -> None:
    loaded = load_recipe("qwen3-8b-lora-1x80g")
    rollout = Rollout(shape_of(loaded.model), Layout.of(loaded))
    assert rollout.token_bytes() == 144 << 10


def test_each_rank_has_a_key_head_of_its_own_where_there_are_more_ranks_than_heads() -> None:
    config = {"model_type": "qwen2", "num_hidden_layers": 1, "hidden_size": 64, "num_attention_heads": 8}
    shape = ModelShape.of_config("few", {**config, "num_key_value_heads": 2, "intermediate_size": 8, "vocab_size": 8})
    sharing = Rollout(shape, layout(tensor_parallel=8, rollout_bytes=2))
    assert sharing.token_bytes() == 2 * 1 * 1 * 8 * 2


def test_flash_attention_brings_a_cross_entropy_that_keeps_no_copies_of_the_logits() -> None:
    sdpa, flash = (
        phase(planned("qwen3-14b-8x80g", f"model.attention={name}"), "update") for name in ("sdpa", "flash_attention_2")
    )
    assert flash.total < sdpa.total


@pytest.mark.parametrize(
    ("override", "phase_name"),
    [
        ("train.micro_batch_size_per_gpu=2", "update"),
        ("train.gradient_checkpointing=false", "update"),
        ("train.log_prob_micro_batch_size_per_gpu=4", "old log-probabilities"),
        ("train.gpu_memory_utilization=0.7", "rollout"),
    ],
)
def test_what_should_take_more_takes_more(override: str, phase_name: str) -> None:
    before, after = planned("qwen3-14b-8x80g"), planned("qwen3-14b-8x80g", override)
    assert phase(after, phase_name).total > phase(before, phase_name).total


def test_several_samples_in_a_pack_take_a_mask_of_all_their_tokens_squared() -> None:
    override = "train.log_prob_micro_batch_size_per_gpu=4"
    trainers = [
        Trainer(shape_of(load_recipe("qwen3-14b-8x80g").model), Layout.of(load_recipe("qwen3-14b-8x80g", given)), 4096)
        for given in ([], [override])
    ]
    assert trainers[0].masked(log_prob=True) is False
    assert trainers[1].masked(log_prob=True) is True
    assert trainers[1].forward_temporaries(1000) - trainers[0].forward_temporaries(1000) == 3 * 1000**2


def test_without_a_kl_term_there_is_no_phase_of_the_reference() -> None:
    names = [peak.phase for peak in planned("qwen3-14b-8x80g", "train.kl_loss=null").peaks]
    assert "reference log-probabilities" not in names


def test_a_micro_batch_by_tokens_is_as_large_as_its_budget() -> None:
    by_tokens = layout(dynamic=True, update_tokens=1000, prompt_limit=64, response_limit=24)
    assert by_tokens.micro_batch(64) == 1000


def test_a_vllm_without_room_for_one_sequence_does_not_fit() -> None:
    memory = planned("qwen3-8b-lora-1x80g", "train.gpu_memory_utilization=0.2")
    assert not memory.over
    assert memory.short_cache == "rollout"
    assert not memory.fits


def test_on_a_cpu_the_reference_is_in_the_same_memory() -> None:
    loaded = load_recipe("smoke")
    memory = gpu_memory(shape_of(loaded.model), Layout.of(loaded), None)
    assert memory.capacity is None
    assert memory.fits
    assert len(memory.peaks) == 4
    assert all("reference" in peak.parts for peak in memory.peaks)


def test_no_part_of_any_recipe_is_negative() -> None:
    for name in ("qwen3-8b-lora-1x80g", "qwen3-8b-8x40g", "qwen3-32b-2x8x80g", "smollm2"):
        loaded = load_recipe(name)
        kind = None if loaded.device == "cpu" else find_gpu("a100-80gb")
        memory = gpu_memory(shape_of(loaded.model), Layout.of(loaded), kind)
        assert all(size >= 0 for peak in memory.peaks for size in peak.parts.values())
