"""Keys of verl's tree that change nothing in the training that we start, each with the reason and what to set instead.

verl has one tree for its old trainer, its asynchronous ones, five training engines and three rollout engines. The
synchronous trainer with FSDP, vLLM and GRPO reads a part of it, and says nothing about the rest. Found in verl 0.9.1
by reading `main_ppo`, the trainer of `trainer.ppo.v1` and what they call; a test holds the list to the installed verl.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from pairwise_rm.recipe.model import Recipe


class Unread(NamedTuple):
    """A key, or a section with all keys below it.

    `why`: why nothing reads it. `instead`: the recipe's or verl's key to set, or None where there is none.
    `anyway`: the values that say what happens without the key; these, and null, are no mistake.
    `where`: the recipes for which it is so; None: all.
    """

    key: str
    why: str
    instead: str | None = None
    anyway: tuple[Any, ...] = ()
    where: Callable[[Recipe], bool] | None = None


def _on_cpu(recipe: Recipe) -> bool:
    return recipe.device == "cpu"


def _own_reward(recipe: Recipe) -> bool:
    return recipe.reward.function is None


_ACTOR, _REF = "actor_rollout_ref.actor", "actor_rollout_ref.ref"
_ROLLOUT, _MODEL = "actor_rollout_ref.rollout", "actor_rollout_ref.model"

_OLD_REWARD = "it belongs to the old reward loop"
_OLD_TRAINER = "only verl's old trainer reads it"
_OTHER_MODE = "it belongs to an asynchronous trainer"
_DATASET = "it belongs to verl's own dataset"
_ENGINE = "the engine has a key of its own"
_MEGATRON = "it belongs to Megatron"
_NOWHERE = "no code of verl reads it"
_PER_GPU = "verl takes the size for each GPU"
_VISION = "pairs have no images, videos or audio"
_GAE = "only the GAE estimator reads it"
_SGLANG = "it belongs to SGLang"


def _below(section: str, names: str, why: str, instead: str | None = None) -> tuple[Unread, ...]:
    return tuple(Unread(f"{section}.{name}", why, instead) for name in names.split())


OF_THE_TUTORIAL: tuple[Unread, ...] = (
    Unread("data.pairwise_response_index", "it belongs to the RM-Gallery tutorial's dataset", None, (0,)),
)
"""Keys that verl's tree does not have, and scripts of the tutorial pass."""

UNREAD: tuple[Unread, ...] = (
    Unread("model_engine", "the tree is composed for FSDP", anyway=("dp",)),
    # ---- the reward, by its old names
    Unread("custom_reward_function.path", _OLD_REWARD, "reward.function.path"),
    Unread("custom_reward_function.name", _OLD_REWARD, "reward.function.name", ("compute_score",)),
    Unread("custom_reward_function", _OLD_REWARD, "reward.function"),
    Unread("reward_model.reward_manager", _OLD_REWARD, "train.verl.reward.reward_manager.name", ("naive",)),
    Unread("reward_model.num_workers", _OLD_REWARD, "train.verl.reward.num_workers"),
    Unread("reward_model.reward_loop_source", _OLD_REWARD, "train.verl.reward.reward_manager.source", ("register",)),
    Unread("reward_model.reward_loop_module_path", _OLD_REWARD, "train.verl.reward.reward_manager.module.path"),
    Unread("reward_model.reward_loop_class_name", _OLD_REWARD, "train.verl.reward.reward_manager.name"),
    Unread("reward_model.enable", _OLD_REWARD, "train.verl.reward.reward_model.enable", (False,)),
    Unread("reward_model.model.path", _OLD_REWARD, "train.verl.reward.reward_model.model_path"),
    Unread("reward_model", _OLD_REWARD, "the key of the same name below train.verl.reward.reward_model"),
    Unread("sandbox_fusion", "the reward runs no code in a sandbox"),
    # ---- the reward
    Unread("reward.sandbox_fusion", "the reward runs no code in a sandbox"),
    Unread(
        "reward.reward_manager.module.name",
        "verl takes the class of reward_manager.name",
        "train.verl.reward.reward_manager.name",
    ),
    Unread(
        "reward.reward_model",
        "our reward asks no reward model",
        "reward.function to one that asks it",
        (False,),
        _own_reward,
    ),
    # ---- data
    Unread("data.prompt_key", "our dataset finds the columns of both layouts", None, ("prompt", "input")),
    *_below("data", "reward_fn_key tokenizer return_raw_input_ids", _NOWHERE),
    *_below("data", "use_shm return_raw_chat return_full_prompt filter_overlong_prompts_workers", _DATASET),
    *_below("data", "image_key video_key audio_key image_patch_size return_multi_modal_inputs", _VISION),
    Unread("data.tool_config_path", _DATASET, f"train.verl.{_ROLLOUT}.multi_turn.tool_config_path"),
    Unread("data.function_tool_path", _DATASET, f"train.verl.{_ROLLOUT}.multi_turn.function_tool_path"),
    # ---- algorithm
    Unread("algorithm.gamma", _GAE, None, (1.0,)),
    Unread("algorithm.lam", _GAE, None, (1.0,)),
    Unread("algorithm.use_pf_ppo", _GAE, None, (False,)),
    Unread("algorithm.pf_ppo", _GAE),
    *_below("algorithm", "gdpo_reward_keys gdpo_reward_weights", "only the GDPO estimator reads it"),
    Unread(
        "algorithm.filter_groups.max_num_gen_batches",
        "the sampler has no such limit",
        "train.verl.algorithm.filter_groups.max_inflight_gen_batches",
        (0,),
    ),
    Unread("algorithm.filter_groups", "the sampler of device: cpu filters no groups", None, (False,), _on_cpu),
    # ---- actor and reference
    Unread("actor_rollout_ref.hybrid_engine", _OTHER_MODE, None, (True,)),
    Unread("actor_rollout_ref.nccl_timeout", _NOWHERE),
    Unread(f"{_ACTOR}.grad_clip", _ENGINE, f"train.verl.{_ACTOR}.optim.clip_grad"),
    Unread(f"{_ACTOR}.use_torch_compile", _ENGINE, f"train.verl.{_ACTOR}.fsdp_config.use_torch_compile", (True,)),
    Unread(f"{_REF}.use_torch_compile", _ENGINE, f"train.verl.{_REF}.fsdp_config.use_torch_compile", (True,)),
    Unread(f"{_ACTOR}.qat", _ENGINE, f"the key of the same name below train.verl.{_ACTOR}.fsdp_config.qat"),
    Unread(f"{_REF}.fsdp_config.qat", "the reference model is not trained"),
    Unread(f"{_ACTOR}.use_remove_padding", _ENGINE, "train.remove_padding"),
    Unread(f"{_ACTOR}.use_fused_kernels", _ENGINE, f"train.verl.{_MODEL}.use_fused_kernels"),
    Unread(f"{_ACTOR}.rollout_n", "verl takes it from the rollout", "train.rollouts"),
    Unread(f"{_REF}.rollout_n", "verl takes it from the rollout", "train.rollouts"),
    Unread(f"{_ACTOR}.optim.total_training_steps", "the trainer overwrites it", "train.steps", (-1,)),
    Unread(f"{_ACTOR}.ppo_micro_batch_size", _PER_GPU, "train.micro_batch_size_per_gpu"),
    Unread(f"{_REF}.log_prob_micro_batch_size", _PER_GPU, "train.log_prob_micro_batch_size_per_gpu"),
    Unread(f"{_ACTOR}.use_prefix_grouper", _OLD_TRAINER, None, (False,)),
    Unread(f"{_ACTOR}.calculate_sum_pi_squared", _OLD_TRAINER, None, (False,)),
    Unread(
        f"{_ACTOR}.use_rollout_log_probs", _NOWHERE, "train.verl.algorithm.rollout_correction.bypass_mode", (False,)
    ),
    Unread(f"{_ACTOR}.freeze_vision_tower", _NOWHERE, None, (False,)),
    Unread(f"{_ACTOR}.checkpoint.strict", _MEGATRON, None, (True,)),
    *(
        unread
        for part in (_ACTOR, _REF)
        for unread in (
            Unread(
                f"{part}.fsdp_config.strategy", "verl overwrites it with the actor's, which is fsdp2", None, ("fsdp2",)
            ),
            Unread(
                f"{part}.fsdp_config.dtype", _NOWHERE, f"train.verl.{part}.fsdp_config.mixed_precision", ("bfloat16",)
            ),
            Unread(f"{part}.fsdp_config.turbo_config", "it belongs to the strategy fsdp_turbo"),
        )
    ),
    *(
        Unread(f"{part}.fsdp_config.{name}", "verl overwrites it", instead)
        for part in (_ACTOR, _REF)
        for name, instead in {
            "use_dynamic_bsz": f"train.verl.{_ACTOR}.use_dynamic_bsz",
            "max_token_len_per_gpu": f"train.verl.{_ACTOR}.ppo_max_token_len_per_gpu",
            "micro_batch_size_per_gpu": "train.micro_batch_size_per_gpu",
            "infer_max_token_len_per_gpu": f"train.verl.{_ROLLOUT}.log_prob_max_token_len_per_gpu",
            "infer_micro_batch_size_per_gpu": "train.log_prob_micro_batch_size_per_gpu",
            "use_remove_padding": "train.remove_padding",
            "use_fused_kernels": f"train.verl.{_MODEL}.use_fused_kernels",
        }.items()
    ),
    Unread(f"{_ACTOR}.ppo_infer_micro_batch_size_per_gpu", _ENGINE, "train.log_prob_micro_batch_size_per_gpu"),
    Unread(
        f"{_ACTOR}.ppo_infer_max_token_len_per_gpu", _ENGINE, f"train.verl.{_ROLLOUT}.log_prob_max_token_len_per_gpu"
    ),
    *_below(
        _REF,
        "checkpoint clip_ratio clip_ratio_low clip_ratio_high clip_ratio_c calculate_entropy calculate_sum_pi_squared "
        "data_loader_seed entropy_coeff freeze_vision_tower grad_clip kl_loss_coef kl_loss_type loss_agg_mode "
        "loss_scale_factor optim policy_loss ppo_epochs ppo_mini_batch_size qat shuffle tau_neg tau_pos use_kl_loss "
        "use_prefix_grouper use_rollout_log_probs",
        "the reference model is not trained",
    ),
    *_below(
        _REF,
        "ppo_micro_batch_size ppo_micro_batch_size_per_gpu ppo_infer_micro_batch_size_per_gpu",
        "verl overwrites it",
        "train.log_prob_micro_batch_size_per_gpu",
    ),
    *_below(
        _REF,
        "ppo_max_token_len_per_gpu ppo_infer_max_token_len_per_gpu",
        "verl overwrites it",
        f"train.verl.{_REF}.log_prob_max_token_len_per_gpu",
    ),
    Unread(f"{_REF}.use_dynamic_bsz", "verl overwrites it", f"train.verl.{_REF}.log_prob_use_dynamic_bsz"),
    Unread(f"{_REF}.use_remove_padding", _ENGINE, "train.remove_padding"),
    Unread(f"{_REF}.use_fused_kernels", _ENGINE, f"train.verl.{_MODEL}.use_fused_kernels"),
    # ---- model
    Unread(f"{_MODEL}.lora.rank", _MEGATRON, "model.lora.rank"),
    Unread(f"{_MODEL}.lora.alpha", _MEGATRON, "model.lora.alpha"),
    Unread(f"{_MODEL}.lora.target_modules", _MEGATRON, "model.lora.target_modules"),
    Unread(f"{_MODEL}.lora.exclude_modules", _MEGATRON, f"train.verl.{_MODEL}.exclude_modules"),
    Unread(f"{_MODEL}.lora.adapter_path", _MEGATRON, f"train.verl.{_MODEL}.lora_adapter_path"),
    *_below(
        f"{_MODEL}.lora",
        "type dtype dropout dropout_position lora_A_init_method lora_B_init_method a2a_experimental "
        "freeze_vision_model freeze_vision_projection freeze_language_model",
        _MEGATRON,
    ),
    *_below(f"{_MODEL}.mtp", "enable_train detach_encoder mtp_loss_scaling_factor", _MEGATRON),
    *_below(
        f"{_MODEL}.mtp",
        "speculative_algorithm speculative_num_steps speculative_eagle_topk speculative_num_draft_tokens",
        _SGLANG,
        f"train.verl.{_MODEL}.mtp.num_speculative_tokens",
    ),
    Unread(f"{_MODEL}.tiled_mlp", "no engine of verl applies it"),
    # ---- rollout
    Unread(f"{_ROLLOUT}.do_sample", "verl always samples", "train.temperature", (True,)),
    Unread(f"{_ROLLOUT}.val_kwargs.do_sample", "verl always samples", f"train.verl.{_ROLLOUT}.val_kwargs.temperature"),
    Unread(f"{_ROLLOUT}.over_sample_rate", _NOWHERE, None, (0,)),
    Unread(f"{_ROLLOUT}.skip_tokenizer_init", "vLLM always loads its tokenizer", None, (False,)),
    Unread(f"{_ROLLOUT}.multi_stage_wake_up", _SGLANG, None, (False,)),
    Unread(f"{_ROLLOUT}.engine_kwargs.sglang", _SGLANG, "the key of the same name below engine_kwargs.vllm"),
    Unread(
        f"{_ROLLOUT}.engine_kwargs.trtllm",
        "it belongs to TensorRT-LLM",
        "the key of the same name below engine_kwargs.vllm",
    ),
    *_below(f"{_ROLLOUT}.disaggregation", "ib_device bootstrap_port", _SGLANG),
    Unread(f"{_ROLLOUT}.nnodes", "rollouts run on the nodes that train", "train.nodes", (0,)),
    Unread(f"{_ROLLOUT}.log_prob_micro_batch_size", _PER_GPU, "train.log_prob_micro_batch_size_per_gpu"),
    Unread(f"{_ROLLOUT}.trace", "the sync trainer traces no rollouts yet"),
    Unread(f"{_ROLLOUT}.agent.custom_async_server", _NOWHERE),
    *_below(_ROLLOUT, "server custom checkpoint_manager_class layer_name_map", _NOWHERE),
    Unread(f"{_ROLLOUT}.sglang_engine_mode", _SGLANG),
    Unread(f"{_ROLLOUT}.repetition_penalty", "verl's agent loop always sends 1.0", None, (1.0,)),
    *(
        unread
        for section in ("distillation.teacher_models.teacher_model.inference", "reward.reward_model.rollout")
        for unread in (
            *_below(section, "server custom checkpoint_manager_class layer_name_map over_sample_rate", _NOWHERE),
            *_below(section, "multi_stage_wake_up sglang_engine_mode", _SGLANG),
            *_below(
                section,
                "standalone_gpu_memory_utilization",
                _OTHER_MODE,
                f"train.verl.{section}.gpu_memory_utilization",
            ),
        )
    ),
    Unread(f"{_ROLLOUT}.standalone_gpu_memory_utilization", _OTHER_MODE, "train.gpu_memory_utilization"),
    Unread(f"{_ROLLOUT}.multi_turn.enable", _OLD_TRAINER, f"train.verl.{_ROLLOUT}.agent.default_agent_loop", (False,)),
    *_below(
        f"{_ROLLOUT}.multi_turn",
        "tokenization_sanity_check_mode use_inference_chat_template num_repeat_rollouts",
        "verl's agent loop has no such choice",
    ),
    # ---- trainer
    Unread("critic", "GRPO trains no critic", None, (False,)),
    Unread("trainer.max_critic_ckpt_to_keep", "GRPO trains no critic"),
    Unread("trainer.use_v1", "the launcher always runs the sync trainer", None, (True,)),
    *_below("trainer.v1", "colocate_async separate_async", _OTHER_MODE),
    *_below("trainer.v1.sampler", "max_off_policy_threshold max_off_policy_strategy", _OTHER_MODE),
    Unread(
        "trainer.v1.sampler.sync_refill_failed_groups",
        "the sampler of device: cpu refills no groups",
        None,
        (False,),
        _on_cpu,
    ),
    Unread("trainer.balance_batch", "the sync trainer always balances", None, (True,)),
    Unread("trainer.esi_redundant_time", _OLD_TRAINER, "train.save_every", (0,)),
    Unread("trainer.ray_wait_register_center_timeout", _OLD_TRAINER, None, (300,)),
    Unread(
        "trainer.val_only",
        "the launcher does not validate before training; `pairwise-rm evaluate` does",
        None,
        (False,),
    ),
    # ---- around it
    *_below(
        "skip",
        "rollout async_rollout",
        "it belongs to other trainers",
        "the key of the same name below train.verl.skip.rollout_tq",
    ),
    *_below("global_profiler.global_tool_config.torch_memory", "context stacks kw_args", _NOWHERE),
)

READ_SECTIONS = frozenset(
    {
        "actor_rollout_ref", "algorithm", "data", "distillation", "global_profiler", "ray_kwargs", "reward", "skip",
        "trainer", "transfer_queue",
    }
)  # fmt: skip
"""The top-level sections of verl's tree of which the sync trainer reads a part."""


def unread(key: str, recipe: Recipe) -> Unread | None:
    """The entry that says why this key would change nothing; the longest one that fits."""
    found = [
        entry
        for entry in (*UNREAD, *OF_THE_TUTORIAL)
        if (key == entry.key or key.startswith(f"{entry.key}.")) and (entry.where is None or entry.where(recipe))
    ]
    return max(found, key=lambda entry: len(entry.key)) if found else None


def says_nothing(entry: Unread, value: Any) -> bool:
    """Whether the value asks for what happens anyway."""
    return value is None or any(same_value(value, same) for same in entry.anyway)


def same_value(one: Any, other: Any) -> bool:
    """Equal as verl sees it: 1 is 1.0, and true is not 1."""
    return isinstance(one, bool) == isinstance(other, bool) and bool(one == other)
