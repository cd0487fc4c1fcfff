"""Argo CD's and Flux's objects on a real API server, with their CRDs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from tests.chart.crd_schemas import schema_file
from tests.chart.gitops_health import load
from tests.e2e.kube import Namespace, new_namespace, run, wait_for

CRDS = {
    "applications.argoproj.io": "argocd-application-crd.yaml",
    "helmreleases.helm.toolkit.fluxcd.io": "flux-helmrelease-crd.yaml",
}


def is_established(crd: str) -> bool:
    found = json.loads(run("kubectl", "get", "crd", crd, "--output", "json")).get("status", {}).get("conditions") or []
    return any(condition["type"] == "Established" and condition["status"] == "True" for condition in found)


@pytest.fixture(scope="module")
def gitops() -> Iterator[Namespace]:
    """A namespace on a cluster with the CRDs; those that were installed here are deleted afterwards."""
    files = {name: schema_file(file) for name, file in CRDS.items()}
    there = run("kubectl", "get", "crds", "--output", "name")
    made = [name for name in CRDS if f"/{name}" not in there]
    for name in made:
        run("kubectl", "apply", "--server-side", "--filename", str(files[name]))
    try:
        # A new definition has no conditions yet, and `kubectl wait` fails on that.
        wait_for(lambda: all(is_established(name) for name in CRDS), 60, "the CRDs are established", lambda: there)
        with new_namespace("e2e-gitops") as namespace:
            yield namespace
    finally:
        for name in made:
            run("kubectl", "delete", "crd", name, "--ignore-not-found")


def apply(namespace: Namespace, manifest: dict[str, Any], *options: str, code: int = 0) -> str:
    manifest["metadata"]["namespace"] = namespace.name
    arguments = ("apply", "--server-side", "--validate=strict", *options, "--filename", "-")
    return namespace.kubectl(*arguments, stdin=yaml.safe_dump(manifest), code=code, errors=True)


@pytest.mark.parametrize("name", ["argocd/application.yaml", "flux/helmrelease.yaml"])
def test_the_api_server_takes_the_object_and_refuses_a_misspelt_key(gitops: Namespace, name: str) -> None:
    manifest = load(name)
    assert "serverside-applied (server dry run)" in apply(gitops, manifest, "--dry-run=server")
    manifest["spec"]["intervall"] = "10m"
    assert ".spec.intervall: field not declared in schema" in apply(gitops, manifest, "--dry-run=server", code=1)


def test_the_health_checks_join_what_argocd_cm_has(gitops: Namespace) -> None:
    gitops.kubectl("create", "configmap", "argocd-cm", "--from-literal=url=https://argocd.example.com")
    apply(gitops, load("argocd/health.yaml"))
    data = json.loads(gitops.kubectl("get", "configmap", "argocd-cm", "--output", "json"))["data"]
    assert data == {"url": "https://argocd.example.com", **load("argocd/health.yaml")["data"]}
