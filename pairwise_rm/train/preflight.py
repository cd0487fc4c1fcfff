"""Checks that take seconds, before anything is loaded: each failure is one line with what was expected and what was
found.

verl fails on most of these minutes later, with a traceback of a Ray actor; with too few Ray CPUs it waits for
ever. The checks read headers and counters, render the prompts, and ask Ray what it has.
"""

from __future__ import annotations

import importlib.util
import json
import math
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from pairwise_rm.checks.files import reward_problems
from pairwise_rm.checks.model import look_at_model
from pairwise_rm.checks.problem import Problem, refuse
from pairwise_rm.checks.recipe import shape_problems
from pairwise_rm.contract.escaping import control_tokens
from pairwise_rm.contract.prompt import PairwiseComparisonTemplate, thinking_of
from pairwise_rm.contract.prompt_fit import PromptFitter
from pairwise_rm.contract.rows import is_without_rows, read_rows
from pairwise_rm.contract.verdict import Thinking
from pairwise_rm.convert.output_folder import finish
from pairwise_rm.errors import InputError, StageError
from pairwise_rm.hf_model import model_location
from pairwise_rm.ray_session import cluster_address, ray_session
from pairwise_rm.recipe.model import Recipe
from pairwise_rm.run_folder import RunFolder
from pairwise_rm.train import checkpoints
from pairwise_rm.train.verl_settings import storage_units

GIB = 1 << 30
# Bytes a weight of a CPU run in memory: weight, gradient, moments, the reference's copy and vLLM's.
_CPU_RUN_BYTES = 24
_CPU_RUN_BASE = 5 * GIB  # verl's, Ray's and vLLM's processes, measured with a model of 0.5 M weights


class Facts(NamedTuple):
    """What preflight found out and training needs."""

    thinking: Thinking
    train_rows: int
    test_rows: int
    steps: int
    warning: str | None = None


def ray_cpus_needed(recipe: Recipe) -> int:
    """Ray CPUs that verl needs: three for each GPU's bundle, one for each of TransferQueue's storage actors,
    its controller and the task runner, and one that actors without a reservation are started on."""
    return 3 * recipe.train.nodes * recipe.train.gpus_per_node + storage_units(recipe) + 3


def preflight(recipe: Recipe, folder: RunFolder) -> Facts:
    """Raises InputError with one line for each failed check, StageError where a whole extra is not installed."""
    check_installed(recipe)
    shape, looked = shape_problems(recipe), look_at_model(recipe)
    problems = [*shape, *install_problems(recipe), *reward_problems(recipe), *looked.problems]
    facts = Facts("response", 0, 0, 0)  # until the data are read
    if looked.tokenizer and not any(problem.text.startswith("prompt.template") for problem in shape):
        try:
            facts = data_facts(recipe, folder, looked.tokenizer)
            problems += room_problems(recipe, folder)
        except InputError as error:
            problems.append(Problem(str(error)))
    if facts.train_rows and facts.train_rows < recipe.train.batch_size:
        wanted = recipe.train.batch_size
        problems.append(Problem(f"train.batch_size: {wanted} wanted, the file has {facts.train_rows} rows that fit"))
    refuse(problems)
    return facts


def check_installed(recipe: Recipe) -> None:
    """Raises StageError where training's packages are not installed."""
    wanted = ("verl", "vllm", "ray", "transfer_queue", "transformers")
    if missing := [module for module in wanted if importlib.util.find_spec(module) is None]:
        extra = "cpu" if recipe.device == "cpu" else "gpu"
        raise StageError(f"training needs {', '.join(missing)}, not installed here; pip install 'pairwise-rm[{extra}]'")


def install_problems(recipe: Recipe) -> Iterator[Problem]:
    """Packages and keys of services that the recipe needs in this environment."""
    if recipe.model.attention == "flash_attention_2" and importlib.util.find_spec("flash_attn") is None:
        yield Problem(
            "model.attention: flash_attention_2 needs the package flash-attn, which is not installed; or set sdpa"
        )
    if recipe.model.lora and importlib.util.find_spec("peft") is None:
        yield Problem("model.lora: needs the package peft, which is not installed")
    if "wandb" in recipe.train.loggers:
        offline = os.environ.get("WANDB_MODE") in ("offline", "disabled")
        if not offline and not os.environ.get("WANDB_API_KEY"):
            yield Problem("train.loggers: wandb needs WANDB_API_KEY (or WANDB_MODE=offline)")


def data_facts(recipe: Recipe, folder: RunFolder, tokenizer: Any) -> Facts:
    """Reads the pairs and renders their prompts. Raises InputError where none can be trained on."""
    prompt = recipe.prompt
    thinking = thinking_of(tokenizer, prompt.chat_template_kwargs, prompt.system)
    template = PairwiseComparisonTemplate(prompt.rubric, prompt.template, control_tokens(tokenizer))
    fitter = PromptFitter(
        tokenizer, template, prompt.max_prompt_length, prompt.overlong, prompt.system, prompt.chat_template_kwargs
    )
    for data in {folder.train_file.parent, folder.test_file.parent}:
        finish(data)
    train = read_rows([folder.train_file]).rows
    unused = recipe.train.validate_every is None and is_without_rows(folder.test_file)
    test = [] if unused else read_rows([folder.test_file]).rows
    # Counted as the dataset will count it: verl's number of steps and its last checkpoint depend on it.
    fitting = sum(fitter.fit(row) is not None for row in train)
    if not fitting:
        raise InputError(
            f"prompt.max_prompt_length: none of the {len(train)} rows fits into {prompt.max_prompt_length} tokens"
        )
    if recipe.reward.weight_by_strength and (bare := sum(row["strength"] is None for row in train)):
        raise InputError(f"reward.weight_by_strength: {bare} of {len(train)} rows have no strength")
    in_data = recipe.train.epochs * (fitting // recipe.train.batch_size)
    return Facts(thinking, fitting, len(test), min(recipe.train.steps or in_data, in_data), _fewer(recipe, in_data))


def _fewer(recipe: Recipe, in_data: int) -> str | None:
    wanted = recipe.train.steps
    if not wanted or wanted <= in_data:
        return None
    return (
        f"train.steps: {wanted} wanted, and {recipe.train.epochs} epochs of the data give {in_data}; "
        f"training ends after step {in_data}, unless train.epochs is raised"
    )


def parameter_count(path: Path) -> int:
    """Weights of a model folder, from the headers of its safetensors files; 0 when there are none."""
    total = 0
    for file in path.glob("*.safetensors"):
        with open(file, "rb") as handle:
            header = json.loads(handle.read(int.from_bytes(handle.read(8), "little")))
        total += sum(math.prod(entry["shape"]) for name, entry in header.items() if name != "__metadata__")
    return total


def trained_weights(model: str, lora: object) -> int:
    """About how many weights a checkpoint holds with their moments; 0 when the model is no folder here."""
    path = Path(model)
    weights = parameter_count(path) if path.is_dir() else 0
    return weights // 10 if lora else weights


def room_problems(recipe: Recipe, folder: RunFolder) -> Iterator[Problem]:
    """Disk and memory of this machine."""
    location = model_location(recipe.model.path)
    there = folder.root
    while not there.exists():
        there = there.parent
    # Of a run that goes on, those that are there are removed as new ones come.
    count = max(1, recipe.train.keep_checkpoints + 1 - len(checkpoints.sealed(folder.checkpoints)))
    wanted = trained_weights(location, recipe.model.lora) * checkpoints.BYTES_OF_A_WEIGHT * count
    free = shutil.disk_usage(there).free + sum(map(checkpoints.size_of, checkpoints.unfinished(folder.checkpoints)))
    if wanted > free:
        some = f"{count} checkpoints" if count > 1 else "a checkpoint"
        yield Problem(f"{folder.root}: {wanted / GIB:.1f} GiB wanted for {some}, {free / GIB:.1f} GiB free")
    weights = trained_weights(location, lora=None)
    if recipe.device == "cpu" and not cluster_address():
        wanted, available = _CPU_RUN_BASE + weights * _CPU_RUN_BYTES, _available_memory()
        if available is not None and wanted > available:
            yield Problem(
                f"memory: about {wanted / GIB:.1f} GiB wanted for a run on this CPU, "
                f"{available / GIB:.1f} GiB available"
            )


def _available_memory() -> int | None:
    meminfo = Path("/proc/meminfo")
    if not meminfo.is_file():
        return None
    for line in meminfo.read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return None


def check_cluster(recipe: Recipe) -> None:
    """Checks that the Ray cluster of RAY_ADDRESS, or this machine, has the GPUs and Ray CPUs that verl needs.

    Raises InputError with the needed and the present number of each that is too few.
    """
    wanted_gpus, wanted_cpus = recipe.train.nodes * recipe.train.gpus_per_node, ray_cpus_needed(recipe)
    address = cluster_address()
    if not address:
        if recipe.device == "cuda":
            import torch

            if (found := torch.cuda.device_count()) < wanted_gpus:
                raise InputError(
                    f"train.gpus_per_node: {wanted_gpus} GPUs wanted, this machine has {found}; "
                    "set RAY_ADDRESS to train on a cluster"
                )
        if recipe.train.ray_cpus and recipe.train.ray_cpus < wanted_cpus:
            raise InputError(f"train.ray_cpus: {wanted_cpus} Ray CPUs wanted by verl, got {recipe.train.ray_cpus}")
        return
    import ray

    with ray_session(recipe.device, wanted_gpus, wanted_cpus):
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    gpus = int(sum(node.get("GPU", 0) for node in nodes))
    cpus = int(sum(node.get("CPU", 0) for node in nodes))
    if gpus < wanted_gpus:
        raise InputError(f"train.nodes x train.gpus_per_node: {wanted_gpus} GPUs wanted, the Ray cluster has {gpus}")
    large = sum(node.get("GPU", 0) >= recipe.train.gpus_per_node for node in nodes)
    if large < recipe.train.nodes:
        raise InputError(
            f"train.nodes: {recipe.train.nodes} Ray nodes with {recipe.train.gpus_per_node} GPUs wanted, "
            f"the cluster has {large}"
        )
    if cpus < wanted_cpus:
        raise InputError(
            f"Ray CPUs: {wanted_cpus} wanted by verl and its TransferQueue, the cluster has {cpus}; "
            "raise num-cpus of the workers"
        )
