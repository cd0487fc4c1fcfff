"""Pods, nodes and the cluster's own parts that go away while training runs: all stages succeed without a hand."""

from __future__ import annotations

import time

import pytest

from tests.e2e_chaos import damage
from tests.e2e_chaos.release import Release


def test_worker_pod_deleted(release: Release) -> None:
    release.install()
    with release.survives("worker pod deleted"):
        damage.delete_pod(release, "ray.io/node-type=worker")


def test_head_pod_deleted(release: Release) -> None:
    release.install()
    with release.survives("head pod deleted"):
        damage.delete_pod(release, "ray.io/node-type=head")


@pytest.mark.parametrize("mode", ["shared", "ephemeral"])
def test_head_dies_before_its_job_began(release: Release, mode: str) -> None:
    one = [f"stages.{stage}.enabled=false" for stage in ("convert", "train", "evaluate")]
    release.install(f"mode={mode}", "stages.export.first={convert,train,evaluate}", *one)
    release.wait(lambda: bool(release.pods("ray.io/node-type=head")), 300, "the head runs")
    with release.survives(f"head killed before its job began ({mode})", at=0, stage="export"):
        damage.delete_pod(release, "ray.io/node-type=head")


def test_node_drained(release: Release) -> None:
    release.install()
    with release.survives("node cordoned, worker evicted"), damage.cordoned(release):
        [worker] = release.pods("ray.io/node-type=worker")
        damage.evict(release, worker)
        time.sleep(30)


def test_operator_restarted(release: Release) -> None:
    release.install()
    with release.survives("KubeRay operator restarted"):
        damage.restart_operator()


@damage.ours
def test_api_server_away(release: Release) -> None:
    release.install()
    with release.survives("API server away for 60 s"):
        damage.stop_api_server(60)


@damage.ours
def test_dns_away(release: Release) -> None:
    release.install()
    with release.survives("DNS away for 60 s"):
        damage.stop_dns(60)
