"""One cluster, one image and one installed release, shared by all tests of this folder; the duration of each phase.

Its worker pod is deleted in mid-training, after a checkpoint: what the tests see has been through that.

Needs a kubeconfig with a cluster that has the KubeRay operator and lets pods ask for `nvidia.com/gpu`, and the image
of the `kind` preset in that cluster; `make e2e` sees to both.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import yaml

from pairwise_rm.pipeline import STAGES
from tests.e2e.kube import (
    ENDED,
    GPU,
    Namespace,
    Watcher,
    has_cluster,
    new_namespace,
    nodes_have_gpus,
    pairwise_rm,
    run,
    wait_for,
)
from tests.e2e.phases import PHASES, report
from tests.paths import CHART, REPO

RELEASE = "judge"
STEPS_ALONE = 2
SAVED_STEP = 10
"""The smoke recipe's first checkpoint."""
STATUS_SECONDS = 10.0
HEAD_STARTS_WITHIN = 240.0


def pytest_configure() -> None:
    if not has_cluster():
        pytest.exit("end-to-end tests need a cluster: set KUBECONFIG (`make e2e` starts one where it can)", 1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The release first: what needs no pods then runs beside the RayJob alone, whose end is waited for at the end."""
    order = {"test_release": 0, "test_standalone": 2}
    items.sort(key=lambda item: order.get(item.path.stem, 1))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    report(terminalreporter)


@dataclass
class Release:
    """The installed release, and its observations from `helm install` until its last stage ended."""

    namespace: Namespace
    installed: float
    watcher: Watcher
    arguments: tuple[str, ...]
    name: str = RELEASE
    after_loss: list[dict[str, Any]] = field(default_factory=list)
    """What `status --json` said of each stage from the loss of the worker pod to the next step, every ten seconds."""
    lost_pod: str = ""

    def wait_for(self, done: Callable[[], bool], seconds: float, what: str) -> None:
        wait_for(done, seconds, what, self.namespace.describe)

    def wait_until_ended(self, seconds: float) -> None:
        """Waits until every stage's RayJob has ended, successfully or not."""

        def done() -> bool:
            if self.watcher.issue:
                raise self.watcher.issue
            last = self.watcher.seen[-1].states if self.watcher.seen else {}
            if time.time() > self.installed + HEAD_STARTS_WITHIN:
                started = self.watcher.first(lambda seen: seen.head_runs)
                assert started, f"the head does not start\n{self.namespace.describe()}"
            return len(last) == len(STAGES) and all(state in ENDED for state in last.values())

        self.wait_for(done, seconds, "all stages ended")


@pytest.fixture(scope="session")
def namespace() -> Iterator[Namespace]:
    with new_namespace("e2e") as this:
        yield this


@pytest.fixture(scope="session")
def release(namespace: Namespace) -> Release:
    arguments = ["--values", str(CHART / "values-kind.yaml")]
    if nodes_have_gpus():
        arguments += ["--set", f"poolDefaults.gpuResource={GPU}"]
    began = time.time()
    with Watcher(namespace) as watcher:
        namespace.helm("install", RELEASE, str(CHART), *arguments)
        this = Release(namespace, began, watcher, tuple(arguments))
        _lose_the_worker(this)
        this.wait_until_ended(1800)
    return this


def _status(release: Release) -> dict[str, Any]:
    told = json.loads(pairwise_rm("status", release.name, "--namespace", release.namespace.name, "--json"))
    return {stage["stage"]: stage for stage in told["stages"]}


def _lose_the_worker(release: Release) -> None:
    """Deletes the worker pod once a checkpoint and a step after it are there, and waits for the step after those."""

    def reached() -> int:
        if release.watcher.issue:
            raise release.watcher.issue
        log = release.namespace.kubectl("logs", "--selector=pairwise-rm.io/stage=train", "--tail=100", code=None)
        return max(map(int, re.findall(r"\bstep (\d+)/\d+", log)), default=0)

    release.wait_for(lambda: reached() > SAVED_STEP, 1200, f"step {SAVED_STEP + 1}")
    [worker] = release.namespace.items("pods --selector=ray.io/node-type=worker")
    release.lost_pod, began = worker["metadata"]["name"], time.time()
    release.namespace.kubectl("delete", "pod", release.lost_pod, "--wait=false")
    at, asked = reached(), [began]

    def goes_on() -> bool:
        if not release.after_loss or time.time() - asked[0] >= STATUS_SECONDS:
            asked[0] = time.time()
            release.after_loss.append(_status(release))
        return reached() > at

    release.wait_for(goes_on, 900, "a step after the loss of the worker")
    PHASES.append(("worker pod deleted in mid-training -> next new step", time.time() - began))


@dataclass
class Alone:
    """manifests/rayjob-train.yaml, applied on a cluster without the chart: the kinds of its objects, and its start."""

    namespace: Namespace
    applied: list[str]
    began: float


def objects_of_train() -> list[dict[str, Any]]:
    """The objects of storage.yaml and rayjob-train.yaml in the `kind` overlay, with fewer steps."""
    overlay = run("kubectl", "kustomize", str(REPO / "manifests" / "overlays" / "kind"))
    everything = [one for one in yaml.safe_load_all(overlay) if one]
    chosen = [
        one for one in everything if one["kind"] == "PersistentVolumeClaim" or "-train-" in one["metadata"]["name"]
    ]
    for one in chosen:
        if one["kind"] == "ConfigMap":
            recipe = one["data"]["train.yaml"]
            assert "  steps: 20\n" in recipe
            one["data"]["train.yaml"] = recipe.replace("  steps: 20\n", f"  steps: {STEPS_ALONE}\n")
    return chosen


@pytest.fixture(scope="session")
def alone() -> Iterator[Alone]:
    chosen = objects_of_train()
    with new_namespace("e2e-alone") as namespace:
        began = time.monotonic()
        namespace.kubectl("apply", "-f", "-", stdin=yaml.safe_dump_all(chosen))
        yield Alone(namespace, [one["kind"] for one in chosen], began)
