"""From a recipe to verl's keys: the one place that knows both names of a setting.

`settings()` gives every verl key that the launcher sets, its value, and the recipe key it comes from. `train.verl` may
set any other key that this training reads (`verl_unread.py` has the rest); one of ours with another value is an error.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pairwise_rm import cpu
from pairwise_rm.contract.rows import is_without_rows
from pairwise_rm.contract.verdict import Thinking
from pairwise_rm.errors import InputError
from pairwise_rm.hf_model import model_location
from pairwise_rm.recipe.load import flatten
from pairwise_rm.recipe.model import PACKAGED, Recipe, RewardFunction
from pairwise_rm.run_folder import RunFolder
from pairwise_rm.train import preemption
from pairwise_rm.train.verl_unread import same_value, says_nothing, unread

TASK_KEY = "pairwise"
"""Top-level key of verl's config under which our own hooks find their settings."""

_OWNED_PREFIXES = (
    TASK_KEY,
    "data.pairwise",
    "reward.custom_reward_function",
    "trainer.resume_mode",
    "trainer.resume_from_path",
    *(f"ray_kwargs.ray_init.{name}" for name in ("runtime_env", "address", "num_cpus", "num_gpus")),
)


# What Hydra reads as this text without quotes; anything else is quoted.
_BARE = re.compile(r"[A-Za-z_/][A-Za-z0-9_./:@%-]*")
_WORDS = ("null", "true", "false", "nan", "inf")
_WITH_REFERENCE = ("actor_rollout_ref.actor.use_kl_loss", "true")
_SAID_OTHERWISE = {
    ("actor_rollout_ref.actor.use_kl_loss", "false"): "train.kl_loss=null",
    ("data.val_max_samples", "-1"): "train.validate_samples=null",
    ("trainer.test_freq", "-1"): "train.validate_every=null",
    ("data.filter_overlong_prompts", "true"): "prompt.overlong=drop",
}
# The recipe key decides the same, in words of its own.
_OTHER_WORDS = {"data.filter_overlong_prompts", "data.truncation"}
# Set by one recipe key where they are given one by one, and by another where the recipe converts its own pairs.
_ONE_BY_ONE = {"data.train_files": "data.files.train", "data.val_files": "data.files.test"}


class Setting(NamedTuple):
    key: str
    value: Any
    recipe_key: str | None = None


def storage_units(recipe: Recipe) -> int:
    """TransferQueue's storage actors; each takes a Ray CPU."""
    return max(2, min(8, recipe.train.nodes * recipe.train.gpus_per_node))


def settings(recipe: Recipe, folder: RunFolder, thinking: Thinking) -> list[Setting]:
    """Every verl key that the launcher sets for this recipe, in verl's order of sections.

    Raises InputError for a text with `${`, which verl's configuration would look up instead of passing on.
    """
    found = [
        *_data(recipe, folder),
        *_model(recipe),
        *_actor(recipe),
        *_rollout(recipe),
        *_reward(recipe, thinking),
        *_trainer(recipe, folder),
        *_runtime(recipe),
        Setting(f"{TASK_KEY}.metrics_file", str(folder.metrics)),
        Setting(f"{TASK_KEY}.compare_weights", recipe.train.compare_weights, "train.compare_weights"),
        Setting(f"{TASK_KEY}.max_probs_diff", recipe.train.max_probs_diff, "train.max_probs_diff"),
        Setting(f"{TASK_KEY}.max_probs_diff_mean", recipe.train.max_probs_diff_mean, "train.max_probs_diff_mean"),
        Setting(f"{TASK_KEY}.min_probs_correlation", recipe.train.min_probs_correlation, "train.min_probs_correlation"),
        Setting(f"{TASK_KEY}.keep_checkpoints", recipe.train.keep_checkpoints, "train.keep_checkpoints"),
        Setting(f"{TASK_KEY}.save_and_end", str(preemption.file_of(folder.train))),
        Setting(f"{TASK_KEY}.preemption_margin", recipe.train.preemption_margin, "train.preemption_margin"),
    ]
    for setting in found:
        if "${" in str(setting.value):
            raise InputError(f"{setting.recipe_key or setting.key}: must not contain ${{, verl would look it up")
    return found


def _validation_file(recipe: Recipe, folder: RunFolder) -> Path:
    """The held-out pairs; of pairs without any (`split_ratio: {train: 1.0}`) those for training.

    verl loads the file, which must have rows, even where it never validates.
    """
    never = recipe.train.validate_every is None
    return folder.train_file if never and is_without_rows(folder.test_file) else folder.test_file


def _data(recipe: Recipe, folder: RunFolder) -> list[Setting]:
    train, prompt = recipe.train, recipe.prompt
    shown = {"rubric": prompt.rubric, "template": prompt.template, "system": prompt.system, "overlong": prompt.overlong}
    return [
        Setting("algorithm.adv_estimator", "grpo"),
        Setting("data.train_files", [str(folder.train_file)], "data"),
        Setting("data.val_files", [str(_validation_file(recipe, folder))], "data"),
        Setting("data.val_max_samples", train.validate_samples or -1, "train.validate_samples"),
        Setting("data.train_batch_size", train.batch_size, "train.batch_size"),
        Setting("data.max_prompt_length", prompt.max_prompt_length, "prompt.max_prompt_length"),
        Setting("data.max_response_length", prompt.max_response_length, "prompt.max_response_length"),
        # verl's own filter hangs in Ray workers with several processes; the dataset does it itself.
        Setting("data.filter_overlong_prompts", False, "prompt.overlong"),
        Setting("data.truncation", "error", "prompt.overlong"),
        Setting("data.shuffle", True),
        Setting("data.seed", recipe.seed, "seed"),
        Setting("data.dataloader_num_workers", 0),
        Setting("data.trust_remote_code", recipe.model.trust_remote_code, "model.trust_remote_code"),
        Setting("data.custom_cls.path", "pkg://pairwise_rm.train.dataset", "prompt"),
        Setting("data.custom_cls.name", "HelpfulnessPairwiseTrainDataset", "prompt"),
        Setting("data.apply_chat_template_kwargs", prompt.chat_template_kwargs, "prompt.chat_template_kwargs"),
        Setting("data.pairwise", shown, "prompt"),
    ]


def _model(recipe: Recipe) -> list[Setting]:
    model, lora = recipe.model, recipe.model.lora
    path = "actor_rollout_ref.model"
    found = [
        Setting(f"{path}.path", model_location(model.path), "model.path"),
        Setting(f"{path}.trust_remote_code", model.trust_remote_code, "model.trust_remote_code"),
        Setting(f"{path}.override_config.attn_implementation", model.attention, "model.attention"),
        Setting(f"{path}.use_remove_padding", recipe.train.remove_padding, "train.remove_padding"),
        Setting(
            f"{path}.enable_gradient_checkpointing", recipe.train.gradient_checkpointing, "train.gradient_checkpointing"
        ),
    ]
    # Always set: a rank that is not in the recipe would train an adapter that export does not merge.
    found += [Setting(f"{path}.lora_rank", lora.rank if lora else 0, "model.lora.rank")]
    if lora:
        found += [
            Setting(f"{path}.lora_alpha", lora.alpha, "model.lora.alpha"),
            Setting(f"{path}.target_modules", lora.target_modules, "model.lora.target_modules"),
        ]
    return found


def _actor(recipe: Recipe) -> list[Setting]:
    train = recipe.train
    actor, ref = "actor_rollout_ref.actor", "actor_rollout_ref.ref"
    log_prob = train.log_prob_micro_batch_size_per_gpu or train.micro_batch_size_per_gpu
    found = [
        Setting(f"{actor}.strategy", "fsdp2"),
        Setting(f"{actor}.optim.lr", train.learning_rate, "train.learning_rate"),
        Setting(f"{actor}.optim.weight_decay", train.weight_decay, "train.weight_decay"),
        Setting(f"{actor}.optim.lr_warmup_steps", train.warmup_steps, "train.warmup_steps"),
        Setting(f"{actor}.ppo_mini_batch_size", train.mini_batch_size, "train.mini_batch_size"),
        Setting(
            f"{actor}.ppo_micro_batch_size_per_gpu", train.micro_batch_size_per_gpu, "train.micro_batch_size_per_gpu"
        ),
        Setting(f"{actor}.use_kl_loss", train.kl_loss is not None, "train.kl_loss"),
        Setting(f"{actor}.entropy_coeff", train.entropy_coeff, "train.entropy_coeff"),
        Setting(f"{actor}.data_loader_seed", recipe.seed, "seed"),
        Setting(f"{actor}.fsdp_config.param_offload", train.offload.params, "train.offload.params"),
        Setting(f"{actor}.fsdp_config.optimizer_offload", train.offload.optimizer, "train.offload.optimizer"),
        Setting(f"{actor}.fsdp_config.seed", recipe.seed, "seed"),
        Setting(f"{ref}.strategy", "fsdp2"),
        Setting(f"{ref}.fsdp_config.param_offload", train.offload.reference, "train.offload.reference"),
        Setting(f"{ref}.log_prob_micro_batch_size_per_gpu", log_prob, "train.log_prob_micro_batch_size_per_gpu"),
    ]
    if train.kl_loss:
        found += [
            Setting(f"{actor}.kl_loss_coef", train.kl_loss.coef, "train.kl_loss.coef"),
            Setting(f"{actor}.kl_loss_type", train.kl_loss.type, "train.kl_loss.type"),
        ]
    if recipe.model.dtype == "float32":
        exact = {"param_dtype": "fp32", "reduce_dtype": "fp32", "buffer_dtype": "fp32"}
        found += [Setting(f"{part}.fsdp_config.mixed_precision", exact, "model.dtype") for part in (actor, ref)]
    if recipe.device == "cpu":
        found += [Setting(f"{part}.fsdp_config.use_torch_compile", False, "device") for part in (actor, ref)]
    return found


def _rollout(recipe: Recipe) -> list[Setting]:
    train, prompt = recipe.train, recipe.prompt
    rollout = "actor_rollout_ref.rollout"
    log_prob = train.log_prob_micro_batch_size_per_gpu or train.micro_batch_size_per_gpu
    found = [
        Setting(f"{rollout}.name", "vllm"),
        Setting(f"{rollout}.n", train.rollouts, "train.rollouts"),
        Setting(f"{rollout}.temperature", train.temperature, "train.temperature"),
        Setting(f"{rollout}.seed", recipe.seed, "seed"),
        Setting(f"{rollout}.dtype", recipe.model.dtype, "model.dtype"),
        Setting(f"{rollout}.tensor_model_parallel_size", train.tensor_parallel, "train.tensor_parallel"),
        Setting(f"{rollout}.gpu_memory_utilization", train.gpu_memory_utilization, "train.gpu_memory_utilization"),
        Setting(f"{rollout}.max_model_len", prompt.max_prompt_length + prompt.max_response_length, "prompt"),
        Setting(f"{rollout}.log_prob_micro_batch_size_per_gpu", log_prob, "train.log_prob_micro_batch_size_per_gpu"),
        # The comparison of the probabilities needs vLLM's log-probabilities.
        Setting(f"{rollout}.calculate_log_probs", True),
    ]
    if recipe.model.lora:
        # Only the adapter is synced, so vLLM has to load the base weights itself.
        found += [Setting(f"{rollout}.load_format", "safetensors", "model.lora")]
    if recipe.device == "cpu":
        found += [
            Setting(f"{rollout}.enforce_eager", True, "device"),
            Setting(f"{rollout}.enable_sleep_mode", False, "device"),
            Setting(f"{rollout}.engine_kwargs.vllm.worker_extension_cls", cpu.WORKER_EXTENSION, "device"),
            Setting(f"{rollout}.agent.num_workers", 1, "device"),
        ]
    return found


def _reward(recipe: Recipe, thinking: Thinking) -> list[Setting]:
    reward, function = recipe.reward, recipe.reward.function
    options: dict[str, Any] = {"thinking": thinking}
    if function:
        options["function"] = {"path": reward_location(function), "name": function.name}
    else:
        options |= reward.model_dump(exclude={"function"})
    path, module = "reward.custom_reward_function", "reward_function" if function else "reward"
    found = [
        Setting(f"{path}.path", f"pkg://pairwise_rm.train.{module}", "reward.function.path"),
        Setting(f"{path}.name", "compute_custom_score" if function else "compute_score", "reward.function.name"),
        Setting(f"{path}.reward_kwargs", options, "reward"),
    ]
    if recipe.device == "cpu":
        found += [Setting("reward.num_workers", 1, "device")]
    return found


def reward_location(function: RewardFunction) -> str:
    """`pkg://` and a module as it stands, a file as an absolute path."""
    return function.path if function.path.startswith(PACKAGED) else str(Path(function.path).expanduser().absolute())


def _trainer(recipe: Recipe, folder: RunFolder) -> list[Setting]:
    train = recipe.train
    validate = train.validate_every
    # Our hook writes metrics.jsonl; verl's own file logger would start over at every resume.
    loggers = ["console", *(name for name in train.loggers if name != "console")]
    return [
        # Our metrics and checks are in the synchronous trainer.
        Setting("trainer.v1.trainer_mode", "sync"),
        Setting("trainer.nnodes", train.nodes, "train.nodes"),
        Setting("trainer.n_gpus_per_node", train.gpus_per_node, "train.gpus_per_node"),
        Setting("trainer.device", recipe.device, "device"),
        Setting("trainer.total_epochs", train.epochs, "train.epochs"),
        Setting("trainer.total_training_steps", train.steps, "train.steps"),
        Setting("trainer.project_name", train.project, "train.project"),
        Setting("trainer.experiment_name", recipe.name, "name"),
        Setting("trainer.logger", loggers, "train.loggers"),
        Setting("trainer.save_freq", train.save_every, "train.save_every"),
        Setting("trainer.test_freq", validate or -1, "train.validate_every"),
        Setting("trainer.val_before_train", False),
        Setting("trainer.default_local_dir", str(folder.checkpoints), "output_dir"),
        Setting("trainer.rollout_data_dir", str(folder.train / "rollouts"), "output_dir"),
        Setting("trainer.validation_data_dir", str(folder.train / "validations"), "output_dir"),
        # verl removes an old checkpoint before the new one is written; we do once the new one was read back.
        Setting("trainer.max_actor_ckpt_to_keep", None, "train.keep_checkpoints"),
        Setting("trainer.checkpoint_callback_class", "pairwise_rm.train.verl_trainer.LatestCheckpoint"),
    ]


def _runtime(recipe: Recipe) -> list[Setting]:
    # Variables that the driver exports stay on its node; what workers need goes into Ray's runtime_env.
    environment = {"TOKENIZERS_PARALLELISM": "false"}
    if recipe.device == "cpu":
        environment |= cpu.environment()
    found = [
        Setting("ray_kwargs.ray_init.runtime_env.env_vars", environment),
        Setting("transfer_queue.backend.SimpleStorage.num_data_storage_units", storage_units(recipe)),
        # Otherwise TransferQueue puts storage actors on the head, which has no CPU for them.
        Setting("transfer_queue.backend.SimpleStorage.required_node_resource", "GPU"),
    ]
    if recipe.device == "cpu":
        found += [
            Setting("trainer.v1.sampler.custom_sampler.path", "pkg://pairwise_rm.train.replay_buffer", "device"),
            Setting("trainer.v1.sampler.custom_sampler.name", "PromptReplayBuffer", "device"),
        ]
    return found


# ---- what the user adds --------------------------------------------------------------------------


def user_settings(recipe: Recipe, owned: list[Setting]) -> list[Setting]:
    """The keys of `train.verl`, flattened, without those that ask for what happens anyway.

    Raises InputError, one line each, for those that the launcher sets to another value or this training does not read.
    """
    found, problems = [], []
    for raw, value in flatten(recipe.train.verl).items():
        key = raw.lstrip("+")
        if entry := unread(key, recipe):
            if not says_nothing(entry, value):
                remedy = f"set {entry.instead} instead" if entry.instead else "leave it out"
                problems.append(f"train.verl.{key}: this training does not read it, {entry.why}; {remedy}")
        elif setting := _owner(key, owned):
            if not same_value(_value_at(key, setting), value):
                problems.append(_refusal(key, setting))
        elif any(key == prefix or key.startswith(f"{prefix}.") for prefix in _OWNED_PREFIXES):
            problems.append(f"train.verl.{key}: belongs to the launcher")
        else:
            found.append(Setting(key, value, "train.verl"))
    if problems:
        raise InputError("\n".join(problems))
    return found


def _owner(key: str, owned: list[Setting]) -> Setting | None:
    for setting in owned:
        if key == setting.key or key.startswith(f"{setting.key}.") or setting.key.startswith(f"{key}."):
            return setting
    return None


def _value_at(key: str, setting: Setting) -> Any:
    """What the setting gives this key, which may lie below it; nothing equals it where it gives none."""
    if setting.key.startswith(f"{key}."):
        return _NO_VALUE
    value = setting.value
    for part in key.removeprefix(setting.key).split(".")[1:]:
        value = value.get(part, _NO_VALUE) if isinstance(value, dict) else _NO_VALUE
    return value


_NO_VALUE = object()


def _refusal(key: str, setting: Setting) -> str:
    instead = f"; set {setting.recipe_key} in the recipe instead" if setting.recipe_key else ""
    if setting.recipe_key and ("." in setting.recipe_key or isinstance(setting.value, (dict, list))):
        return f"train.verl.{key}: belongs to the launcher{instead}"
    return f"train.verl.{key}: belongs to the launcher, which sets it to {json.dumps(setting.value)}{instead}"


def recipe_key_for(verl_key: str, recipe: Recipe, folder: RunFolder) -> str | None:
    """The recipe key that sets this verl key one to one, for commands that take verl's names."""
    for setting in settings(recipe, folder, "response"):
        if setting.key in _OTHER_WORDS:
            continue
        if setting.key == verl_key.lstrip("+") and setting.recipe_key and "." in setting.recipe_key:
            return setting.recipe_key
    return None


def as_overrides(found: list[Setting], tree: Mapping[str, Any] | None = None) -> list[str]:
    """`key=value` in Hydra's grammar; with verl's `tree`, a `+` before each key that its YAML does not spell out."""
    added = {setting.key for setting in found if tree is not None and not _present(setting.key, tree)}
    return [f"{'+' if setting.key in added else ''}{setting.key}={_value(setting.value)}" for setting in found]


def _present(key: str, tree: Mapping[str, Any]) -> bool:
    node: Any = tree
    for part in key.split("."):
        if not isinstance(node, Mapping) or part not in node:
            return False
        node = node[part]
    return True


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ",".join(f"{key}:{_value(item)}" for key, item in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ",".join(_value(item) for item in value) + "]"
    if value is None or isinstance(value, (bool, int, float)):
        return json.dumps(value)
    text = str(value)
    if _BARE.fullmatch(text) and text.lower() not in _WORDS:
        return text
    # Hydra reads a backslash literally, except right before a quote.
    return "'" + re.sub(r"(\\*)('|$)", lambda end: end[1] * 2 + ("\\'" if end[2] else ""), text) + "'"


def to_recipe_overrides(verl: Sequence[str], recipe: Recipe) -> list[str]:
    """`key=value` in verl's names as `key=value` of the recipe. Raises InputError for one without `=`."""
    found = []
    folder = RunFolder.of(recipe)
    for override in verl:
        key, equals, value = override.partition("=")
        if not equals or not key:
            raise InputError(f"--verl {override!r}: expected key=value, for example trainer.total_epochs=1")
        name = key.lstrip("+")
        known = _ONE_BY_ONE.get(name) or recipe_key_for(name, recipe, folder)
        if (name, value.lower()) == _WITH_REFERENCE:
            found += [] if recipe.train.kl_loss else ["train.kl_loss={}"]
        elif said := _SAID_OTHERWISE.get((name, value.lower())):
            found.append(said)
        else:
            found.append(f"{known or 'train.verl.' + name}={value}")
    return found
