"""A cluster without the chart: `kubectl apply` of storage.yaml and rayjob-train.yaml as in the `kind` overlay."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from conftest import PHASES
from kube import ENDED, REPO, Namespace, run, state_of, succeeded

STEPS = 2


@pytest.fixture(scope="module")
def namespace() -> Iterator[Namespace]:
    this = Namespace("pairwise-rm-alone")
    this.delete()
    this.create()
    yield this
    this.delete()


def objects_of_train() -> list[dict[str, Any]]:
    """What storage.yaml and rayjob-train.yaml are in the overlay, with fewer steps."""
    overlay = run("kubectl", "kustomize", str(REPO / "manifests" / "overlays" / "kind"))
    everything = [one for one in yaml.safe_load_all(overlay) if one]
    chosen = [
        one for one in everything if one["kind"] == "PersistentVolumeClaim" or "-train-" in one["metadata"]["name"]
    ]
    for one in chosen:
        if one["kind"] == "ConfigMap":
            recipe = one["data"]["train.yaml"]
            assert "  steps: 20\n" in recipe
            one["data"]["train.yaml"] = recipe.replace("  steps: 20\n", f"  steps: {STEPS}\n")
    return chosen


def test_a_training_that_is_applied_alone_converts_trains_and_takes_its_cluster_away(namespace: Namespace) -> None:
    chosen = objects_of_train()
    assert sorted(one["kind"] for one in chosen) == ["ConfigMap", *["PersistentVolumeClaim"] * 3, "RayJob"]
    began = time.monotonic()
    namespace.kubectl("apply", "-f", "-", stdin=yaml.safe_dump_all(chosen))
    while state_of(namespace.jobs()["train"]) not in ENDED:
        assert time.monotonic() < began + 900, namespace.describe()
        time.sleep(2)
    assert succeeded(namespace.jobs()["train"]), namespace.describe()
    [submitter] = [
        pod["metadata"]["name"]
        for pod in namespace.items("pods")
        if pod["metadata"]["labels"].get("pairwise-rm.io/stage") == "train"
    ]
    log = namespace.kubectl("logs", submitter)
    assert f"step {STEPS}/{STEPS}" in log
    PHASES.append((f"kubectl apply of a RayJob alone -> converted, {STEPS} steps trained", time.monotonic() - began))
    end = time.monotonic() + 120
    while namespace.items("rayclusters.ray.io"):
        assert time.monotonic() < end, namespace.describe()
        time.sleep(2)
