"""A real API server takes every preset and every manifest: fields, defaults, the CRDs' own rules, pod security."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from kube import CHART, REPO, Namespace, run, tool

PRESETS = [None, *sorted(CHART.glob("values-*.yaml"))]
MANIFESTS = sorted((REPO / "manifests").glob("*.yaml"))
KUSTOMIZED = ["base", "overlays/kind", "overlays/a100"]


@pytest.fixture(scope="module")
def empty() -> Iterator[Namespace]:
    namespace = Namespace("pairwise-rm-e2e-dry-run")
    namespace.delete()
    namespace.create()
    # A pod is not even tried before its service account is there.
    namespace.kubectl("create", "serviceaccount", "judge")
    yield namespace
    namespace.delete()


def taken(namespace: Namespace, *what: str, stdin: str | None = None) -> None:
    options = ("--server-side", "--dry-run=server", "--validate=strict")
    said = namespace.kubectl("apply", *options, *what, stdin=stdin).splitlines()
    assert said
    assert all(line.endswith("serverside-applied (server dry run)") for line in said), said


@pytest.mark.parametrize("file", PRESETS, ids=lambda file: file.stem if file else "default")
def test_the_api_server_takes_what_a_preset_renders(empty: Namespace, file: object) -> None:
    values = [f"--values={file}"] if file else []
    rendered = run(tool("helm"), "template", "judge", str(CHART), "--namespace", empty.name, *values)
    taken(empty, "--filename=-", stdin=rendered)


@pytest.mark.parametrize("file", MANIFESTS, ids=lambda file: file.name)
def test_the_api_server_takes_a_manifest(empty: Namespace, file: object) -> None:
    taken(empty, f"--filename={file}")


@pytest.mark.parametrize("folder", KUSTOMIZED)
def test_the_api_server_takes_what_kustomize_builds(empty: Namespace, folder: str) -> None:
    taken(empty, f"--kustomize={REPO / 'manifests' / folder}")
