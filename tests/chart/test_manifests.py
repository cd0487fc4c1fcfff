"""`manifests/`: each RayJob can be applied alone, and an overlay gives what the chart renders with its values."""

from __future__ import annotations

import re
import shutil
import subprocess
from functools import cache
from pathlib import Path

import pytest
import yaml
from crd_schemas import REPO
from kube_schemas import checked
from pod_security import container_violations, violations
from rendering import STAGES, Object, clusters, jobs, objects, pod_specs

from charts import manifests

FOLDER = REPO / "manifests"
OVERLAYS = ("kind", "a100")
STORAGE = {item["metadata"]["name"] for item in yaml.safe_load_all((FOLDER / "storage.yaml").read_text())}
ALL = pytest.mark.parametrize(
    "name", ["storage", "networkpolicy", "raycluster", *(f"rayjob-{stage}" for stage in STAGES)]
)
ALONE = pytest.mark.parametrize("name", ["raycluster", *(f"rayjob-{stage}" for stage in STAGES)])


def items(name: str) -> list[Object]:
    return objects((FOLDER / f"{name}.yaml").read_text())


@cache
def kustomized(folder: str) -> str:
    kubectl = shutil.which("kubectl")
    if not kubectl:
        pytest.skip("kubectl is not installed, so the kustomizations were not built")
    return subprocess.run(
        [kubectl, "kustomize", str(FOLDER / folder)], capture_output=True, text=True, check=True
    ).stdout


def named(found: list[Object]) -> dict[tuple[str, str], Object]:
    return {(item["kind"], item["metadata"]["name"]): item for item in found}


@ALL
def test_a_manifest_carries_names_that_kuberay_takes_and_nothing_of_helm(name: str) -> None:
    for item in items(name):
        assert len(item["metadata"]["name"]) <= (47 if item["kind"] == "RayJob" else 53)
        assert re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", item["metadata"]["name"])
        assert "namespace" not in item["metadata"]
    assert "helm" not in (FOLDER / f"{name}.yaml").read_text().lower()


@ALONE
def test_a_manifest_names_nothing_but_what_is_in_it_and_in_storage_yaml(name: str) -> None:
    configs = {item["metadata"]["name"] for item in items(name) if item["kind"] == "ConfigMap"}
    pods = [spec for item in items(name) for _, spec in pod_specs(item)]
    for pod in pods:
        for volume in pod["volumes"]:
            assert volume.get("persistentVolumeClaim", {"claimName": min(STORAGE)})["claimName"] in STORAGE
            assert volume.get("configMap", {"name": min(configs)})["name"] in configs
        assert pod.get("serviceAccountName", "default") == "default"
        assert list(violations(pod)) == []
    for cluster in clusters(items(name)):
        assert not cluster["enableInTreeAutoscaling"] or not list(container_violations(cluster["autoscalerOptions"]))


@pytest.mark.parametrize("stage", STAGES)
def test_a_rayjob_of_the_manifests_has_a_cluster_of_its_own_that_goes_when_it_is_done(stage: str) -> None:
    job = jobs(items(f"rayjob-{stage}"))[stage]["spec"]
    assert "clusterSelector" not in job
    assert job["shutdownAfterJobFinishes"] is True
    assert "--digest" not in job["entrypoint"]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_an_overlay_gives_what_the_chart_renders_with_its_values(overlay: str) -> None:
    wanted = [item for file in manifests._BASE_FILES for item in manifests.objects(file, overlay)]
    assert named(objects(kustomized(f"overlays/{overlay}"))) == named(wanted)


def test_the_base_is_the_manifests_that_run_together() -> None:
    together = [item for file in manifests._BASE_FILES for item in items(file.removesuffix(".yaml"))]
    assert named(objects(kustomized("base"))) == named(together)


def test_what_kustomize_builds_holds_to_the_schemas(tmp_path: Path) -> None:
    for overlay in OVERLAYS:
        (tmp_path / f"{overlay}.yaml").write_text(kustomized(f"overlays/{overlay}"))
    wrong, counted = checked(tmp_path)
    assert wrong == []
    assert (counted["invalid"], counted["errors"], counted["skipped"]) == (0, 0, 0)
