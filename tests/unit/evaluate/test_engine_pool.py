"""The pool of engines where a node goes, and where the stage is told to stop. Ray is stood in for by `Cluster`."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import pytest

ray = pytest.importorskip("ray")

from pairwise_rm.errors import StageError  # noqa: E402
from pairwise_rm.evaluate import engine  # noqa: E402
from pairwise_rm.evaluate.engine import EnginePool, Replica, Sampling, batches_of  # noqa: E402
from pairwise_rm.going_nodes import GoingNode  # noqa: E402

NODE_LEFT = ray.exceptions.RayError("The actor died because its node has died. Node Id: 0a")
NO_ROOM = ray.exceptions.RayError("RuntimeError: Free memory on device is less than desired")
RUNS = object()
SAMPLING = Sampling(1, 0.0, 16, 1)


class Job:
    """A job of Ray's: its value, the error that it ends with, or RUNS for one that does not end."""

    def __init__(self, outcome: Any) -> None:
        self.outcome = outcome


class Worker:
    """An engine on a node. Its batches end as `outcomes` say, in order; further ones are answered."""

    def __init__(self, node: str, outcomes: list[Any]) -> None:
        self.node, self.outcomes, self.generate = node, outcomes, self
        self.judged: list[list[int]] = []

    def remote(self, prompts: list[list[int]], indices: list[int], _: Any) -> Job:
        self.judged.append(indices)
        return Job(self.outcomes.pop(0) if self.outcomes else [([f"{ids[0]}"], [1]) for ids in prompts])


class Cluster:
    """Each engine that is started gets the next of these nodes, and its start the next outcome of `starts`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *nodes: str) -> None:
        self.nodes, self.going, self.starts = list(nodes), set[str](), list[Any]()
        self.batches: dict[str, list[Any]] = {}
        self.workers: list[Worker] = []
        self.killed: list[Worker] = []
        self.said: list[str] = []
        self.jobs: list[Job] = []
        monkeypatch.setattr(ray, "wait", self._wait)
        monkeypatch.setattr(ray, "get", self._get)
        monkeypatch.setattr(ray, "kill", self.killed.append)
        monkeypatch.setattr(engine, "_POLL_SECONDS", 0.02)

    def launch(self, number: int, pause: float) -> tuple[Worker, Job]:
        node = self.nodes.pop(0)
        self.workers.append(Worker(node, self.batches.get(node, [])))
        return self.workers[-1], Job(self.starts.pop(0) if self.starts else None)

    def pool(self, replicas: int = 1) -> EnginePool:
        begun = [self.launch(number, 0.0) for number in range(1, replicas + 1)]
        pool = EnginePool(
            [Replica(number, worker) for number, (worker, _) in enumerate(begun, 1)],
            2,
            self.launch,
            room=lambda: None,
            going=lambda worker: worker.node if worker.node in self.going else None,
            say=lambda event: self.said.append(str(event)),
        )
        for replica, (_, start) in zip(pool.replicas, begun, strict=True):
            pool.await_start(replica, start)
        return pool

    def judge(self, pool: EnginePool, rows: int, **stop: Any) -> list[Sequence[int]]:
        """The batches that were judged, in their order."""
        prompts = [[index] for index in range(rows)]
        return [batch for batch, _ in pool.generate(prompts, batches_of(range(rows), 2), SAMPLING, **stop)]

    def _wait(self, jobs: list[Job], num_returns: int, timeout: float) -> tuple[list[Job], list[Job]]:
        self.jobs = jobs
        ready = [job for job in jobs if job.outcome is not RUNS][:num_returns]
        if not ready:
            time.sleep(timeout)
        return ready, [job for job in jobs if job not in ready]

    def _get(self, job: Job) -> Any:
        if isinstance(job.outcome, Exception):
            raise job.outcome
        return job.outcome


# ---- a node that goes ----------------------------------------------------------------------------


def test_an_engine_whose_node_is_about_to_go_ends_after_its_batch_and_is_started_elsewhere(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cluster = Cluster(monkeypatch, "spot-1", "spot-2")
    pool = cluster.pool()
    judged = []
    for batch, _ in pool.generate([[0]] * 6, batches_of(range(6), 2), SAMPLING):
        judged.append(batch)
        cluster.going = {"spot-1"}
    assert judged == [[0, 1], [2, 3], [4, 5]]
    # The second batch had begun before the notice.
    assert [worker.judged for worker in cluster.workers] == [[[0, 1], [2, 3]], [[4, 5]]]
    assert cluster.killed == [cluster.workers[0]]
    assert cluster.said == [
        "engine 1: node spot-1 is about to go; it is started on another one",
        "engine 1 has started again",
    ]


def test_an_engine_that_is_placed_on_the_same_node_again_judges_there_until_the_node_has_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cluster = Cluster(monkeypatch, "spot-1", "spot-1", "spot-2", "spot-3")
    cluster.batches = {"spot-1": [[([""], [1])] * 2, NODE_LEFT]}
    pool = cluster.pool()
    cluster.going = {"spot-1", "spot-2"}
    assert cluster.judge(pool, 6) == [[0, 1], [2, 3], [4, 5]]
    assert [worker.judged for worker in cluster.workers] == [[], [[0, 1], [2, 3]], [], [[2, 3], [4, 5]]]


def test_the_engines_of_other_nodes_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster(monkeypatch, "spot-1", "node-2", "node-3")
    pool = cluster.pool(2)
    cluster.going = {"spot-1"}
    cluster.starts = [RUNS]
    assert cluster.judge(pool, 6) == [[0, 1], [2, 3], [4, 5]]
    assert cluster.workers[0].judged == []
    assert cluster.workers[1].judged == [[0, 1], [2, 3], [4, 5]]


def test_nodes_that_leave_in_the_middle_of_a_batch_are_no_fault_of_its_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster(monkeypatch, "spot-1", "spot-2", "spot-3")
    cluster.batches = {"spot-1": [NODE_LEFT], "spot-2": [NODE_LEFT]}
    assert cluster.judge(cluster.pool(), 2) == [[0, 1]]


def test_nodes_that_leave_while_an_engine_starts_again_are_no_failed_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster(monkeypatch, *(f"spot-{number}" for number in range(6)))
    cluster.batches = {"spot-0": [NODE_LEFT]}
    pool = cluster.pool()
    cluster.starts = [NODE_LEFT] * 4
    assert cluster.judge(pool, 2) == [[0, 1]]
    assert pool.replicas[0].failed_starts == 0


def test_nodes_that_leave_again_and_again_end_the_stage_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster(monkeypatch, *(f"spot-{number}" for number in range(20)))
    cluster.batches = {"spot-0": [NODE_LEFT]}
    pool = cluster.pool()
    cluster.starts = [NODE_LEFT] * 20
    with pytest.raises(StageError, match="vLLM: engine 1 ended 10 times in a row: "):
        cluster.judge(pool, 2)


def test_a_node_that_leaves_while_an_engine_starts_for_the_first_time_does_not_end_the_stage(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cluster = Cluster(monkeypatch, "spot-1", "spot-2")
    cluster.starts = [NODE_LEFT]
    assert cluster.judge(cluster.pool(), 2) == [[0, 1]]
    assert cluster.said[0].startswith("warning: engine 1 did not start (")


def test_an_engine_that_cannot_start_at_first_ends_the_stage(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster(monkeypatch, "node-1")
    cluster.starts = [NO_ROOM]
    with pytest.raises(StageError, match=r"^vLLM: RuntimeError: Free memory on device is less than desired"):
        cluster.pool()


def test_no_other_node_in_time_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "START_DEADLINE", 0.05)
    cluster = Cluster(monkeypatch, "spot-1", "spot-2")
    pool = cluster.pool()
    cluster.going, cluster.starts = {"spot-1"}, [RUNS]
    with pytest.raises(
        StageError, match=r"engine 1 ended \(node spot-1 has left\) and has not started again after 0 s"
    ):
        cluster.judge(pool, 2)


class _Id:
    def __init__(self, text: str) -> None:
        self._actor_id, self.hex = self, lambda: text


def test_the_node_of_an_engine_is_known_by_its_actor_and_a_head_that_is_away_is_told_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    said: list[str] = []
    nodes = engine._GoingNodes(lambda event: said.append(str(event)))
    monkeypatch.setattr(engine, "going_nodes", lambda: [GoingNode("spot-1", None, frozenset({"0a"}))])
    assert [nodes.node_of(_Id(text)) for text in ("0a", "0b")] == ["spot-1", None]

    def away() -> list[GoingNode]:
        raise RuntimeError("no answer\nat all")

    monkeypatch.setattr(engine, "going_nodes", away)
    assert [nodes.node_of(_Id("0a")) for _ in range(2)] == [None, None]
    assert said == ["warning: cannot look for draining nodes: no answer"]


# ---- a stage that is told to stop ----------------------------------------------------------------


def test_once_it_is_told_to_stop_batches_that_run_end_and_no_other_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster(monkeypatch, "node-1", "node-2")
    judged: list[Sequence[int]] = []

    def stop_at() -> float | None:
        return time.monotonic() + 60 if judged else None

    for batch, _ in cluster.pool(2).generate([[0]] * 12, batches_of(range(12), 2), SAMPLING, stop_at=stop_at):
        judged.append(batch)
    assert judged == [[0, 1], [2, 3], [4, 5]], "the third one had begun when the first one was handed out"


def test_a_batch_that_does_not_end_in_time_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster(monkeypatch, "node-1")
    cluster.batches = {"node-1": [RUNS]}
    began = time.monotonic()
    assert (
        cluster.judge(cluster.pool(), 6, stop_at=lambda: began + 0.2 if time.monotonic() > began + 0.1 else None) == []
    )
    assert 0.2 <= time.monotonic() - began < 5
    assert cluster.workers[0].judged == [[0, 1]]


@pytest.mark.parametrize("outcome", [NODE_LEFT, NO_ROOM])
def test_an_engine_that_ends_after_that_is_not_started_again(
    monkeypatch: pytest.MonkeyPatch, outcome: Exception
) -> None:
    cluster = Cluster(monkeypatch, "node-1", "node-2", "node-3")
    cluster.batches = {"node-1": [RUNS]}
    pool = cluster.pool(2)
    judged: list[Sequence[int]] = []

    def stop_at() -> float | None:
        return time.monotonic() + 60 if judged else None

    for batch, _ in pool.generate([[0]] * 12, batches_of(range(12), 2), SAMPLING, stop_at=stop_at):
        judged.append(batch)
        for job in cluster.jobs:
            job.outcome = outcome if job.outcome is RUNS else job.outcome
    assert judged == [[2, 3], [4, 5]]
    assert (len(cluster.workers), cluster.said) == (2, [])
