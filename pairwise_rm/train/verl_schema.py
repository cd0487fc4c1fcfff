"""verl's own configuration tree, to check whether verl knows a key.

A key is known when verl's YAML spells it out, when the dataclass that the YAML names in `_target_` has such a
field, or when it lies below a mapping that verl leaves open (such as `engine_kwargs.vllm`).
"""

from __future__ import annotations

import copy
import dataclasses
import difflib
import functools
import importlib
import importlib.util
from pathlib import Path
from typing import Any

from pairwise_rm.errors import InputError
from pairwise_rm.train.verl_settings import TASK_KEY, Setting

# Mappings whose content is passed on to something else: Ray, TransferQueue, transformers, torch, our own code.
_OPEN = (
    TASK_KEY,
    "data.pairwise",
    "ray_kwargs.ray_init",
    "transfer_queue",
    "reward.custom_reward_function.reward_kwargs",
    "actor_rollout_ref.actor.fsdp_config.mixed_precision",
    "actor_rollout_ref.ref.fsdp_config.mixed_precision",
)


def load_tree() -> Any:
    """verl's `ppo_trainer` configuration with its defaults, as an OmegaConf tree. Raises ImportError without verl."""
    return copy.deepcopy(_composed())


@functools.cache
def _composed() -> Any:
    from hydra import compose, initialize_config_dir

    found = importlib.util.find_spec("verl")
    if found is None or found.origin is None:
        raise ImportError("verl is not installed")
    # By folder: as a module it would import verl and torch, ten seconds for a few YAML files.
    with initialize_config_dir(str(Path(found.origin).parent / "trainer" / "config"), version_base=None):
        return compose("ppo_trainer")


def check_keys(found: list[Setting], tree: Any) -> None:
    """Raises InputError for the first user key that verl does not know."""
    from omegaconf import OmegaConf

    plain = OmegaConf.to_container(tree, resolve=False)
    for setting in found:
        unknown = unknown_part(setting.key, plain)
        if unknown:
            known, key = unknown
            close = difflib.get_close_matches(key.rsplit(".", 1)[-1], known, n=1)
            hint = f"; did you mean {close[0]}?" if close else ""
            raise InputError(f"train.verl.{setting.key}: verl has no key {key}{hint}")


def unknown_part(key: str, tree: Any) -> tuple[list[str], str] | None:
    if any(key == prefix or key.startswith(f"{prefix}.") for prefix in _OPEN):
        return None
    node: Any = tree
    parts = key.split(".")
    for depth, part in enumerate(parts):
        if not isinstance(node, dict) or not node:
            # Below an empty mapping verl accepts any key, below a value none.
            return None if isinstance(node, dict) or node is None else ([], ".".join(parts[:depth]) + "." + part)
        if part not in node:
            fields = fields_of(node.get("_target_"))
            if part in fields:
                return None
            return [*node, *fields], ".".join(parts[: depth + 1])
        node = node[part]
    return None


def fields_of(target: str | None) -> list[str]:
    if not target:
        return []
    module, _, name = target.rpartition(".")
    kind = getattr(importlib.import_module(module), name)
    return [field.name for field in dataclasses.fields(kind)] if dataclasses.is_dataclass(kind) else []


def merged(tree: Any, found: list[Setting]) -> Any:
    """verl's tree with all settings applied."""
    from omegaconf import OmegaConf

    for setting in found:
        OmegaConf.update(tree, setting.key, setting.value, merge=False, force_add=True)
    return tree
