"""A failure whose cause was outside of the values: once it is mended, what is not done is tried again."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.e2e.kube import pairwise_rm, run, state_of, succeeded
from tests.e2e_chaos.release import Release

LABEL = "pairwise-rm.example/chaos"
NOWHERE = (rf"poolDefaults.nodeSelector.{LABEL.replace('.', chr(92) + '.')}=yes", "checks.nodes=false")


def uids(release: Release) -> dict[str, Any]:
    return {job["metadata"]["labels"]["pairwise-rm.io/stage"]: job["metadata"]["uid"] for job in all_jobs(release)}


def all_jobs(release: Release) -> list[dict[str, Any]]:
    return release.namespace.items("rayjobs.ray.io --sort-by=.metadata.creationTimestamp")


@pytest.fixture
def stuck(release: Release) -> Release:
    """A release whose worker finds no node, until its stages have failed."""
    release.steps = 6
    release.install(*NOWHERE, "stages.train.gpuTimeout=90")
    jobs = release.ends()
    assert [stage for stage, job in jobs.items() if succeeded(job)] == ["convert"]
    return release


def mend() -> None:
    for node in json.loads(run("kubectl", "get", "nodes", "-o", "json"))["items"]:
        run("kubectl", "label", "node", node["metadata"]["name"], f"{LABEL}=yes", "--overwrite")


@pytest.fixture(autouse=True)
def as_before() -> Any:
    yield
    run("kubectl", "label", "nodes", "--all", f"{LABEL}-")


def test_a_worker_that_never_comes_fails_with_the_reason_and_attempt_goes_on(stuck: Release) -> None:
    said = " ".join(stuck.status().split())
    assert "GPUs: 1 wanted on one node each" in said
    assert f"pairwise-rm retry judge -n {stuck.namespace.name}" in said
    before = uids(stuck)
    stuck.upgrade()
    assert uids(stuck) == before, "an upgrade with the same values starts nothing"
    mend()
    stuck.upgrade("attempt=2")
    after = uids(stuck)
    assert [stage for stage in before if after[stage] == before[stage]] == ["convert"]
    assert all(succeeded(job) for job in stuck.ends().values()), stuck.namespace.describe()
    done = uids(stuck)
    stuck.upgrade("attempt=3")
    assert uids(stuck) == done, "what is done is not done again"


def test_retry_goes_on_and_the_next_upgrade_takes_its_rayjobs_over(stuck: Release) -> None:
    mend()
    said = pairwise_rm("retry", "judge", "--namespace", stuck.namespace.name, "--yes")
    assert "left alone: convert succeeded" in said
    assert len(all_jobs(stuck)) == 7
    made = {
        job["metadata"]["name"] for job in all_jobs(stuck) if "pairwise-rm.io/retry" in job["metadata"]["annotations"]
    }
    assert len(made) == 3
    stuck.upgrade()
    left = {job["metadata"]["name"] for job in all_jobs(stuck)}
    assert made < left
    assert len(left) == 4, "Helm has removed the failed ones"
    assert all(succeeded(job) for job in stuck.ends().values()), stuck.namespace.describe()
    stuck.namespace.helm("uninstall", "judge")
    stuck.wait(lambda: not all_jobs(stuck), 120, "Helm knows them all")


def test_a_run_that_is_suspended_goes_on_from_its_checkpoint(release: Release) -> None:
    one = ("stages.convert.enabled=false", "stages.train.enabled=false", "stages.evaluate.enabled=false")
    release.steps = 9
    release.install("mode=ephemeral", "stages.export.first={convert,train,evaluate}", *one)
    release.wait(lambda: "export" in release.namespace.jobs(), 60, "its RayJob")
    name = release.namespace.jobs()["export"]["metadata"]["name"]
    follow = ("logs", f"job/{name}", "--tail=-1")
    release.wait(lambda: "step 5/" in release.namespace.kubectl(*follow, code=None), 1200, "step 5")
    suspend(release, name, True)
    release.wait(lambda: state_of(release.namespace.jobs()["export"]) == "Suspended", 180, "suspended")
    release.wait(lambda: not release.pods("ray.io/node-type"), 180, "its pods are gone")
    suspend(release, name, False)
    assert succeeded(release.ends()["export"]), release.namespace.describe()
    log = release.namespace.kubectl(*follow)
    assert "resumed after step 4" in log
    assert "step 3/" not in log


def suspend(release: Release, name: str, value: bool) -> None:
    patch = json.dumps({"spec": {"suspend": value}})
    release.namespace.kubectl("patch", "rayjobs.ray.io", name, "--type=merge", "-p", patch)
