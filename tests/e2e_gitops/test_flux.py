"""Flux's kustomize-controller keeps rendered manifests as Git has them, with manifests/gitops/flux-manifests.

The repository is rendered as manifests/README.md describes. The tests run in order and share one Kustomization.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import yaml

from tests.e2e.kube import Namespace, new_namespace, run, state_of, succeeded, tool, wait_for
from tests.e2e.phases import PHASES
from tests.e2e_gitops.conftest import GitServer, Repository
from tests.e2e_gitops.pairs import VALUES, put_pairs
from tests.paths import CHART, REPO

FLUX = REPO / "manifests" / "gitops" / "flux-manifests"
RELEASE = "pairwise-rm"
FOLDER = "rendered"
OURS = f"--selector=app.kubernetes.io/instance={RELEASE}"
CONVERT_ALONE = {"stages": {**VALUES["stages"], "convert": {"enabled": True}, "train": {"enabled": False, "first": []}}}


@dataclass(frozen=True)
class Flux:
    """A Kustomization, and the repository that it applies."""

    namespace: Namespace
    repository: Repository

    def render(self, *settings: str) -> None:
        """Writes the manifests and their kustomization into the work tree."""
        folder = self.repository.folder / FOLDER
        folder.mkdir(exist_ok=True)
        files = [REPO / "manifests" / "helm" / "values.yaml", CHART / "values-kind.yaml", "-"]
        command = [tool("helm"), "template", RELEASE, str(CHART), "--skip-tests", f"--namespace={self.namespace.name}"]
        command += [*(f"--values={file}" for file in files), *(word for one in settings for word in ("--set", one))]
        rendered = run(*command, stdin=yaml.safe_dump({**VALUES, **CONVERT_ALONE}))
        (folder / "rendered.yaml").write_text(rendered)
        (folder / "kustomization.yaml").write_text(yaml.safe_dump({"resources": ["rendered.yaml"]}))

    def commit(self, message: str) -> str:
        revision = self.repository.commit(message)
        self.reconcile("gitrepository")
        wait_for(lambda: revision in self.source(), 120, f"{message!r} is fetched", self.told)
        self.reconcile("kustomization")
        return revision

    def reconcile(self, kind: str) -> None:
        name = {"gitrepository": "pairwise-rm-manifests", "kustomization": RELEASE}[kind]
        now = f"reconcile.fluxcd.io/requestedAt={time.time()}"
        self.namespace.kubectl("annotate", "--overwrite", f"{kind}.{GROUPS[kind]}", name, now)

    def source(self) -> str:
        return self.namespace.kubectl("get", "gitrepository", "pairwise-rm-manifests", "-o", "yaml")

    def status(self) -> dict[str, Any]:
        said = self.namespace.kubectl("get", "kustomization", RELEASE, "-o", "json")
        status: dict[str, Any] = json.loads(said)["status"]
        return status

    def condition(self, kind: str = "Ready") -> dict[str, Any]:
        found = [one for one in self.status().get("conditions", []) if one["type"] == kind]
        return found[0] if found else {"status": "Unknown", "message": "", "reason": ""}

    def is_ready(self, revision: str) -> bool:
        applied = self.status().get("lastAppliedRevision", "")
        return revision in applied and self.condition()["status"] == "True"

    def job(self) -> dict[str, Any]:
        [job] = self.namespace.items(f"rayjobs {OURS}")
        return job

    def wait_until_ready(self, revision: str, what: str) -> float:
        return wait_for(lambda: self.is_ready(revision), 900, what, self.told)

    def told(self) -> str:
        return json.dumps(self.status(), indent=2) + self.namespace.describe()


GROUPS = {"gitrepository": "source.toolkit.fluxcd.io", "kustomization": "kustomize.toolkit.fluxcd.io"}


@pytest.fixture(scope="module")
def namespace() -> Iterator[Namespace]:
    with new_namespace("e2e-flux") as this:
        yield this


@pytest.fixture(scope="module")
def flux(namespace: Namespace, git: GitServer) -> Flux:
    """The server and Kustomization, before anything is applied."""
    put_pairs(namespace)
    return Flux(namespace, git.repository("flux"))


def objects(flux: Flux) -> list[dict[str, Any]]:
    """manifests/gitops/flux-manifests, changed at the lines marked `# change`."""
    source = yaml.safe_load((FLUX / "gitrepository.yaml").read_text())
    source["spec"]["url"] = flux.repository.url
    source["spec"]["ignore"] = f"/*\n!/{FOLDER}/\n"
    applied = yaml.safe_load((FLUX / "manifests.yaml").read_text())
    applied["spec"] |= {"path": f"./{FOLDER}", "targetNamespace": flux.namespace.name, "timeout": "15m"}
    for item in (source, applied):
        item["metadata"]["namespace"] = flux.namespace.name
    return [source, applied]


def uids(items: list[dict[str, Any]]) -> dict[str, str]:
    return {item["metadata"]["name"]: item["metadata"]["uid"] for item in items}


def test_a_second_apply_of_the_manifests_changes_nothing(flux: Flux) -> None:
    flux.render()
    where = ("apply", "--kustomize", str(flux.repository.folder / FOLDER), "--namespace", flux.namespace.name)
    assert " created" in run("kubectl", *where)
    again = run("kubectl", *where).splitlines()
    assert again
    assert [line for line in again if not line.endswith(" unchanged")] == []


def test_a_kustomization_waits_for_the_stage_and_is_ready_when_it_has_succeeded(flux: Flux) -> None:
    began = time.monotonic()
    revision = flux.repository.commit("the first one")
    for item in objects(flux):
        flux.namespace.kubectl("apply", "-f", "-", stdin=json.dumps(item))
    wait_for(lambda: bool(flux.status().get("inventory")), 120, "the manifests are applied", flux.told)
    if not succeeded(flux.job()):
        assert not flux.is_ready(revision), "ready before its stage has ended"
    flux.wait_until_ready(revision, "ready")
    assert succeeded(flux.job())
    PHASES.append(("Flux: commit -> the Kustomization is ready", time.monotonic() - began))


def test_a_second_reconciliation_changes_nothing(flux: Flux) -> None:
    before = flux.namespace.items("rayjobs,configmaps,networkpolicies,persistentvolumeclaims")
    revision = flux.commit("a harmless one")
    flux.wait_until_ready(revision, "ready again")
    after = flux.namespace.items("rayjobs,configmaps,networkpolicies,persistentvolumeclaims")
    assert uids(after) == uids(before)
    specs = {item["metadata"]["name"]: item.get("spec") for item in before}
    assert {item["metadata"]["name"]: item.get("spec") for item in after} == specs


def test_a_changed_recipe_runs_prunes_what_it_replaced_and_keeps_the_claims(flux: Flux) -> None:
    old, claims = flux.job()["metadata"]["name"], uids(flux.namespace.items("persistentvolumeclaims"))
    flux.render("recipe.inline.data.export.split_seed=7")
    revision = flux.commit("another split")
    flux.wait_until_ready(revision, "ready with another split")
    assert flux.job()["metadata"]["name"] != old, "not pruned"
    assert succeeded(flux.job())
    assert uids(flux.namespace.items("persistentvolumeclaims")) == claims


@pytest.mark.long
def test_a_stage_that_fails_makes_the_kustomization_fail(flux: Flux) -> None:
    flux.render("recipe.inline.data.configs.path=/mnt/data/no.jsonl")
    flux.commit("a path that is not there")
    wait_for(lambda: flux.condition()["reason"] == "HealthCheckFailed", 240, "not healthy", flux.told)
    assert state_of(flux.job()) == "Failed"
    assert flux.job()["metadata"]["name"] in flux.condition()["message"]


def test_what_is_left_of_a_deleted_kustomization_is_its_claims(flux: Flux) -> None:
    flux.namespace.kubectl("delete", "kustomization", RELEASE, "--timeout=120s")

    def left() -> list[str]:
        kinds = "rayjobs,rayclusters,pods,services,networkpolicies,configmaps,persistentvolumeclaims"
        found = flux.namespace.kubectl("get", kinds, "-o", "name").split()
        return sorted(name for name in found if name != "configmap/kube-root-ca.crt")

    gone: Callable[[], bool] = lambda: all(name.startswith("persistentvolumeclaim/") for name in left())  # noqa: E731
    wait_for(gone, 120, "all but the claims is gone", lambda: str(left()))
    assert left() == [f"persistentvolumeclaim/{name}" for name in ("pairs", f"{RELEASE}-cache", f"{RELEASE}-runs")]
