"""vLLM in Ray actors: token ids in, texts out, in batches, on one or several replicas.

Each replica is one actor that holds `tensor_parallel` GPUs. vLLM's engine core runs inside the actor's own
process, so that its exception is the actor's exception; with several GPUs its workers are processes of
their own, and the cause is read from the actor's log.

    with engines(recipe, model) as pool:
        generations = pool.generate(prompts, sampling)
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from pairwise_rm.errors import StageError
from pairwise_rm.evaluate.engine_failure import cause_of
from pairwise_rm.evaluate.engine_worker import EngineWorker
from pairwise_rm.hf_model import model_location
from pairwise_rm.ray_session import ray_session, reserved
from pairwise_rm.recipe.model import Recipe

START_DEADLINE = 1800.0
"""Seconds for a cluster to grow and for a large model to load."""


class Sampling(NamedTuple):
    """How responses are drawn: `samples` a prompt; temperature 0 is greedy; `seed` makes runs repeat."""

    samples: int
    temperature: float
    max_tokens: int
    seed: int


class Generation(NamedTuple):
    """The samples of one prompt: their texts without special tokens, and their numbers of tokens."""

    texts: list[str]
    tokens: list[int]


@dataclass
class EnginePool:
    """Started replicas."""

    workers: list[Any]
    batch_size: int

    def generate(
        self,
        prompts: Sequence[list[int]],
        sampling: Sampling,
        done: Callable[[int], None] | None = None,
    ) -> list[Generation]:
        """One Generation a prompt, in order. `done` is told how many prompts are finished.

        Batches of `batch_size` go to whichever replica is free; on a GPU each prompt's seed depends on its
        index alone. Raises StageError when a replica dies.
        """
        import ray

        batches = [range(at, min(at + self.batch_size, len(prompts))) for at in range(0, len(prompts), self.batch_size)]
        results: list[Generation | None] = [None] * len(prompts)
        waiting, idle, finished = list(reversed(batches)), list(self.workers), 0
        running: dict[Any, tuple[range, Any]] = {}
        while waiting or running:
            while waiting and idle:
                batch, worker = waiting.pop(), idle.pop()
                job = worker.generate.remote([prompts[i] for i in batch], list(batch), tuple(sampling))
                running[job] = (batch, worker)
            [job], _ = ray.wait(list(running), num_returns=1)
            batch, worker = running.pop(job)
            for index, (texts, tokens) in zip(batch, _answer(job), strict=True):
                results[index] = Generation(texts, tokens)
            idle.append(worker)
            finished += len(batch)
            if done:
                done(finished)
        return [result for result in results if result is not None]


@contextlib.contextmanager
def engines(recipe: Recipe, model: str) -> Iterator[EnginePool]:
    """Starts `evaluate.replicas` vLLM engines with the model, and ends them.

    Raises StageError when GPUs are lacking or vLLM cannot start, with the cause that vLLM gave.
    """
    import ray
    from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

    settings = recipe.evaluate
    replicas, width = settings.replicas, settings.tensor_parallel
    env = worker_environment(recipe)
    with (
        ray_session(recipe.device, gpus=replicas * width, cpus=replicas, env=env),
        reserved([{"GPU": width, "CPU": 1}] * replicas, START_DEADLINE) as group,
    ):
        actor = ray.remote(EngineWorker)
        workers = [
            actor.options(
                num_gpus=width,
                num_cpus=1,
                runtime_env={"env_vars": env},
                scheduling_strategy=PlacementGroupSchedulingStrategy(group, placement_group_bundle_index=index),
            ).remote()
            for index in range(replicas)
        ]
        try:
            for job in [worker.start.remote(engine_arguments(recipe, model)) for worker in workers]:
                _answer(job)
            yield EnginePool(workers, settings.batch_size)
        finally:
            for worker in workers:
                ray.kill(worker)


def worker_environment(recipe: Recipe) -> dict[str, str]:
    """Variables of the actors' processes."""
    env = {"VLLM_ENABLE_V1_MULTIPROCESSING": "0", "VLLM_NO_USAGE_STATS": "1"}
    if recipe.device == "cpu":
        from pairwise_rm.cpu import environment

        env = {**environment(), **env}
        # Ray maps an actor's logical GPUs onto this list, and fails on an empty one.
        env.pop("CUDA_VISIBLE_DEVICES", None)
    return env


def revision_of(recipe: Recipe, model: str) -> str | None:
    """The commit to load: the recipe pins that of its own model, and of no other."""
    return recipe.model.revision if model == recipe.model.path else None


def engine_arguments(recipe: Recipe, model: str) -> dict[str, Any]:
    """Arguments of `vllm.LLM`."""
    arguments: dict[str, Any] = {
        "model": model_location(model),
        "dtype": recipe.model.dtype,
        "trust_remote_code": recipe.model.trust_remote_code,
        "tensor_parallel_size": recipe.evaluate.tensor_parallel,
        "max_model_len": recipe.prompt.max_prompt_length + recipe.prompt.max_response_length,
        "seed": recipe.seed,
        "disable_log_stats": True,
    }
    if revision := revision_of(recipe, model):
        arguments["revision"] = revision
    if recipe.device == "cpu":
        arguments["enforce_eager"] = True
    else:
        arguments["gpu_memory_utilization"] = recipe.evaluate.gpu_memory_utilization
    return arguments


def _answer(job: Any) -> Any:
    import ray

    try:
        return ray.get(job)
    except ray.exceptions.RayError as error:
        raise StageError(f"vLLM: {cause_of(error)}") from error
