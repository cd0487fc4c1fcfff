"""A release as the cluster holds it: which objects are its own, asked of an API server on a real socket."""

from __future__ import annotations

import pytest

from pairwise_rm.errors import InputError
from pairwise_rm.k8s.client import Cluster
from pairwise_rm.k8s.snapshot import Snapshot, find_release, newest_jobs, take
from tests.unit.k8s_objects import NOW, RELEASE, Object, event, head, job, ray_cluster, submitter, worker
from tests.unit.kubernetes_stub import KubernetesStub


def names(items: list[Object]) -> list[str]:
    return sorted(item["metadata"]["name"] for item in items)


def snapshot(*pods: Object) -> Snapshot:
    return Snapshot("judge", "ml", newest_jobs([job()]), pods=list(pods), now=NOW)


def release_named(name: str) -> Object:
    other = job()
    other["metadata"]["labels"]["app.kubernetes.io/instance"] = name
    return other


def test_of_several_releases_the_one_that_is_named_is_taken_and_a_lone_one_needs_no_name(
    release: KubernetesStub,
) -> None:
    assert find_release(Cluster.connect(), None) == RELEASE
    release.add("rayjobs", release_named("other"))
    assert [find_release(Cluster.connect(), name) for name in ("judge", "other")] == ["judge", "other"]


def test_a_release_that_is_nowhere_is_told_so(cluster: KubernetesStub) -> None:
    with pytest.raises(InputError, match=r"^release judge: no release in namespace ml of .*, nor in any other$"):
        find_release(Cluster.connect(), "judge")


def test_an_account_that_may_not_look_elsewhere_is_told_how_another_namespace_is_named(cluster: KubernetesStub) -> None:
    cluster.answers["GET /apis/ray.io/v1/rayjobs"] = (403, {"message": "no"})
    with pytest.raises(InputError, match=r"no release in namespace ml of .*; another namespace is named with -n$"):
        find_release(Cluster.connect(), None)


def test_a_snapshot_has_what_belongs_to_the_release_each_once_and_nothing_of_serving(release: KubernetesStub) -> None:
    serving = ray_cluster()
    serving["metadata"]["name"] = "judge-serve"
    serving["metadata"]["labels"] = {**serving["metadata"]["labels"], "ray.io/originated-from-crd": "RayService"}
    for item in (*release.objects["rayclusters"], serving):
        item["metadata"]["labels"]["app.kubernetes.io/part-of"] = "pairwise-rm"
    of_serving, on_ray, stranger = worker(), submitter("convert"), worker()
    of_serving["metadata"].update(name="serving", labels={"ray.io/cluster": "judge-serve"})
    on_ray["metadata"]["labels"]["ray.io/cluster"] = "judge"
    stranger["metadata"].update(name="stranger", labels={"ray.io/cluster": "other"})
    release.add("rayclusters", serving)
    release.add("pods", of_serving, on_ray, stranger)
    release.add("events", event("judge", "FailedCreate"))
    found = take(Cluster.connect(), RELEASE)
    assert list(found.jobs) == ["convert", "train", "export"]
    assert list(found.clusters) == ["judge"]
    assert names(found.pods) == [
        "judge-a100-worker-x1",
        "judge-convert-0a1b2c3d-s1",
        "judge-export-0a1b2c3d-s1",
        "judge-train-0a1b2c3d-s1",
    ]
    assert names(found.events) == ["judge.1"]
    assert found.claims == {}


def test_what_only_explains_may_be_kept_from_an_account(release: KubernetesStub) -> None:
    for kind in ("events", "persistentvolumeclaims"):
        release.answers[f"GET /api/v1/namespaces/ml/{kind}"] = (403, {"message": "no"})
    found = take(Cluster.connect(), RELEASE)
    assert (found.events, found.claims) == ([], None)


def test_the_head_is_the_head_that_runs_and_is_not_on_its_way_out() -> None:
    leaving = head()
    leaving["metadata"]["deletionTimestamp"] = "2025-10-09T08:53:20Z"
    assert snapshot(worker(), head("Pending"), leaving).head(job()) is None
    running = head()
    assert snapshot(worker(), leaving, running).head(job()) is running


@pytest.mark.parametrize(
    ("jobs", "stage", "told"),
    [
        ([], "nope", "stage 'nope': release judge has no RayJob yet"),
        ([job()], "nope", "stage 'nope': release judge has train"),
        (
            [job("export"), job()],
            "evaluate",
            "stage 'evaluate': release judge has train, export; set stages.evaluate.enabled for it",
        ),
    ],
)
def test_a_stage_that_a_release_lacks_is_told_with_those_that_it_has(jobs: list[Object], stage: str, told: str) -> None:
    with pytest.raises(InputError) as raised:
        Snapshot("judge", "ml", newest_jobs(jobs), now=NOW).job(stage)
    assert str(raised.value) == told


def test_of_a_stages_rayjobs_the_newest_counts_and_stages_stand_in_their_order() -> None:
    older, newer = job(), job()
    newer["metadata"].update(name="judge-train-new", creationTimestamp="2025-10-09T09:53:20Z")
    found = newest_jobs([job("export"), newer, older, job("convert")])
    assert list(found) == ["convert", "train", "export"]
    assert found["train"]["metadata"]["name"] == "judge-train-new"


def test_of_two_rayjobs_of_a_stage_the_newer_counts() -> None:
    old, new = job(), job()
    old["metadata"].update(name="judge-train-old", creationTimestamp="2025-10-08T08:53:20Z")
    assert newest_jobs([new, old])["train"] is new


def test_stages_stand_in_their_order_and_unknown_ones_behind() -> None:
    assert list(newest_jobs([job("export"), job("other"), job("convert")])) == ["convert", "export", "other"]
