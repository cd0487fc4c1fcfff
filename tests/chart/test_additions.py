"""What platform teams add: labels and annotations of all objects, and volumes and containers of Ray's pods."""

from __future__ import annotations

import pytest

from tests.chart.rendering import Object, Values, at, clusters, jobs, nested, objects, over, text
from tests.chart.value_table import A_VOLUME, CLUSTER, EVERY_KIND, HEAD, ONE_JOB, POOL, SECURED, SERVED

MARKED: Values = {"commonLabels": {"team": "a"}, "commonAnnotations": {"owner": "b"}, "nameOverride": "judges"}
BIG: Values = {"pools": {"big": {}}, "serve": {"enabled": True, "pool": "big"}}


def rendering(*values: Values) -> list[Object]:
    both: Values = {}
    for each in values:
        both = over(both, each)
    return objects(text((), both))


@pytest.mark.parametrize("base", [EVERY_KIND, ONE_JOB], ids=["every kind", "a RayJob with a cluster of its own"])
def test_every_object_has_the_common_labels_and_annotations(base: Values) -> None:
    for item in rendering(base, MARKED):
        metadata = item["metadata"]
        assert metadata["labels"]["team"] == "a", metadata["name"]
        assert metadata["annotations"]["owner"] == "b", metadata["name"]
        assert metadata["labels"]["app.kubernetes.io/name"] == "judges", metadata["name"]


@pytest.mark.parametrize("base", [EVERY_KIND, ONE_JOB], ids=["every kind", "a RayJob with a cluster of its own"])
def test_common_labels_and_annotations_leave_pods_selectors_and_names_as_they_are(base: Values) -> None:
    """A changed pod would restart the cluster, a changed name of a RayJob its stage."""
    before, after = rendering(base), rendering(base, MARKED)
    assert [item["metadata"]["name"] for item in before] == [item["metadata"]["name"] for item in after]
    assert [item.get("spec") for item in before] == [item.get("spec") for item in after]


def test_labels_of_one_object_go_before_the_common_ones() -> None:
    own = nested({"podMonitor.labels.team": "c", "grafanaDashboard.labels.team": "d"})
    items = rendering(EVERY_KIND, MARKED, own)
    assert at(items, "PodMonitor metadata labels team") == "c"
    assert at(items, "ConfigMap/judge-dashboard metadata labels team") == "d"


@pytest.mark.parametrize(
    ("place", "key"),
    [
        ("PersistentVolumeClaim/judge-runs", "argocd.argoproj.io/sync-options"),
        ("PersistentVolumeClaim/judge-runs", "helm.sh/resource-policy"),
        ("RayJob/train", "pairwise-rm.io/digest"),
        ("ServiceAccount/judge-head", "role"),
        ("Pod", "helm.sh/hook"),
    ],
)
def test_an_annotation_of_the_object_s_own_goes_before_a_common_one(place: str, key: str) -> None:
    base = over(EVERY_KIND, {"serviceAccount": {"annotations": {"role": "of-the-cloud"}}})
    there = at(rendering(base), f"{place} metadata annotations {key}")
    assert at(rendering(base, {"commonAnnotations": {key: "another"}}), f"{place} metadata annotations {key}") == there


def test_an_account_that_exists_is_that_of_all_pods() -> None:
    items = rendering({"serviceAccount": {"create": False, "name": "cloud"}})
    assert at(items, f"{HEAD} serviceAccountName") == at(items, f"{POOL} serviceAccountName") == "cloud"
    submitters = [job["spec"]["submitterPodTemplate"]["spec"]["serviceAccountName"] for job in jobs(items).values()]
    assert set(submitters) == {"cloud"}
    assert at(items, "ServiceAccount") == "absent"


def test_pods_that_serve_have_what_is_added_to_their_pool_and_to_all() -> None:
    added = {
        "runtimeClassName": "nvidia",
        "extraVolumes": [{"name": "fast", **A_VOLUME}],
        "extraVolumeMounts": [{"name": "fast", "mountPath": "/fast"}, {"name": "all", "mountPath": "/all"}],
        "extraInitContainers": [{"name": "before", **SECURED}],
        "extraContainers": [{"name": "beside", **SECURED}],
    }
    items = rendering(BIG, {"extraVolumes": [{"name": "all", **A_VOLUME}], "pools": {"big": added}})
    for group in (SERVED, f"{CLUSTER} workerGroupSpecs big"):
        pod = at(items, f"{group} template spec")
        assert pod["runtimeClassName"] == "nvidia"
        assert [volume["name"] for volume in pod["volumes"][-2:]] == ["all", "fast"]
        assert pod["containers"][0]["volumeMounts"][-2:] == added["extraVolumeMounts"]
        assert [container["name"] for container in pod["containers"]] == ["ray-worker", "beside"]
        assert [container["name"] for container in pod["initContainers"]] == ["before"]
    [gpu] = [group for group in clusters(items)[0]["workerGroupSpecs"] if group["groupName"] == "gpu"]
    assert "fast" not in {volume["name"] for volume in gpu["template"]["spec"]["volumes"]}
