"""KubeRay's operator is upgraded from 1.6 to 1.7 while a release trains, as a platform team would do it."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator

import pytest

from tests.e2e.kube import ENDED, Namespace, new_namespace, pairwise_rm, run, state_of, succeeded, wait_for
from tests.e2e.phases import PHASES
from tests.e2e_gitops.reach import ray_pod
from tests.paths import CHART, shared

pytestmark = pytest.mark.long
RELEASE = "judge"
OPERATOR = ("--namespace", "kuberay-operator", "get", "deployment", "kuberay-operator")


def up(*options: str) -> None:
    run(str(shared("cluster/up")), *options)


def operator() -> str:
    return run("kubectl", *OPERATOR, "-o", "jsonpath={.spec.template.spec.containers[0].image}")


@pytest.fixture(scope="module")
def namespace() -> Iterator[Namespace]:
    if not os.environ.get("PAIRWISE_RM_CLUSTER_IS_OURS"):
        pytest.skip("the operator of somebody's cluster is left alone")
    with new_namespace("e2e-operator") as this:
        yield this


def step(namespace: Namespace) -> int:
    said = pairwise_rm("status", RELEASE, "--namespace", namespace.name)
    found = re.search(r"step (\d+)/", said)
    return int(found[1]) if found else 0


def test_a_training_outlives_an_upgrade_of_the_operator(namespace: Namespace) -> None:
    settings = ("recipe.overrides.train.steps=8", "stages.evaluate.enabled=false", "stages.export.enabled=false")
    values = [word for one in settings for word in ("--set", one)]
    namespace.helm("install", RELEASE, str(CHART), f"--values={CHART / 'values-kind.yaml'}", *values)
    wait_for(lambda: step(namespace) >= 2, 900, "the second step is trained", namespace.describe)
    old, job, head = operator(), namespace.jobs()["train"], ray_pod(namespace, RELEASE, "head")
    began = time.monotonic()
    try:
        up("--kuberay-1.7")
        assert operator() != old, "the operator is the same"
        wait_for(lambda: state_of(namespace.jobs()["train"]) in ENDED, 600, "train has ended", namespace.describe)
        PHASES.append(("operator upgraded in mid-training -> train done", time.monotonic() - began))
        assert succeeded(namespace.jobs()["train"]), namespace.describe()
        assert namespace.jobs()["train"]["metadata"]["uid"] == job["metadata"]["uid"]
        assert ray_pod(namespace, RELEASE, "head")["metadata"]["uid"] == head["metadata"]["uid"]
    finally:
        up()
