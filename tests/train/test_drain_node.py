"""What a pod's preStop hook does, on a local Ray of two nodes."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest
import ray
from ray._private.state import state
from ray.cluster_utils import Cluster

from pairwise_rm.train import preemption
from tests.paths import REPO

WORKER = "127.0.0.2"
STORE = 100 << 20


@pytest.fixture(scope="module")
def head() -> Iterator[Cluster]:
    assert not ray.is_initialized()
    patch = pytest.MonkeyPatch()
    patch.delenv("RAY_ADDRESS", raising=False)
    patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    options = {"num_cpus": 1, "include_dashboard": False, "object_store_memory": STORE}
    cluster = Cluster(initialize_head=True, head_node_args=options)
    ray.init(address=cluster.address, log_to_driver=False)
    try:
        yield cluster
    finally:
        ray.shutdown()
        cluster.shutdown()
        patch.undo()


@pytest.fixture
def node(head: Cluster) -> Iterator[str]:
    """A worker node with an address of its own; its id."""
    added = head.add_node(wait=False, num_cpus=1, num_gpus=1, object_store_memory=STORE, node_ip_address=WORKER)
    assert seen(lambda: any(entry["NodeID"] == added.node_id and entry["Alive"] for entry in ray.nodes()), 180)
    yield added.node_id
    head.remove_node(added)


@pytest.fixture
def actor(node: str) -> Iterator[Any]:
    """On the worker node, which alone has a GPU."""
    handle = ray.remote(num_gpus=1)(Held).remote()
    assert ray.get(handle.node.remote()) == node
    yield handle
    ray.kill(handle)


class Held:
    def node(self) -> str:
        return str(ray.get_runtime_context().get_node_id())


def drain_node(cluster: Cluster, grace: float, ip: str | None = WORKER) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "pairwise_rm.cluster.drain_node", "--grace", str(grace)]
    environment = {**os.environ, "RAY_ADDRESS": cluster.address}
    return subprocess.Popen(
        [*command, *(["--ip", ip] if ip else [])], cwd=REPO, env=environment, stdout=subprocess.PIPE, text=True
    )


def seen(what: Any, seconds: float = 60) -> Any:
    end = time.monotonic() + seconds
    while not (found := what()) and time.monotonic() < end:
        time.sleep(0.05)
    return found


def test_training_sees_that_its_node_goes_and_when_and_the_hook_returns_when_its_actors_are_gone(
    head: Cluster, node: str, actor: Any
) -> None:
    assert preemption.draining() is None
    hook = drain_node(head, grace=100)
    notice = seen(preemption.draining)
    assert notice is not None
    assert (notice.what.startswith("node "), notice.why) == (True, "preemption")
    assert 0 < notice.left <= 100
    assert hook.poll() is None, "it waits for the actor"
    ray.kill(actor)
    said, _ = hook.communicate(timeout=60)
    assert (hook.returncode, f"{WORKER} is drained: nothing runs on it" in said) == (0, True), said


def test_ray_ends_nothing_on_a_node_that_goes_and_the_hook_returns_when_its_time_is_over(
    head: Cluster, node: str, actor: Any
) -> None:
    hook = drain_node(head, grace=6)
    said, _ = hook.communicate(timeout=60)
    assert (hook.returncode, said) == (0, f"{WORKER} is going with 1 actors on it: the time is over\n")
    assert ray.get(actor.node.remote()) == node


def test_a_node_that_holds_nothing_of_this_training_is_none_of_its_business(head: Cluster, node: str) -> None:
    hook = drain_node(head, grace=60)
    while hook.poll() is None:
        assert preemption.draining() is None
        time.sleep(0.05)
    assert hook.communicate()[0] == f"{WORKER} is drained: nothing runs on it after 0 s\n"
    assert seen(lambda: node not in state.get_draining_nodes()), "Ray ends an empty node by itself"


@pytest.mark.parametrize(
    ("ip", "said"),
    [("127.0.0.9", "no node with the address 127.0.0.9 in the Ray cluster"), (None, "is the head; it is not drained")],
)
def test_what_is_no_worker_of_this_cluster_is_left_alone(head: Cluster, ip: str | None, said: str) -> None:
    hook = drain_node(head, grace=60, ip=ip)
    found, _ = hook.communicate(timeout=60)
    assert (hook.returncode, said in found) == (0, True), found
    assert state.get_draining_nodes() == {}


def test_a_ray_that_is_gone_is_one_line_and_no_failure() -> None:
    command = [sys.executable, "-m", "pairwise_rm.cluster.drain_node", "--grace", "60", "--address", "127.0.0.1:9"]
    done = subprocess.run(command, cwd=REPO, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0
    assert done.stdout.startswith("127.0.0.1:9: Ray cannot be asked to drain this node: ")
    assert (done.stdout.count("\n"), done.stderr) == (1, "")
