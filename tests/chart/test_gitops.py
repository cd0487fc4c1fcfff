"""`manifests/gitops`: Argo CD's and Flux's objects hold to their schemas, and each state of a Ray object is seen."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from charts import manifests
from tests.chart.crd_schemas import errors, go_module_file, schema_file
from tests.chart.gitops_health import GITOPS, Object, argo, flux, load
from tests.chart.kube_schemas import KUBERAY
from tests.chart.kustomizing import built
from tests.chart.rendering import rendered
from tests.paths import CHART, REPO

# CRDs of Flux by the name of the file: Go module, file in it.
FLUX_CRDS = {
    "gitrepository.yaml": (
        "github.com/fluxcd/source-controller@v1.8.5",
        "config/crd/bases/source.toolkit.fluxcd.io_gitrepositories.yaml",
    ),
    "manifests.yaml": (
        "github.com/fluxcd/kustomize-controller@v1.9.6",
        "config/crd/bases/kustomize.toolkit.fluxcd.io_kustomizations.yaml",
    ),
}


def condition(type_: str, status: str, reason: str = "", message: str = "") -> Object:
    return {"type": type_, "status": status, "reason": reason, "message": message}


RAYJOB = {
    "no status yet": (None, "Progressing", "InProgress"),
    "new": ({"jobDeploymentStatus": ""}, "Progressing", "InProgress"),
    "initializing": ({"jobDeploymentStatus": "Initializing"}, "Progressing", "InProgress"),
    "waiting": ({"jobDeploymentStatus": "Waiting"}, "Progressing", "InProgress"),
    "running": ({"jobDeploymentStatus": "Running", "jobStatus": "RUNNING"}, "Progressing", "InProgress"),
    "submitted": ({"jobDeploymentStatus": "Running", "jobStatus": "PENDING"}, "Progressing", "InProgress"),
    "succeeded in Ray, its submitter not done": (
        {"jobDeploymentStatus": "Running", "jobStatus": "SUCCEEDED"},
        "Progressing",
        "InProgress",
    ),
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
    "succeeded, its submitter given up": (
        {
            "jobDeploymentStatus": "Complete",
            "jobStatus": "SUCCEEDED",
            "reason": "JobDeploymentStatusTransitionGracePeriodExceeded",
        },
        "Healthy",
        "Current",
    ),
    **{
        f"failed: {reason}": (
            {"jobDeploymentStatus": "Failed", "jobStatus": job, "reason": reason},
            "Degraded",
            "Failed",
        )
        for reason, job in (
            ("AppFailed", "FAILED"),
            ("DeadlineExceeded", "RUNNING"),
            ("PreRunningDeadlineExceeded", ""),
            ("SubmissionFailed", ""),
            ("JobDeploymentStatusTransitionGracePeriodExceeded", "FAILED"),
            ("JobStatusCheckTimeoutExceeded", "RUNNING"),
        )
    },
    "not valid": ({"jobDeploymentStatus": "ValidationFailed", "reason": "ValidationFailed"}, "Degraded", "Failed"),
}
READY = condition("HeadPodReady", "True", "HeadPodRunningAndReady")
NOT_READY = condition("HeadPodReady", "False", "HeadPodNotFound")
PROVISIONED = condition("RayClusterProvisioned", "True", "AllPodRunningAndReadyFirstTime")
PROVISIONING = condition("RayClusterProvisioned", "False", "RayClusterPodsProvisioning")
SUSPENDING, SUSPENDED = (condition(f"RayCluster{state}", "True") for state in ("Suspending", "Suspended"))
NOT_SUSPENDED = [condition(f"RayCluster{state}", "False") for state in ("Suspending", "Suspended")]
FORBIDDEN = condition("ReplicaFailure", "True", "FailedCreateWorkerPod")


def conditions(*found: Object, generation: int = 2) -> Object:
    return {"observedGeneration": generation, "conditions": list(found)}


RAYCLUSTER = {
    "no status yet": (None, "Progressing", "InProgress"),
    "no pods yet": (conditions(NOT_READY, PROVISIONING, *NOT_SUSPENDED), "Progressing", "InProgress"),
    "head not known": (
        conditions(condition("HeadPodReady", "Unknown", "Unknown"), PROVISIONING),
        "Progressing",
        "InProgress",
    ),
    "workers of a fixed size not there": (conditions(READY, PROVISIONING), "Progressing", "InProgress"),
    "ready": (conditions(READY, PROVISIONED, *NOT_SUSPENDED), "Healthy", "Current"),
    "ready before its last edit": (conditions(READY, PROVISIONED, generation=1), "Progressing", "InProgress"),
    "head lost": (conditions(NOT_READY, PROVISIONED), "Progressing", "InProgress"),
    "pods forbidden": (conditions(NOT_READY, FORBIDDEN), "Degraded", "InProgress"),
    "further pods forbidden": (conditions(READY, PROVISIONED, FORBIDDEN), "Degraded", "InProgress"),
    "suspending, its pods still there": (conditions(READY, PROVISIONED, SUSPENDING), "Suspended", "InProgress"),
    "suspended": (conditions(NOT_READY, PROVISIONING, SUSPENDED), "Suspended", "InProgress"),
}


def serving(status: str, reason: str) -> Object:
    return condition("Ready", status, reason)


SERVING = serving("True", "NonZeroServeEndpoints")
NO_UPGRADE = condition("UpgradeInProgress", "False", "NoPendingCluster")
UPGRADE = condition("UpgradeInProgress", "True", "BothActivePendingClustersExist")
INITIALIZING = serving("False", "Initializing")
RAYSERVICE = {
    "no status yet": (None, "Progressing", "InProgress"),
    "initializing": (
        conditions(INITIALIZING, condition("UpgradeInProgress", "False", "Initializing")),
        "Progressing",
        "InProgress",
    ),
    "serving": (conditions(SERVING, NO_UPGRADE), "Healthy", "Current"),
    "serving before its last edit": (conditions(SERVING, generation=1), "Progressing", "InProgress"),
    "upgrading": (conditions(SERVING, UPGRADE), "Progressing", "InProgress"),
    **{
        f"rolling back, {reason}": (
            conditions(SERVING, NO_UPGRADE, condition("RollbackInProgress", "True", reason)),
            "Progressing",
            "InProgress",
        )
        for reason in ("TargetClusterChanged", "DesiredClusterSpecChanged")  # 1.6, 1.7
    },
    "not valid": ({"conditions": [serving("False", "ValidationFailed")]}, "Degraded", "Failed"),
    # Flux waits for the generation, which KubeRay does not take note of; it gives up when its own timeout comes.
    "edited into something that is not valid": (
        conditions(serving("False", "ValidationFailed"), generation=1),
        "Degraded",
        "InProgress",
    ),
    "never came up": (conditions(serving("False", "InitializingTimeout")), "Degraded", "Failed"),
    "no endpoint left": (conditions(serving("False", "ZeroServeEndpoints"), NO_UPGRADE), "Degraded", "InProgress"),
    "its cluster gone": (
        conditions(
            serving("False", "ZeroServeEndpoints"), condition("UpgradeInProgress", "Unknown", "NoActiveCluster")
        ),
        "Degraded",
        "InProgress",
    ),
    **{
        f"suspending, {reason}": (
            conditions(serving("False", "SuspendInProgress"), condition("Suspending", "True", reason)),
            "Suspended",
            "InProgress",
        )
        for reason in ("SuspendRequested", "SuspendInProgress")
    },
    "suspended": (
        conditions(
            serving("False", "SuspendComplete"),
            condition("Suspending", "False", "SuspendComplete"),
            condition("Suspended", "True", "SuspendComplete"),
        ),
        "Suspended",
        "InProgress",
    ),
    "resumed": (
        conditions(INITIALIZING, condition("Suspended", "False", "RayServiceResumed")),
        "Progressing",
        "InProgress",
    ),
}
TABLES: dict[str, dict[str, tuple[Any, ...]]] = {"RayJob": RAYJOB, "RayCluster": RAYCLUSTER, "RayService": RAYSERVICE}
STATES = [
    pytest.param(kind, status, wanted, id=f"{kind} {name}")
    for kind, table in TABLES.items()
    for name, (status, *wanted) in table.items()
]


@pytest.mark.parametrize(("kind", "status", "wanted"), STATES)
def test_argo_cd_and_flux_see_the_state_of_an_object(kind: str, status: Object | None, wanted: list[str]) -> None:
    found: Object = {"apiVersion": "ray.io/v1", "kind": kind, "metadata": {"name": "judge", "generation": 2}}
    if status is not None:
        found["status"] = status
    assert [argo(kind, found)[0], flux(kind, found)] == wanted


# Where the API's values stand: kind, key of its status or of its conditions, Go type of the values ("" for no type).
ENUMS = [
    ("RayJob", "jobDeploymentStatus", "JobDeploymentStatus"),
    ("RayJob", "jobStatus", "JobStatus"),
    ("RayJob", "reason", "JobFailedReason"),
    ("RayCluster", "type", "RayClusterConditionType"),
    ("RayCluster", "reason", ""),
    ("RayService", "type", "RayServiceConditionType"),
    ("RayService", "reason", "RayServiceConditionReason"),
]
# What 1.7.0 adds to 1.6.1, written down since not every module proxy serves 1.7.0.
ADDED = {
    "JobFailedReason": {"JobStatusCheckTimeoutExceeded"},
    "RayServiceConditionType": {"Suspending", "Suspended"},
    "RayServiceConditionReason": {
        "DesiredClusterSpecChanged",
        "SuspendRequested",
        "SuspendInProgress",
        "SuspendComplete",
        "RayServiceResumed",
    },
}


def values_of(kuberay: str, kind: str, type_: str) -> set[str]:
    """The constants of a type in KubeRay's source."""
    source = go_module_file(KUBERAY[kuberay][0], f"apis/ray/v1/{kind.lower()}_types.go").read_text()
    return set(re.findall(rf'^\t\w+\s+{f"{type_} +" if type_ else ""}= "(.*)"', source, re.MULTILINE))


def tabled(kind: str, key: str) -> set[str]:
    """The values of a key that the table's rows have."""
    statuses = [status or {} for status, *_ in TABLES[kind].values()]
    if kind == "RayJob":
        return {status.get(key, "") for status in statuses}
    return {found[key] for status in statuses for found in status.get("conditions", [])}


@pytest.mark.parametrize(("kind", "key", "type_"), ENUMS)
def test_each_value_of_kuberay_s_api_has_a_row(kind: str, key: str, type_: str) -> None:
    known = values_of("1.6", kind, type_)
    assert known
    assert (known | ADDED.get(type_, set())) - tabled(kind, key) == set()


@pytest.mark.parametrize(("kind", "key", "type_"), ENUMS)
def test_what_is_written_down_of_1_7_is_what_its_source_says(kind: str, key: str, type_: str) -> None:
    assert values_of("1.7", kind, type_) - values_of("1.6", kind, type_) == ADDED.get(type_, set())


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
    if module := FLUX_CRDS.get(Path(name).name):
        return go_module_file(*module)
    return schema_file("flux-helmrelease-crd.yaml" if name.startswith("flux/") else "argocd-application-crd.yaml")


@pytest.mark.parametrize(
    "name",
    [
        "argocd/application.yaml",
        "flux/helmrelease.yaml",
        "flux/gitrepository.yaml",
        "flux-manifests/manifests.yaml",
        "flux-manifests/gitrepository.yaml",
    ],
)
def test_an_object_holds_to_its_schema_and_a_misspelt_key_does_not(name: str) -> None:
    crd, manifest = crd_of(name), load(name)
    assert errors(manifest, crd) == []
    manifest["spec"]["intervall"] = "10m"
    assert len(errors(manifest, crd)) == 1


@pytest.mark.parametrize("folder", ["flux", "flux-manifests"])
def test_a_flux_folder_is_whole_and_its_source_has_what_is_applied(folder: str) -> None:
    files = {file.name for file in (GITOPS / folder).glob("*.yaml")} - {"kustomization.yaml"}
    assert set(load(f"{folder}/kustomization.yaml")["resources"]) == files
    applied = load(f"{folder}/{'helmrelease' if folder == 'flux' else 'manifests'}.yaml")
    source = load(f"{folder}/gitrepository.yaml")
    spec = applied["spec"].get("chart", applied)["spec"]
    assert (spec["sourceRef"]["kind"], spec["sourceRef"]["name"]) == (source["kind"], source["metadata"]["name"])
    path = Path(spec.get("chart") or spec["path"])
    assert (REPO / path).is_dir()
    assert source["spec"]["ignore"] == f"/*\n!/{path.parts[0]}/\n"
    names = {applied["metadata"]["namespace"], source["metadata"]["namespace"]}
    assert names == {load(f"{folder}/namespace.yaml")["metadata"]["name"]}


# ---- Flux and the manifests, without Helm --------------------------------------------------------


def test_flux_judges_the_manifests_as_it_judges_the_release() -> None:
    spec, release = (load(f"{name}.yaml")["spec"] for name in ("flux-manifests/manifests", "flux/helmrelease"))
    assert [check for check in release["healthCheckExprs"] if check["kind"] != "RayService"] == spec["healthCheckExprs"]
    assert (spec["wait"], spec["prune"], spec["timeout"]) == (True, True, release["timeout"])


def test_flux_applies_an_overlay_whose_claims_it_leaves_alone() -> None:
    spec = load("flux-manifests/manifests.yaml")["spec"]
    claims = [item for item in built(REPO / spec["path"]) if item["kind"] == "PersistentVolumeClaim"]
    assert len(claims) == 3
    for claim in claims:
        assert claim["metadata"]["annotations"] == {
            "kustomize.toolkit.fluxcd.io/prune": "disabled",
            "argocd.argoproj.io/sync-options": "Prune=false,Delete=false",
            "argocd.argoproj.io/compare-options": "IgnoreExtraneous",
        }


@pytest.mark.parametrize(
    "overrides", [{"train": {"steps": 7}}, {"evaluate": {"limit": 7}}, {"train": {"learning_rate": 0.1}}]
)
def test_a_commit_changes_no_field_that_cannot_change(overrides: Object) -> None:
    """ConfigMaps are immutable, and KubeRay takes no edit of a RayJob that has ended: what changes has another name."""
    values = load("../helm/values.yaml")
    before, after = (
        {(item["kind"], item["metadata"]["name"]): item for item in manifests.render(given)}
        for given in (values, {**values, "recipe": {"overrides": overrides}})
    )
    assert before != after
    for name in set(before) & set(after):
        assert before[name] == after[name]
    assert all(item["immutable"] for item in after.values() if item["kind"] == "ConfigMap")


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
