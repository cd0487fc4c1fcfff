"""A cluster without the chart: `kubectl apply` of storage.yaml and rayjob-train.yaml as in the `kind` overlay."""

from __future__ import annotations

import time

from tests.e2e.conftest import STEPS_ALONE, Alone
from tests.e2e.kube import ENDED, state_of, succeeded
from tests.e2e.phases import PHASES


def test_a_training_that_is_applied_alone_converts_trains_and_takes_its_cluster_away(alone: Alone) -> None:
    assert sorted(alone.applied) == ["ConfigMap", *["PersistentVolumeClaim"] * 3, "RayJob"]
    namespace = alone.namespace
    while state_of(namespace.jobs()["train"]) not in ENDED:
        assert time.monotonic() < alone.began + 900, namespace.describe()
        time.sleep(2)
    assert succeeded(namespace.jobs()["train"]), namespace.describe()
    [submitter] = [
        pod["metadata"]["name"]
        for pod in namespace.items("pods")
        if pod["metadata"]["labels"].get("pairwise-rm.io/stage") == "train"
    ]
    log = namespace.kubectl("logs", submitter)
    assert f"step {STEPS_ALONE}/{STEPS_ALONE}" in log
    took = time.monotonic() - alone.began
    PHASES.append((f"kubectl apply of a RayJob alone -> {STEPS_ALONE} steps trained, beside the above", took))
    end = time.monotonic() + 120
    while namespace.items("rayclusters.ray.io"):
        assert time.monotonic() < end, namespace.describe()
        time.sleep(2)
