"""A real API server accepts every preset and manifest: fields, defaults, the CRDs' own rules, pod security."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.kube import Namespace, new_namespace, run, tool
from tests.paths import CHART, REPO

PRESETS = [None, *sorted(CHART.glob("values-*.yaml"))]
MANIFESTS = sorted((REPO / "manifests").glob("*.yaml"))
TAKEN = {"serverside-applied (server dry run)"}
KUSTOMIZED = ["base", "overlays/kind", "overlays/a100"]


@pytest.fixture(scope="module")
def empty() -> Iterator[Namespace]:
    with new_namespace("e2e-dry-run") as namespace:
        # A pod is not admitted before its service account exists.
        namespace.kubectl("create", "serviceaccount", "judge")
        yield namespace


def said_of_each(namespace: Namespace, *what: str, stdin: str | None = None) -> set[str]:
    """The API server's messages about the objects, without their names."""
    options = ("--server-side", "--dry-run=server", "--validate=strict")
    return {line.partition(" ")[2] for line in namespace.kubectl("apply", *options, *what, stdin=stdin).splitlines()}


@pytest.mark.parametrize("file", PRESETS, ids=lambda file: file.stem if file else "default")
def test_the_api_server_takes_what_a_preset_renders(empty: Namespace, file: object) -> None:
    values = [f"--values={file}"] if file else []
    rendered = run(tool("helm"), "template", "judge", str(CHART), "--namespace", empty.name, *values)
    assert said_of_each(empty, "--filename=-", stdin=rendered) == TAKEN


@pytest.mark.parametrize("file", MANIFESTS, ids=lambda file: file.name)
def test_the_api_server_takes_a_manifest(empty: Namespace, file: object) -> None:
    assert said_of_each(empty, f"--filename={file}") == TAKEN


@pytest.mark.parametrize("folder", KUSTOMIZED)
def test_the_api_server_takes_what_kustomize_builds(empty: Namespace, folder: str) -> None:
    assert said_of_each(empty, f"--kustomize={REPO / 'manifests' / folder}") == TAKEN
