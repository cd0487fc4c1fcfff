"""How a recipe lays its training out over GPUs, read from the verl keys that it renders to.

verl's keys and not the recipe's: whatever a recipe key is called, what reaches verl is what takes memory, `train.verl`
included. A key that neither sets has verl 0.9.1's default, which stands here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pairwise_rm.recipe.model import Recipe
from pairwise_rm.run_folder import RunFolder
from pairwise_rm.train.verl_arguments import resolve

_BYTES = {"fp32": 4, "float32": 4, "bf16": 2, "bfloat16": 2, "fp16": 2, "float16": 2}
_MODEL, _ACTOR, _REF = (f"actor_rollout_ref.{part}" for part in ("model", "actor", "ref"))
_ROLLOUT = "actor_rollout_ref.rollout"
# verl/trainer/config/{engine/fsdp,actor/*,rollout/rollout,model/hf_model}.yaml of verl 0.9.1.
_DEFAULTS: dict[str, Any] = {
    f"{_MODEL}.use_fused_kernels": False,
    f"{_ACTOR}.fsdp_config.model_dtype": "fp32",
    f"{_REF}.fsdp_config.model_dtype": "fp32",
    f"{_ACTOR}.fsdp_config.mixed_precision": None,
    f"{_ACTOR}.fsdp_config.fsdp_size": -1,
    f"{_ACTOR}.optim.override_optimizer_config": None,
    f"{_ACTOR}.use_dynamic_bsz": False,
    f"{_ACTOR}.ppo_max_token_len_per_gpu": 16384,
    f"{_ROLLOUT}.max_num_seqs": 256,
    f"{_ROLLOUT}.max_num_batched_tokens": 8192,
    f"{_ROLLOUT}.checkpoint_engine.update_weights_bucket_megabytes": 2048,
    f"{_ROLLOUT}.agent.num_workers": 8,
}


@dataclass(frozen=True)
class Lora:
    rank: int
    targets: str | tuple[str, ...]


@dataclass(frozen=True)
class Layout:
    """What of a recipe decides memory and time. Bytes are those of one number."""

    device: str
    nodes: int
    gpus_per_node: int
    tensor_parallel: int
    gpu_memory_utilization: float
    # ---- the trainer
    master_bytes: int
    """Of a weight as the actor's FSDP keeps it, and of its gradient and each of its two Adam moments."""
    reference_bytes: int
    """Of a weight as the reference's FSDP keeps it."""
    compute_bytes: int
    """Of a weight and an activation in a forward and backward pass (FSDP's mixed precision)."""
    lora: Lora | None
    reference: bool
    """Whether there is a KL term, and so log-probabilities of the reference."""
    offload_params: bool
    offload_optimizer: bool
    optimizer_in_lists: bool
    """Whether AdamW's step goes over lists of tensors, torch's default on a GPU, with a temporary for all weights."""
    checkpointing: bool
    attention: str
    packed: bool
    dynamic: bool
    """Micro-batches by tokens (`use_dynamic_bsz`) and not by samples."""
    update_tokens: int
    log_prob_tokens: int
    micro: int
    log_prob_micro: int
    fused: bool
    entropy: bool
    """Whether the update computes the entropy too."""
    scaled: bool
    """Whether logits are divided by a temperature, which copies them."""
    # ---- rollouts
    rollout_bytes: int
    max_num_seqs: int
    max_num_batched_tokens: int
    bucket_bytes: int
    agent_workers: int
    # ---- judging before and after
    judges: int
    """vLLM engines of the evaluation."""
    judge_parallel: int
    judge_share: float
    # ---- sizes of a step
    batch: int
    mini_batch: int
    rollouts: int
    prompt_limit: int
    response_limit: int

    @property
    def gpus(self) -> int:
        return self.nodes * self.gpus_per_node

    @property
    def replicas(self) -> int:
        """vLLM engines."""
        return max(1, self.gpus // self.tensor_parallel)

    @property
    def samples(self) -> int:
        """Of a step: prompts times responses."""
        return self.batch * self.rollouts

    @classmethod
    def of(cls, recipe: Recipe) -> Layout:
        """Raises InputError for a key of `train.verl` that is refused."""
        rendered = {setting.key: setting.value for setting in resolve(recipe, RunFolder.of(recipe))}
        keys = {**_DEFAULTS, **rendered}
        lora = None
        if rank := keys[f"{_MODEL}.lora_rank"]:
            targets = keys[f"{_MODEL}.target_modules"]
            lora = Lora(rank, targets if isinstance(targets, str) else tuple(targets))
        compute = (keys[f"{_ACTOR}.fsdp_config.mixed_precision"] or {}).get("param_dtype", "bf16")
        update_tokens = int(keys[f"{_ACTOR}.ppo_max_token_len_per_gpu"])
        return cls(
            device=keys["trainer.device"],
            nodes=keys["trainer.nnodes"],
            gpus_per_node=keys["trainer.n_gpus_per_node"],
            tensor_parallel=keys[f"{_ROLLOUT}.tensor_model_parallel_size"],
            gpu_memory_utilization=keys[f"{_ROLLOUT}.gpu_memory_utilization"],
            master_bytes=_bytes(keys[f"{_ACTOR}.fsdp_config.model_dtype"]),
            reference_bytes=_bytes(keys[f"{_REF}.fsdp_config.model_dtype"]),
            compute_bytes=_bytes(compute),
            lora=lora,
            reference=keys[f"{_ACTOR}.use_kl_loss"],
            offload_params=keys[f"{_ACTOR}.fsdp_config.param_offload"],
            offload_optimizer=keys[f"{_ACTOR}.fsdp_config.optimizer_offload"],
            optimizer_in_lists=_in_lists(keys),
            checkpointing=keys[f"{_MODEL}.enable_gradient_checkpointing"],
            attention=keys[f"{_MODEL}.override_config.attn_implementation"],
            packed=keys[f"{_MODEL}.use_remove_padding"],
            dynamic=keys[f"{_ACTOR}.use_dynamic_bsz"],
            update_tokens=update_tokens,
            log_prob_tokens=int(keys.get(f"{_ROLLOUT}.log_prob_max_token_len_per_gpu") or update_tokens),
            micro=keys[f"{_ACTOR}.ppo_micro_batch_size_per_gpu"],
            log_prob_micro=keys[f"{_ROLLOUT}.log_prob_micro_batch_size_per_gpu"],
            fused=keys[f"{_MODEL}.use_fused_kernels"],
            entropy=bool(keys[f"{_ACTOR}.entropy_coeff"]),
            scaled=keys[f"{_ROLLOUT}.temperature"] != 1.0,
            rollout_bytes=_bytes(keys[f"{_ROLLOUT}.dtype"]),
            max_num_seqs=int(keys[f"{_ROLLOUT}.max_num_seqs"]),
            max_num_batched_tokens=int(keys[f"{_ROLLOUT}.max_num_batched_tokens"]),
            bucket_bytes=int(keys[f"{_ROLLOUT}.checkpoint_engine.update_weights_bucket_megabytes"]) << 20,
            agent_workers=int(keys[f"{_ROLLOUT}.agent.num_workers"]),
            judges=recipe.evaluate.replicas,
            judge_parallel=recipe.evaluate.tensor_parallel,
            judge_share=recipe.evaluate.gpu_memory_utilization,
            batch=keys["data.train_batch_size"],
            mini_batch=keys[f"{_ACTOR}.ppo_mini_batch_size"],
            rollouts=keys[f"{_ROLLOUT}.n"],
            prompt_limit=keys["data.max_prompt_length"],
            response_limit=keys["data.max_response_length"],
        )

    def micro_batch(self, longest: int, log_prob: bool = False) -> int:
        """Tokens of the largest micro-batch, where the longest prompt has `longest` tokens.

        By samples, the worst case is that all of them are as long as can be. By tokens, verl fills up to the budget,
        and one sample is never split.
        """
        sample = min(longest, self.prompt_limit) + self.response_limit
        if self.dynamic:
            return max(sample, self.log_prob_tokens if log_prob else self.update_tokens)
        return sample * (self.log_prob_micro if log_prob else self.micro)


def _bytes(dtype: str) -> int:
    return _BYTES.get(str(dtype), 4)


def _in_lists(keys: Mapping[str, Any]) -> bool:
    prefix = f"{_ACTOR}.optim.override_optimizer_config"
    given = keys[prefix] or {}
    options = {name: keys.get(f"{prefix}.{name}", given.get(name)) for name in ("foreach", "fused")}
    return not options["fused"] and options["foreach"] is not False
