"""`manifests/kueue`: held to Kueue's CRDs, whole, and enough for the preset that it is made for."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

from tests.chart.crd_schemas import errors, go_module_file
from tests.chart.rendering import Values, jobs, nested, objects, text
from tests.paths import CHART, REPO

KUEUE = "sigs.k8s.io/kueue@v0.17.0"
CRDS = {
    kind: f"config/components/crd/bases/kueue.x-k8s.io_{plural}.yaml"
    for kind, plural in {
        "ClusterQueue": "clusterqueues",
        "LocalQueue": "localqueues",
        "ResourceFlavor": "resourceflavors",
        "WorkloadPriorityClass": "workloadpriorityclasses",
    }.items()
}
GPU = "nvidia.com/gpu"
FOLDER = REPO / "manifests" / "kueue"
FILES = sorted(file for file in FOLDER.glob("*.yaml") if file.name != "kustomization.yaml")
ITEMS = [item for file in FILES for item in yaml.safe_load_all(file.read_text())]
OF_KUEUE = [item for item in ITEMS if item["kind"] in CRDS]
PRESET = objects(text((CHART / "values-kueue.yaml",), {}))

Object = dict[str, Any]


def of_kind(kind: str) -> list[Object]:
    return [item for item in ITEMS if item["kind"] == kind]


@pytest.mark.parametrize("item", OF_KUEUE, ids=lambda item: f"{item['kind']} {item['metadata']['name']}")
def test_an_object_of_kueue_holds_to_its_schema_and_a_misspelt_key_does_not(item: Object) -> None:
    crd = go_module_file(KUEUE, CRDS[item["kind"]])
    assert errors(item, crd) == []
    assert len(errors({**item, "specs": {}}, crd)) == 1


def test_the_folder_is_whole_and_says_what_it_is() -> None:
    listed = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())["resources"]
    assert sorted(listed) == [file.name for file in FILES]
    assert all(file.read_text().startswith("# ") for file in FOLDER.glob("*.yaml"))


def test_the_names_in_it_lead_to_each_other_and_to_the_preset() -> None:
    [local], [cluster], [namespace] = of_kind("LocalQueue"), of_kind("ClusterQueue"), of_kind("Namespace")
    [job] = jobs(PRESET).values()
    assert local["metadata"]["name"] == job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"]
    assert local["metadata"]["namespace"] == namespace["metadata"]["name"]
    assert local["spec"]["clusterQueue"] == cluster["metadata"]["name"]
    assert set(cluster["spec"]["namespaceSelector"]["matchLabels"].values()) == {namespace["metadata"]["name"]}
    groups = cluster["spec"]["resourceGroups"]
    flavors = {flavor["metadata"]["name"] for flavor in of_kind("ResourceFlavor")}
    assert {flavor["name"] for group in groups for flavor in group["flavors"]} == flavors
    for group in groups:
        for flavor in group["flavors"]:
            assert [item["name"] for item in flavor["resources"]] == group["coveredResources"]


def test_only_pods_with_gpus_get_the_labels_of_the_gpu_nodes_which_are_those_of_the_preset_s_pool() -> None:
    [job] = jobs(PRESET).values()
    [pool] = job["spec"]["rayClusterSpec"]["workerGroupSpecs"]
    flavors = {flavor["metadata"]["name"]: flavor.get("spec", {}) for flavor in of_kind("ResourceFlavor")}
    [cluster] = of_kind("ClusterQueue")
    for group in cluster["spec"]["resourceGroups"]:
        wanted = pool["template"]["spec"]["nodeSelector"] if group["coveredResources"] == [GPU] else None
        assert [flavors[flavor["name"]].get("nodeLabels") for flavor in group["flavors"]] == [wanted]


ELASTIC = "kueue.x-k8s.io/elastic-job"
QUEUED: dict[str, Any] = {"mode": "ephemeral", "batch.kueue.queueName": "judges"}


@pytest.mark.parametrize(
    ("settings", "elastic"),
    [(QUEUED, "true"), ({"mode": "ephemeral"}, None), ({}, None)],
    ids=["queued and autoscaled", "no queue", "the shared cluster"],
)
def test_autoscaled_rayjobs_in_a_queue_are_elastic_ones_which_kueue_demands(settings: Values, elastic: Any) -> None:
    found = jobs(objects(text((), nested(settings))))
    assert {job["metadata"]["annotations"].get(ELASTIC) for job in found.values()} == {elastic}
    autoscaled = {name for name, job in found.items() if own_cluster(job).get("enableInTreeAutoscaling")}
    # Converting has no workers.
    assert autoscaled == ({"train", "evaluate", "export"} if "mode" in settings else set())


def own_cluster(job: Object) -> Object:
    """The spec of a RayJob's own cluster."""
    spec: Object = job["spec"].get("rayClusterSpec", {})
    return spec


def test_rayjobs_of_a_fixed_size_are_admitted_whole() -> None:
    [job] = jobs(PRESET).values()
    assert ELASTIC not in job["metadata"]["annotations"]


@pytest.mark.parametrize(("kueue", "stage", "on"), [("v0.17.0", "Alpha", "false"), ("v0.19.0", "Beta", "true")])
def test_the_feature_gate_that_elastic_rayjobs_need_stands_as_the_chart_s_readme_says(
    kueue: str, stage: str, on: str
) -> None:
    source = go_module_file(f"sigs.k8s.io/kueue@{kueue}", "pkg/features/kube_features.go").read_text()
    [states] = re.findall(r"^\tElasticJobsViaWorkloadSlices: \{\n(.*?)^\t\}", source, re.MULTILINE | re.DOTALL)
    assert re.findall(r"Default: (\w+), PreRelease: featuregate\.(\w+)", states)[-1] == (on, stage)
    names = {"v0.17.0": "pkg/workloadslicing/workloadslicing.go", "v0.19.0": "pkg/constants/constants.go"}
    assert f'"{ELASTIC}"' in go_module_file(f"sigs.k8s.io/kueue@{kueue}", names[kueue]).read_text()
