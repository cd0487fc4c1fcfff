"""All that is rendered holds to the schemas of Kubernetes and of each CRD, which allow no further key; KubeRay's are
those of each version that is supported.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chart.kube_schemas import KUBERAY, checked
from tests.chart.rendering import text
from tests.chart.renderings import CASES, rendering
from tests.paths import REPO

MANIFESTS = REPO / "manifests"
VERSIONS = pytest.mark.parametrize("kuberay", KUBERAY)
MISTAKES = [
    ("numOfHosts: 1", "numberOfHosts: 1"),
    ("upscalingMode: Default", "upscalingMode: Eager"),
    ("readOnlyRootFilesystem: true", "readonlyRootFilesystem: true"),
    ("minAvailable: 1", "minAvailable: [1]"),
    ("policyTypes: [Ingress, Egress]", "policyType: [Ingress, Egress]"),
    ("name: judge-cache\n  namespace", "name: judge-cache\n  namespaces"),
]


@VERSIONS
def test_every_rendering_holds_to_the_schemas(tmp_path: Path, kuberay: str) -> None:
    for number, case in enumerate(CASES):
        (tmp_path / f"{number:02} {case.replace('/', ' ')}.yaml").write_text(rendering(case))
    wrong, counted = checked(tmp_path, kuberay)
    assert wrong == []
    assert counted["valid"] > 10 * len(CASES)
    assert (counted["invalid"], counted["errors"], counted["skipped"]) == (0, 0, 0)


@VERSIONS
def test_every_manifest_holds_to_the_schemas(tmp_path: Path, kuberay: str) -> None:
    for file in [*MANIFESTS.glob("*.yaml"), MANIFESTS / "base" / "pairwise-rm.yaml"]:
        (tmp_path / file.name).write_text(file.read_text())
    wrong, counted = checked(tmp_path, kuberay)
    assert wrong == []
    assert (counted["invalid"], counted["errors"], counted["skipped"]) == (0, 0, 0)


@VERSIONS
def test_a_misspelt_key_or_value_does_not(tmp_path: Path, kuberay: str) -> None:
    rendering = text((), {})
    for number, (right, mistaken) in enumerate(MISTAKES):
        assert right in rendering
        (tmp_path / f"{number}.yaml").write_text(rendering.replace(right, mistaken, 1))
    wrong, _ = checked(tmp_path, kuberay)
    assert [line.partition(".yaml")[0] for line in sorted(wrong)] == [str(number) for number in range(len(MISTAKES))]


@pytest.mark.parametrize(("kuberay", "wrong"), [("1.6", 1), ("1.7", 0)])
def test_a_key_that_came_with_1_7_is_held_to_the_version(tmp_path: Path, kuberay: str, wrong: int) -> None:
    rendering = text((), {})
    assert rendering.count("\n  headGroupSpec:\n") == 1
    newer = rendering.replace("\n  headGroupSpec:\n", "\n  tlsOptions: {enabled: true}\n  headGroupSpec:\n")
    (tmp_path / "newer.yaml").write_text(newer)
    assert len(checked(tmp_path, kuberay)[0]) == wrong
