"""`manifests/`: each RayJob can be applied alone, and an overlay gives what the chart renders with its values."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
import yaml

from charts import manifests
from pairwise_rm.k8s.manifest_digests import check_digests
from tests.chart.kube_schemas import KUBERAY, checked
from tests.chart.kustomizing import built
from tests.chart.pod_security import container_violations, violations
from tests.chart.rendering import STAGES, Object, clusters, helm, jobs, objects, pod_specs
from tests.paths import REPO

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


@pytest.mark.parametrize("text", ["03187184", "12345678", "1234e567", "1.5", "-2", "true", "a: b"])
def test_a_text_that_looks_like_something_else_to_any_reader_of_yaml_is_quoted(text: str) -> None:
    (line,) = manifests.dump({"text": text}).splitlines()[-1:]
    assert line == f"text: '{text}'"


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
    assert named(built(FOLDER / "overlays" / overlay)) == named(wanted)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_kubectl_builds_an_overlay_as_the_tests_do(overlay: str) -> None:
    assert named(objects(kustomized(f"overlays/{overlay}"))) == named(built(FOLDER / "overlays" / overlay))


def test_the_base_is_the_manifests_that_run_together() -> None:
    together = [item for file in manifests._BASE_FILES for item in items(file.removesuffix(".yaml"))]
    assert named(objects(kustomized("base"))) == named(together)


@pytest.mark.parametrize("kuberay", KUBERAY)
def test_what_kustomize_builds_holds_to_the_schemas(tmp_path: Path, kuberay: str) -> None:
    for overlay in OVERLAYS:
        (tmp_path / f"{overlay}.yaml").write_text(yaml.safe_dump_all(built(FOLDER / "overlays" / overlay)))
    wrong, counted = checked(tmp_path, kuberay)
    assert wrong == []
    assert (counted["invalid"], counted["errors"], counted["skipped"]) == (0, 0, 0)


# ---- recipes -------------------------------------------------------------------------------------


@pytest.mark.parametrize("folder", ["base", *(f"overlays/{overlay}" for overlay in OVERLAYS)])
def test_the_digests_of_a_kustomization_are_those_of_its_recipes(folder: str) -> None:
    checked_digests = check_digests(yaml.safe_dump_all(built(FOLDER / folder)), folder)
    assert (checked_digests.jobs, checked_digests.wrong, checked_digests.missing) == (3, [], [])


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_a_recipe_patched_in_an_overlay_is_found_by_its_digests(overlay: str) -> None:
    found = built(FOLDER / "overlays" / overlay)
    [config] = [item for item in found if item["kind"] == "ConfigMap" and "train.yaml" in item["data"]]
    config["data"]["train.yaml"] += "seed: 7\n"
    wrong = check_digests(yaml.safe_dump_all(found), overlay).wrong
    keys = ["metadata.annotations pairwise-rm.io/digest", *["spec.entrypoint --after train"] * 2]
    assert [line.split(" is ")[0].split(": ", 1)[1] for line in wrong] == keys


def commands(readme: Path, begin: str) -> str:
    """The block of commands of a README that begins so."""
    blocks: list[str] = re.findall(r"```bash\n(.*?)```", readme.read_text(), re.DOTALL)
    [block] = [block for block in blocks if begin in block]
    return block


def test_another_recipe_is_rendered_as_the_readme_says(tmp_path: Path) -> None:
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "helm").symlink_to(shutil.which(helm()) or helm())
    (tools / "pairwise-rm").write_text(f'#!/bin/sh\nexec {sys.executable} -m pairwise_rm "$@"\n')
    (tools / "kubectl").write_text('#!/bin/sh\necho "kubectl $@"\n')
    for file in (tools / "pairwise-rm", tools / "kubectl"):
        file.chmod(0o755)
    for folder in ("charts", "manifests"):
        (tmp_path / folder).symlink_to(REPO / folder)
    environment = {**os.environ, "PATH": f"{tools}:{os.environ['PATH']}", "PYTHONPATH": str(REPO)}
    script = commands(FOLDER / "README.md", "recipe.overrides")
    done = subprocess.run(
        ["bash", "-e", "-c", script], capture_output=True, text=True, cwd=tmp_path, env=environment, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("rendered.yaml: 3 RayJobs, each digest is that of its recipe\nkubectl apply")
    changed = [item for item in objects((tmp_path / "rendered.yaml").read_text()) if item["kind"] == "ConfigMap"]
    for config in changed:
        [recipe] = [text for name, text in config["data"].items() if name != "convert.yaml"]
        assert yaml.safe_load(recipe)["train"]["steps"] == 400


def test_what_helm_renders_with_the_values_of_the_manifests_is_the_base() -> None:
    values = yaml.safe_load((FOLDER / "helm" / "values.yaml").read_text())
    rendered = jobs(manifests.render(values))
    # Export alone differs: the base has it beside evaluate, not behind it.
    assert {stage: rendered[stage] for stage in ("train", "evaluate")} == {
        stage: job for stage, job in jobs(built(FOLDER / "base")).items() if stage != "export"
    }
