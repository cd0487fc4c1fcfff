"""`manifests/gitops`: Argo CD's and Flux's objects hold to their schemas, and each state of a Ray object is seen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from crd_schemas import REPO, errors, go_module_file, schema_file
from gitops_health import GITOPS, Object, argo, flux, load
from rendering import CHART, rendered

SOURCE_CONTROLLER = "github.com/fluxcd/source-controller@v1.8.5"
GIT_REPOSITORY_CRD = "config/crd/bases/source.toolkit.fluxcd.io_gitrepositories.yaml"


def condition(type_: str, status: str, reason: str = "", message: str = "") -> Object:
    return {"type": type_, "status": status, "reason": reason, "message": message}


RAYJOB = {
    "no status yet": (None, "Progressing", "InProgress"),
    "new": ({"jobDeploymentStatus": ""}, "Progressing", "InProgress"),
    "initializing": ({"jobDeploymentStatus": "Initializing"}, "Progressing", "InProgress"),
    "waiting": ({"jobDeploymentStatus": "Waiting"}, "Progressing", "InProgress"),
    "running": ({"jobDeploymentStatus": "Running", "jobStatus": "RUNNING"}, "Progressing", "InProgress"),
    "failed in Ray, its submitter not done": (
        {"jobDeploymentStatus": "Running", "jobStatus": "FAILED"},
        "Progressing",
        "InProgress",
    ),
    "retrying": ({"jobDeploymentStatus": "Retrying", "jobStatus": "FAILED", "failed": 1}, "Progressing", "InProgress"),
    "suspending": ({"jobDeploymentStatus": "Suspending"}, "Suspended", "InProgress"),
    "suspended": ({"jobDeploymentStatus": "Suspended"}, "Suspended", "InProgress"),
    "succeeded": ({"jobDeploymentStatus": "Complete", "jobStatus": "SUCCEEDED"}, "Healthy", "Current"),
    "stopped by somebody": ({"jobDeploymentStatus": "Complete", "jobStatus": "STOPPED"}, "Degraded", "Failed"),
    "complete, its job failed": ({"jobDeploymentStatus": "Complete", "jobStatus": "FAILED"}, "Degraded", "Failed"),
    "complete without a job": ({"jobDeploymentStatus": "Complete"}, "Degraded", "Failed"),
    "failed": ({"jobDeploymentStatus": "Failed", "jobStatus": "FAILED", "reason": "AppFailed"}, "Degraded", "Failed"),
    "failed before its job was there": (
        {"jobDeploymentStatus": "Failed", "reason": "PreRunningDeadlineExceeded"},
        "Degraded",
        "Failed",
    ),
    "not valid": ({"jobDeploymentStatus": "ValidationFailed", "reason": "ValidationFailed"}, "Degraded", "Failed"),
}
READY, PROVISIONED = condition("HeadPodReady", "True"), condition("RayClusterProvisioned", "True")
RAYCLUSTER = {
    "no status yet": (None, "Progressing", "InProgress"),
    "no pods yet": (
        {"observedGeneration": 2, "conditions": [condition("HeadPodReady", "False", "HeadPodNotFound")]},
        "Progressing",
        "InProgress",
    ),
    "workers of a fixed size not there": (
        {"observedGeneration": 2, "conditions": [READY, condition("RayClusterProvisioned", "False")]},
        "Progressing",
        "InProgress",
    ),
    "ready": ({"observedGeneration": 2, "conditions": [READY, PROVISIONED]}, "Healthy", "Current"),
    "ready before its last edit": (
        {"observedGeneration": 1, "conditions": [READY, PROVISIONED]},
        "Progressing",
        "InProgress",
    ),
    "head lost": (
        {"observedGeneration": 2, "conditions": [condition("HeadPodReady", "False"), PROVISIONED]},
        "Progressing",
        "InProgress",
    ),
    "pods forbidden": (
        {"observedGeneration": 2, "conditions": [condition("ReplicaFailure", "True", "FailedCreateHeadPod")]},
        "Degraded",
        "InProgress",
    ),
    "suspended": (
        {"observedGeneration": 2, "conditions": [condition("RayClusterSuspended", "True")]},
        "Suspended",
        "InProgress",
    ),
}
SERVING = condition("Ready", "True", "NonZeroServeEndpoints")
RAYSERVICE = {
    "no status yet": (None, "Progressing", "InProgress"),
    "initializing": (
        {"observedGeneration": 2, "conditions": [condition("Ready", "False", "Initializing")]},
        "Progressing",
        "InProgress",
    ),
    "serving": (
        {"observedGeneration": 2, "conditions": [SERVING, condition("UpgradeInProgress", "False")]},
        "Healthy",
        "Current",
    ),
    "serving before its last edit": ({"observedGeneration": 1, "conditions": [SERVING]}, "Progressing", "InProgress"),
    "upgrading": (
        {"observedGeneration": 2, "conditions": [SERVING, condition("UpgradeInProgress", "True")]},
        "Progressing",
        "InProgress",
    ),
    "not valid": ({"conditions": [condition("Ready", "False", "ValidationFailed")]}, "Degraded", "Failed"),
    "never came up": (
        {"observedGeneration": 2, "conditions": [condition("Ready", "False", "InitializingTimeout")]},
        "Degraded",
        "Failed",
    ),
    "no endpoint left": (
        {"observedGeneration": 2, "conditions": [condition("Ready", "False", "ZeroServeEndpoints")]},
        "Degraded",
        "InProgress",
    ),
}
STATES = [
    pytest.param(kind, status, wanted, id=f"{kind} {name}")
    for kind, table in (("RayJob", RAYJOB), ("RayCluster", RAYCLUSTER), ("RayService", RAYSERVICE))
    for name, (status, *wanted) in table.items()
]


@pytest.mark.parametrize(("kind", "status", "wanted"), STATES)
def test_argo_cd_and_flux_see_the_state_of_an_object(kind: str, status: Object | None, wanted: list[str]) -> None:
    found: Object = {"apiVersion": "ray.io/v1", "kind": kind, "metadata": {"name": "judge", "generation": 2}}
    if status is not None:
        found["status"] = status
    assert [argo(kind, found)[0], flux(kind, found)] == wanted


@pytest.mark.parametrize(
    ("kind", "status", "message"),
    [
        (
            "RayJob",
            {"jobDeploymentStatus": "Failed", "reason": "AppFailed", "message": "exit code 1"},
            "Failed: AppFailed: exit code 1",
        ),
        (
            "RayJob",
            {"jobDeploymentStatus": "ValidationFailed", "reason": "ValidationFailed", "message": "no such mode"},
            "ValidationFailed: no such mode",
        ),
        ("RayJob", {"jobDeploymentStatus": "Running", "jobStatus": "RUNNING"}, "Running, job RUNNING"),
        (
            "RayCluster",
            {"conditions": [condition("ReplicaFailure", "True", message="pods is forbidden")]},
            "pods is forbidden",
        ),
        ("RayService", {"conditions": [condition("Ready", "False", "ValidationFailed", "no")]}, "ValidationFailed: no"),
    ],
)
def test_argo_cd_says_why(kind: str, status: Object, message: str) -> None:
    assert argo(kind, {"metadata": {"generation": 1}, "status": status})[1] == message


def crd_of(name: str) -> Path:
    if name == "flux/gitrepository.yaml":
        return go_module_file(SOURCE_CONTROLLER, GIT_REPOSITORY_CRD)
    return schema_file("flux-helmrelease-crd.yaml" if name.startswith("flux/") else "argocd-application-crd.yaml")


@pytest.mark.parametrize("name", ["argocd/application.yaml", "flux/helmrelease.yaml", "flux/gitrepository.yaml"])
def test_an_object_holds_to_its_schema_and_a_misspelt_key_does_not(name: str) -> None:
    crd, manifest = crd_of(name), load(name)
    assert errors(manifest, crd) == []
    manifest["spec"]["intervall"] = "10m"
    assert len(errors(manifest, crd)) == 1


def test_the_flux_folder_is_whole() -> None:
    files = {file.name for file in (GITOPS / "flux").glob("*.yaml")} - {"kustomization.yaml"}
    assert set(load("flux/kustomization.yaml")["resources"]) == files
    release, source = load("flux/helmrelease.yaml"), load("flux/gitrepository.yaml")
    ref = release["spec"]["chart"]["spec"]["sourceRef"]
    assert (ref["kind"], ref["name"]) == (source["kind"], source["metadata"]["name"])
    names = {release["metadata"]["namespace"], source["metadata"]["namespace"]}
    assert names == {load("flux/namespace.yaml")["metadata"]["name"]}


def pointed(found: Object, pointer: str) -> bool:
    """Whether a JSON pointer leads to something."""
    here: Any = found
    for part in pointer.lstrip("/").split("/"):
        if isinstance(here, list):
            if not (part.isdigit() and int(part) < len(here)):
                return False
            here = here[int(part)]
        elif part in here:
            here = here[part]
        else:
            return False
    return True


def test_argo_cd_s_release_renders() -> None:
    spec = load("argocd/application.yaml")["spec"]
    source = spec["source"]
    assert REPO / source["path"] == CHART
    objects = rendered([CHART / file for file in source["helm"]["valueFiles"]], source["helm"]["valuesObject"])
    assert {"RayCluster", "RayJob"} <= set(objects)


def test_flux_s_release_renders_and_its_drift_detection_ignores_the_autoscaler_s_fields_of_each_pool() -> None:
    spec = load("flux/helmrelease.yaml")["spec"]
    chart = spec["chart"]["spec"]
    assert REPO / chart["chart"] == CHART
    objects = rendered([REPO / file for file in chart["valuesFiles"]], spec["values"])
    [cluster] = objects["RayCluster"]
    [ignored] = [rule["paths"] for rule in spec["driftDetection"]["ignore"] if rule["target"]["kind"] == "RayCluster"]
    written = [
        f"/spec/workerGroupSpecs/{pool}/{field}"
        for pool in range(len(cluster["spec"]["workerGroupSpecs"]))
        for field in ("replicas", "scaleStrategy")
    ]
    assert ignored == written
    assert all(pointed(cluster, pointer) for pointer in ignored)
