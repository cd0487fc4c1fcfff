"""The gate of the image build, and what the build takes in."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import pairwise_rm
from tests.paths import REPO

DOCKERFILE = (REPO / "images" / "Dockerfile").read_text(encoding="utf-8")
PYDANTIC = importlib.metadata.version("pydantic")


@pytest.fixture(scope="module")
def gate() -> ModuleType:
    spec = importlib.util.spec_from_file_location("verify", REPO / "images" / "verify.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    "wanted",
    [
        f"pydantic=={PYDANTIC}",
        "no-such-package==1 ; sys_platform == 'never'",
    ],
)
def test_what_is_as_the_lock_says_passes(gate: ModuleType, wanted: str) -> None:
    assert gate.faults([wanted], set()) == []


@pytest.mark.parametrize(
    ("wanted", "told"),
    [
        ("pydantic==0.1", f"pydantic: {PYDANTIC}, wanted ==0.1"),
        ("no-such-package==1", "no-such-package: absent, wanted ==1"),
    ],
)
def test_what_is_not_is_told_with_both_versions(gate: ModuleType, wanted: str, told: str) -> None:
    assert gate.faults([wanted], set()) == [told]


def test_a_build_for_some_cuda_is_the_version_that_it_is_a_build_of(
    gate: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gate, "version", lambda name: "2.11.0+cu130")
    assert gate.faults(["torch==2.11.0"], set()) == []


def test_what_torch_brings_is_left_to_it(gate: ModuleType) -> None:
    assert gate.faults(["pydantic==0.1"], {"pydantic"}) == []


@pytest.mark.parametrize(
    ("named", "told"),
    [
        ({"pydantic": PYDANTIC}, []),
        ({"pydantic": "0.1"}, [f"pydantic: {PYDANTIC}, in the SBOM 0.1"]),
        ({}, [f"pydantic: {PYDANTIC}, in the SBOM absent"]),
    ],
)
def test_the_bill_of_materials_names_what_the_image_has(
    gate: ModuleType, tmp_path: Path, named: dict[str, str], told: list[str]
) -> None:
    components = [{"name": name.title(), "version": version} for name, version in named.items()]
    (tmp_path / "sbom.json").write_text(json.dumps({"components": components}))
    assert gate.faults([f"pydantic=={PYDANTIC}"], set(), gate.named_by(tmp_path / "sbom.json")) == told


def test_the_package_unregistered_as_a_plugin_is_told(gate: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate, "PLUGIN", "another")
    assert "another is not registered" in gate.faults([], set())[0]


def test_the_gate_takes_its_arguments_as_the_dockerfile_gives_them(tmp_path: Path) -> None:
    (tmp_path / "lock.txt").write_text(f"pydantic=={PYDANTIC}\nno-such-library==1\n")
    (tmp_path / "family.txt").write_text("torch\nno-such-library\n")
    command = [
        sys.executable,
        "images/verify.py",
        str(tmp_path / "lock.txt"),
        "--left-to-torch",
        str(tmp_path / "family.txt"),
    ]
    assert subprocess.run([*command, f"pydantic=={PYDANTIC}"], cwd=REPO, check=False).returncode == 0
    refused = subprocess.run([*command, "flash-attn==0.1"], cwd=REPO, check=False, capture_output=True, text=True)
    assert refused.returncode == 1
    assert "flash-attn: absent, wanted ==0.1" in refused.stderr


def test_the_images_version_is_the_packages() -> None:
    assert set(re.findall(r"^ARG VERSION=(.+)$", DOCKERFILE, re.MULTILINE)) == {pairwise_rm.__version__}


def test_the_flash_attn_wanted_of_the_base_is_the_one_that_verl_pins() -> None:
    [wanted] = re.findall(r"FLASH_ATTN=(\S+)", (REPO / "images" / "README.md").read_text(encoding="utf-8"))
    pins = [line for line in importlib.metadata.requires("verl") or () if line.startswith("flash-attn==")]
    assert [line.partition(";")[0].strip() for line in pins] == [f"flash-attn=={wanted}"]


def test_nothing_of_a_third_party_and_no_flash_attn_is_wanted_by_default() -> None:
    bases = re.findall(r"^FROM \$\{BASE_IMAGE:-(.+?)\}", DOCKERFILE, re.MULTILINE)
    assert len(bases) == 2
    assert [base for base in bases if not re.fullmatch(r"docker\.io/library/python:3\.\d+-slim-\w+", base)] == []
    assert re.findall(r"^ARG FLASH_ATTN=(.*)$", DOCKERFILE, re.MULTILINE) == [""]


@pytest.mark.parametrize("package", ["gcc", "g++", "build-essential", "python3-dev"])
def test_no_compiler_is_installed_but_the_one_that_triton_and_flashinfer_call(package: str) -> None:
    cpu, gpu = DOCKERFILE.split("\n# ---- gpu -")
    pattern = rf"install [^&]*(?<!\S){re.escape(package)}(?=[\s;&])"
    assert not re.search(pattern, cpu)
    assert bool(re.search(pattern, gpu)) == (package == "g++")


def test_the_build_sees_what_is_named_and_nothing_else() -> None:
    first, *rules = (REPO / ".dockerignore").read_text(encoding="utf-8").splitlines()[1:]
    assert first == "*"
    copied = {
        path for names in re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE, re.MULTILINE) for path in names.split()
    }
    assert copied
    for path in copied:
        assert (REPO / path).exists(), path
        assert any(Path(path).match(rule[1:]) for rule in rules if rule.startswith("!")), path
