"""Chart.yaml says what the chart is: links, licence, image and CRDs, as Artifact Hub shows them."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from typing import Any

import pytest
import yaml

from tests.chart.rendering import at, objects
from tests.chart.renderings import CASES, rendering
from tests.chart.value_table import HEAD_RAY
from tests.paths import CHART, REPO

META = yaml.safe_load((CHART / "Chart.yaml").read_text())
RAW = "https://raw.githubusercontent.com/"


def annotation(name: str) -> Any:
    return yaml.safe_load(META["annotations"][f"artifacthub.io/{name}"])


def test_the_icon_is_a_file_of_the_repository() -> None:
    project = META["home"].removeprefix("https://github.com/")
    path = META["icon"].removeprefix(f"{RAW}{project}/main/")
    assert path != META["icon"]
    assert ElementTree.parse(REPO / path).getroot().tag == "{http://www.w3.org/2000/svg}svg"
    assert META["sources"] == [META["home"]]


def test_the_image_is_the_one_that_the_chart_runs() -> None:
    assert [image["image"] for image in annotation("images")] == [
        at(objects(rendering("default")), f"{HEAD_RAY} image")
    ]


def test_the_licence_is_the_package_s() -> None:
    assert f'license = "{annotation("license")}"' in (REPO / "pyproject.toml").read_text().splitlines()


def test_the_crds_are_those_of_ray_s_objects_that_the_chart_makes() -> None:
    made = {item["kind"]: item["apiVersion"] for case in CASES for item in objects(rendering(case))}
    assert {crd["kind"]: f"ray.io/{crd['version']}" for crd in annotation("crds")} == {
        kind: version for kind, version in made.items() if version.startswith("ray.io/")
    }
    for crd in annotation("crds"):
        assert crd["name"] == f"{crd['kind'].lower()}s.ray.io"


@pytest.mark.parametrize("change", annotation("changes"), ids=lambda change: change["description"])
def test_a_change_is_of_a_kind_that_artifact_hub_knows(change: dict[str, str]) -> None:
    assert change["kind"] in ("added", "changed", "deprecated", "removed", "fixed", "security")
    assert change["description"]
