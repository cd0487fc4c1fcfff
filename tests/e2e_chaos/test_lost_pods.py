"""Pods, nodes and the cluster's own parts that go away while training runs: all stages succeed without a hand."""

from __future__ import annotations

import time

import pytest

from tests.e2e_chaos import damage
from tests.e2e_chaos.release import Release

HEAD, WORKER = "ray.io/node-type=head", "ray.io/node-type=worker"


def test_one_training_survives_one_fault_after_the_other(release: Release) -> None:
    """In one release, since a start takes longer than most recoveries; a fault meets what the one before has left."""
    release.steps = 40
    release.install()
    with release.recovers("KubeRay operator restarted", at=2):
        damage.restart_operator()
    if damage.OURS:
        with release.recovers("API server away for 60 s", at=3):
            damage.stop_api_server(60)
        with release.recovers("DNS away for 60 s", at=5):
            damage.stop_dns(60)
    with release.recovers("worker pod deleted", at=7):
        damage.delete_pod(release, WORKER)
    if damage.OURS:
        with release.recovers("autoscaler killed, then the worker pod lost", at=9):
            damage.kill_container(release, release.head(), "autoscaler")
            damage.delete_pod(release, WORKER, notice=False)
    with release.recovers("node cordoned, worker evicted", at=12), damage.cordoned(release):
        [worker] = release.pods(WORKER)
        damage.evict(release, worker)
        time.sleep(30)
    with release.recovers("worker pod lost", at=15):
        damage.delete_pod(release, WORKER, notice=False)
    with release.recovers("head pod deleted", at=18):
        damage.delete_pod(release, HEAD)
    release.succeeds()


def test_a_spot_worker_that_is_told_to_go_saves_the_step_that_it_is_at(release: Release) -> None:
    release.steps, release.presets = 8, ("spot",)
    with damage.without_gpu_labels():  # of the one node that the head can run on, and which it would shun
        # Without the notice all of it would be lost.
        release.install("recipe.overrides.train.save_every=100", "poolDefaults.terminationGracePeriodSeconds=90")
        with release.recovers("spot worker evicted, 90 s of notice", at=3), damage.cordoned(release):
            [worker] = release.pods(WORKER)
            damage.evict(release, worker)
            release.wait(lambda: worker not in release.pods(WORKER), 30, "it is being deleted")
            release.wait(lambda: "saved" in release.log(), 120, "a checkpoint")
    release.succeeds()
    steps = release.finished()
    assert len(steps) == len(set(steps)), "no step was made twice"
    assert "is going (preemption" in release.log()


@pytest.mark.parametrize("mode", ["shared", "ephemeral"])
def test_head_dies_before_its_job_began(release: Release, mode: str) -> None:
    release.steps = 4
    one = [f"stages.{stage}.enabled=false" for stage in ("convert", "train", "evaluate")]
    release.install(f"mode={mode}", "stages.export.first={convert,train,evaluate}", *one)
    release.wait(lambda: bool(release.pods(HEAD)), 300, "the head runs")
    with release.recovers(f"head killed before its job began ({mode})", at=0, stage="export"):
        damage.delete_pod(release, HEAD)
    release.succeeds("export")
