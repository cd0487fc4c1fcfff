"""An engine whose node leaves, on a real Ray of two nodes, both on this machine."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import pytest

ray = pytest.importorskip("ray")

from pairwise_rm.evaluate import engine  # noqa: E402
from tests.unit.conftest import MakeRecipe  # noqa: E402
from tests.unit.evaluate import ending_engines  # noqa: E402
from tests.unit.evaluate.ending_engines import HANGS, Judging  # noqa: E402


def test_an_engine_whose_node_leaves_waits_for_another_one_and_its_rows_are_not_to_blame(
    tmp_path: Path, make_recipe: MakeRecipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ray.cluster_utils import Cluster

    ray.cloudpickle.register_pickle_by_value(ending_engines)
    monkeypatch.setattr(engine, "EngineWorker", ending_engines.Worker)
    monkeypatch.setattr(engine, "worker_environment", lambda recipe: {})
    monkeypatch.setattr(engine, "_POLL_SECONDS", 0.2)
    store = {"object_store_memory": 100 << 20}
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False, **store})
    try:
        nodes: list[Any] = [cluster.add_node(num_cpus=1, num_gpus=1, **store)]
        monkeypatch.setenv("RAY_ADDRESS", cluster.address)
        judging = Judging(tmp_path / "e", make_recipe, hang=2)

        def replace_nodes() -> None:
            for attempt in (1, 2):
                while not (judging.folder / "hung").exists() or len(judging.lines("hung")) < attempt:
                    time.sleep(0.1)
                cluster.remove_node(nodes[-1], allow_graceful=False)
                while not any("waiting for a place" in line for line in judging.said[attempt - 1 :]):
                    time.sleep(0.1)
                nodes.append(cluster.add_node(wait=False, num_cpus=1, num_gpus=1, **store))

        thread = threading.Thread(target=replace_nodes, daemon=True)
        thread.start()
        judging.run([1, 2, HANGS, 4])
        thread.join(60)
    finally:
        ray.shutdown()
        cluster.shutdown()
    assert judging.texts == ["1 at 0", "2 at 1", f"{HANGS} at 2", "4 at 3"]
    assert judging.lines("judged") == ["[0, 1]", "[2, 3]", "[2, 3]", "[2, 3]"]
    ended = [line for line in judging.said if "its node has died" in line]
    assert len(ended) == 2
    assert sum("waiting for a place for engine 1; 1 GPU wanted, 0 GPUs present" in line for line in judging.said) == 2
