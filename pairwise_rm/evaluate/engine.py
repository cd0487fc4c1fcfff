"""vLLM in Ray actors: token ids in, texts out, in batches, on one or several replicas.

Each replica is one actor that holds `tensor_parallel` GPUs. vLLM's engine core runs inside the actor's own
process, so that its exception is the actor's exception; with several GPUs its workers are processes of
their own, and the cause is read from the actor's log.

    with engines(recipe, model) as pool:
        for indices, generations in pool.generate(prompts, pool.batches(range(len(prompts))), sampling):
            ...

A replica that ends is started again on the same GPUs, or on those that the cluster gives instead, while the others go
on. Its batch is judged once more. One whose node is about to go ends after its batch, and is started again elsewhere.
"""

from __future__ import annotations

import contextlib
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from pairwise_rm.errors import StageError, first_line
from pairwise_rm.evaluate.engine_failure import cause_of, is_of_node
from pairwise_rm.evaluate.engine_worker import EngineWorker
from pairwise_rm.going_nodes import going_nodes
from pairwise_rm.hf_model import model_location
from pairwise_rm.progress import Event, Waiting
from pairwise_rm.ray_session import is_placed, ray_session, reserved, why_pending
from pairwise_rm.recipe.model import Recipe

START_DEADLINE = 1800.0
"""Seconds for a cluster to grow and for a large model to load."""

_ENDS_OF_A_BATCH = 2
"""A batch that has ended so many engines is the cause itself."""
_ENDS_OF_A_REPLICA = 10
"""Between two batches that it finishes. Only nodes that leave again and again reach it."""
_PAUSES = (0.0, 10.0, 30.0)
"""Seconds before each attempt to start again: the workers of an engine that was killed free their GPUs soon after."""
_POLL_SECONDS = 5.0
_TELL_SECONDS = 60.0
_NAMED = 3

Say = Callable[[Event | str], None]
"""Told what a person should know: an engine that ended, what is waited for."""


def _never() -> float | None:
    return None


class Sampling(NamedTuple):
    """How responses are drawn: `samples` per prompt; temperature 0 is greedy; `seed` makes runs repeat."""

    samples: int
    temperature: float
    max_tokens: int
    seed: int


class Generation(NamedTuple):
    """The samples of one prompt: their texts without special tokens, and their numbers of tokens."""

    texts: list[str]
    tokens: list[int]


@dataclass(eq=False)
class Replica:
    """An engine.

    `number` counts from 1; `ends`: how often it has ended since it last finished a batch; `left`: the node that it was
    last taken away from.
    """

    number: int
    worker: Any
    ends: int = 0
    failed_starts: int = 0
    cause: str = ""
    left: str = ""


@dataclass(eq=False)
class _Job:
    """What a replica is at: a batch, or (None) its start, since `began`."""

    replica: Replica
    batch: Sequence[int] | None
    began: float = field(default_factory=time.monotonic)
    looked: float = field(default_factory=time.monotonic)
    told: float = float("-inf")


class EnginePool:
    """Started replicas.

    Args:
        replicas: with their workers.
        batch_size: prompts that an engine gets at a time.
        launch: makes a worker for the replica of this number and begins to start it, after so many seconds; returns the
        worker and the job to wait for.
        room: what a replica waits for that has no place, or None when it has one.
        going: the node of a worker, if it is about to go, else None.
    """

    def __init__(
        self,
        replicas: list[Replica],
        batch_size: int,
        launch: Callable[[int, float], tuple[Any, Any]],
        room: Callable[[], str | None],
        going: Callable[[Any], str | None],
        say: Say | None = None,
    ) -> None:
        self.replicas, self.batch_size = replicas, batch_size
        self._launch, self._room, self._going, self._say = launch, room, going, say or (lambda event: None)

    def await_start(self, replica: Replica, start: Any) -> None:
        """Waits for the job of a replica's first start, and begins another one where its node leaves.

        Raises StageError when it cannot start.
        """
        import ray

        job = _Job(replica, None)
        while True:
            ready, _ = ray.wait([start], num_returns=1, timeout=_POLL_SECONDS)
            if not ready:
                if replica.ends:
                    self._check_start(job)
                continue
            try:
                ray.get(start)
                return
            except ray.exceptions.RayError as error:
                cause = cause_of(error)
                if not is_of_node(error):
                    raise StageError(f"vLLM: {cause}") from error
                start, job = self._start_again(replica, cause, None, error), _Job(replica, None)

    def generate(
        self,
        prompts: Sequence[list[int]],
        batches: Sequence[Sequence[int]],
        sampling: Sampling,
        name: Callable[[int], str] = str,
        stop_at: Callable[[], float | None] = _never,
    ) -> Iterator[tuple[Sequence[int], list[Generation]]]:
        """Each batch with its generations, in the order in which they are done.

        A batch is a list of indices into `prompts`, and goes to whichever replica is free. On a GPU each prompt's seed
        depends on its index alone. `name` says which row an index is, in messages. Once `stop_at` gives a time
        (monotonic seconds) no further batch begins, and those that run then are given up.

        Raises StageError when a batch ends an engine for the second time, and when a replica does not start again.
        """
        import ray

        waiting, idle = deque(batches), deque(self.replicas)
        running: dict[Any, _Job] = {}
        ended: Counter[int] = Counter()

        def assign() -> None:
            while waiting and idle and stop_at() is None:
                replica = idle.popleft()
                # Where Ray has placed it on the same node again, that one is used to its end.
                if (node := self._going(replica.worker)) and node != replica.left:
                    self._say(f"engine {replica.number}: node {node} is about to go; it is started on another one")
                    replica.left, replica.cause = node, f"node {node} has left"
                    running[self._replace(replica, 0.0)] = _Job(replica, None)
                    continue
                batch = waiting.popleft()
                ref = replica.worker.generate.remote([prompts[at] for at in batch], list(batch), tuple(sampling))
                running[ref] = _Job(replica, batch)

        assign()
        while waiting or any(job.batch is not None for job in running.values()):
            timeout = _POLL_SECONDS
            if (end := stop_at()) is not None:
                timeout = min(timeout, end - time.monotonic())
                if timeout <= 0 or all(job.batch is None for job in running.values()):
                    return
            ready, _ = ray.wait(list(running), num_returns=1, timeout=timeout)
            for job in running.values():
                self._check_start(job)
            if not ready:
                continue
            job = running.pop(ready[0])
            replica, batch = job.replica, job.batch
            try:
                answer = ray.get(ready[0])
            except ray.exceptions.RayError as error:
                cause = cause_of(error)
                if stop_at() is not None:
                    continue  # the next call judges its batch
                if batch is not None:
                    # A node that leaves says nothing about the rows.
                    ended[batch[0]] += not is_of_node(error)
                    if ended[batch[0]] >= _ENDS_OF_A_BATCH:
                        raise StageError(
                            f"vLLM ended twice at the same rows ({_names(batch, name)}): {cause}"
                        ) from error
                    waiting.appendleft(batch)
                running[self._start_again(replica, cause, batch, error)] = _Job(replica, None)
                assign()
                continue
            idle.append(replica)
            assign()
            if batch is None:
                replica.failed_starts = 0
                self._say(f"engine {replica.number} has started again")
            else:
                replica.ends = 0
                yield batch, [Generation(texts, tokens) for texts, tokens in answer]

    def _start_again(self, replica: Replica, cause: str, batch: Sequence[int] | None, error: BaseException) -> Any:
        """A new worker in the replica's place. Returns the job of its start; raises StageError after too many.

        A node that leaves while a replica starts is no failed start.
        """
        who = f"engine {replica.number}"
        if batch is not None or is_of_node(error):
            replica.ends += 1
            replica.cause = cause
            if replica.ends >= _ENDS_OF_A_REPLICA:
                raise StageError(f"vLLM: {who} ended {replica.ends} times in a row: {cause}") from error
        else:
            replica.failed_starts += 1
            if replica.failed_starts >= len(_PAUSES):
                raise StageError(f"vLLM: {who} ended ({replica.cause}) and does not start again: {cause}") from error
        if batch is not None:
            once_more = f"its {len(batch)} rows are judged once more"
            self._say(f"warning: {who} ended ({cause}); it is started again, and {once_more}")
        else:
            self._say(f"warning: {who} did not start ({cause}); it is started once more")
        return self._replace(replica, _PAUSES[replica.failed_starts])

    def _replace(self, replica: Replica, pause: float) -> Any:
        """Ends the replica's worker, and begins to start a new one after so many seconds. Returns the job of that."""
        import ray

        ray.kill(replica.worker)
        replica.worker, job = self._launch(replica.number, pause)
        return job

    def _check_start(self, job: _Job) -> None:
        """Says what a replica waits for that is started again. Raises StageError after START_DEADLINE."""
        now = time.monotonic()
        if job.batch is not None or now - job.looked < _POLL_SECONDS:
            return
        job.looked = now
        lack = self._room()
        if now - job.began > START_DEADLINE:
            who, cause = f"engine {job.replica.number}", job.replica.cause
            raise StageError(
                f"vLLM: {who} ended ({cause}) and has not started again after {START_DEADLINE:.0f} s"
                f"{': ' if lack else ''}{lack or ''}"
            )
        if lack and now - job.told >= _TELL_SECONDS:
            job.told = now
            self._say(Waiting(f"a place for engine {job.replica.number}; {lack}", now - job.began))


def batches_of(indices: Sequence[int], size: int) -> list[list[int]]:
    """Indices in batches, cut at multiples of `size`, so that a batch is the same whatever was judged before."""
    batches: dict[int, list[int]] = {}
    for index in indices:
        batches.setdefault(index // size, []).append(index)
    return list(batches.values())


def _names(batch: Sequence[int], name: Callable[[int], str]) -> str:
    named = ", ".join(name(index) for index in batch[:_NAMED])
    return named if len(batch) <= _NAMED else f"{named} and {len(batch) - _NAMED} more"


@contextlib.contextmanager
def engines(recipe: Recipe, model: str, say: Say | None = None) -> Iterator[EnginePool]:
    """Starts `evaluate.replicas` vLLM engines with the model, and ends them. `say` is told of those that end.

    Raises StageError when there are too few GPUs, or when vLLM cannot start, with its cause.
    """
    import ray
    from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

    settings = recipe.evaluate
    count, width = settings.replicas, settings.tensor_parallel
    env = worker_environment(recipe)
    bundles = [{"GPU": width, "CPU": 1}] * count
    with (
        ray_session(recipe.device, gpus=count * width, cpus=count, env=env),
        reserved(bundles, START_DEADLINE) as group,
    ):
        actor = ray.remote(EngineWorker)

        def launch(number: int, pause: float) -> tuple[Any, Any]:
            worker = actor.options(
                num_gpus=width,
                num_cpus=1,
                runtime_env={"env_vars": env},
                scheduling_strategy=PlacementGroupSchedulingStrategy(group, placement_group_bundle_index=number - 1),
            ).remote()
            return worker, worker.start.remote(engine_arguments(recipe, model), pause)

        def room() -> str | None:
            return None if is_placed(group) else why_pending(bundles)

        started = [launch(number, 0.0) for number in range(1, count + 1)]
        replicas = [Replica(number, worker) for number, (worker, _) in enumerate(started, 1)]
        pool = EnginePool(replicas, settings.batch_size, launch, room, _GoingNodes(say).node_of, say)
        try:
            for replica, (_, job) in zip(replicas, started, strict=True):
                pool.await_start(replica, job)
            yield pool
        finally:
            for replica in replicas:
                ray.kill(replica.worker)


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


class _GoingNodes:
    """Which workers are on a node that is about to go."""

    def __init__(self, say: Say | None) -> None:
        self._say, self._warned = say or (lambda event: None), False

    def node_of(self, worker: Any) -> str | None:
        """The name of the worker's node if it is about to go."""
        try:
            found = [node.name for node in going_nodes() if worker._actor_id.hex() in node.actors]
        except (RuntimeError, OSError, ValueError) as error:
            # The end of a node that nobody announced is dealt with too.
            if not self._warned:
                self._say(f"warning: cannot look for draining nodes: {first_line(error)}")
            self._warned = True
            return None
        return found[0] if found else None
