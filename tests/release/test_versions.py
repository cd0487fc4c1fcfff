"""One version: the package has it, and every file that names it says the same."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import pairwise_rm
from release import ROOT, ReleaseError, versions

CHART = ROOT / "charts" / "pairwise-rm"


def test_every_file_that_names_the_version_names_the_packages() -> None:
    found = versions.check(pairwise_rm.__version__)
    files = {mention.file for mention in found}
    assert {versions.HOME, "charts/pairwise-rm/Chart.yaml", "images/Dockerfile", "images/README.md"} <= files
    assert {"manifests/base/pairwise-rm.yaml", "manifests/raycluster.yaml"} <= files


def test_pyproject_takes_the_version_from_the_package() -> None:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert 'dynamic = ["version"]' in text
    assert f'[tool.hatch.version]\npath = "{versions.HOME}"\n' in text


def test_the_chart_says_its_version_twice_and_its_image_takes_it_from_there() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text(encoding="utf-8"))
    assert (chart["version"], chart["appVersion"]) == (pairwise_rm.__version__,) * 2
    image = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))["image"]
    assert (image["tag"], image["digest"]) == ("", "")


@pytest.mark.parametrize("file", sorted((ROOT / "manifests" / "gitops").glob("*/*.yaml")), ids=lambda file: file.name)
def test_a_gitops_example_follows_main_or_the_packages_version(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    revisions = re.findall(r"targetRevision: (\S+)|ref: \{(?:branch|tag): (\S+?)\}", text)
    assert {one or other for one, other in revisions} <= {"main", f"v{pairwise_rm.__version__}"}


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("pairwise_rm/__init__.py", '__version__ = "{}"'),
        ("charts/pairwise-rm/Chart.yaml", "version: {}"),
        ("charts/pairwise-rm/Chart.yaml", 'appVersion: "{}"'),
        ("charts/pairwise-rm/Chart.yaml", "      image: ghcr.io/pairwise-rm/pairwise-rm:{}"),
        ("images/Dockerfile", "ARG VERSION={}"),
        ("manifests/raycluster.yaml", "    app.kubernetes.io/version: {}"),
        ("manifests/raycluster.yaml", "  image: ghcr.io/pairwise-rm/pairwise-rm:{}"),
        ("manifests/gitops/argocd/application.yaml", "    targetRevision: v{} # change: a tag"),
        ("manifests/gitops/flux/gitrepository.yaml", "  ref: {{tag: v{}}}"),
        ("docs/x.md", "helm install judge oci://ghcr.io/pairwise-rm/charts/pairwise-rm --version {} --values x"),
        ("docs/x.md", "make image-gpu IMAGE=registry.example.com/pairwise-rm:{}-cpu"),
        ("docs/x.md", "make release-check VERSION={}"),
        ("docs/x.md", "--set image.tag={}"),
        ("docs/x.md", "release.yaml@refs/tags/v{}"),
        ("docs/x.md", "helm push dist/pairwise-rm-{}.tgz"),
    ],
)
def test_a_place_that_names_the_version_is_seen(file: str, text: str) -> None:
    assert [mention.version for mention in versions.mentions_in(file, text.format("3.2.1"))] == ["3.2.1"]


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("docs/x.md", "helm install kuberay-operator --version 1.6.1"),
        ("docs/x.md", "verl 0.9.1, torch 2.11.0"),
        ("charts/pairwise-rm/values.yaml", 'rayVersion: "2.56.0"'),
        ("manifests/kueue/clusterqueue.yaml", "  tag: 1.2.3"),
    ],
)
def test_the_version_of_something_else_is_not_taken_for_ours(file: str, text: str) -> None:
    assert versions.mentions_in(file, text) == []


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """The smallest repository that names a version, twice."""
    subprocess.run(["git", "init", "--quiet", str(tmp_path)], check=True)
    for name, text in {
        versions.HOME: '__version__ = "0.1.0"\n',
        "docs/x.md": "pairwise-rm:0.1.0 and KubeRay 1.6.0\npairwise-rm:0.1.0-cpu\n",
        "CHANGELOG.md": "make bump VERSION=0.0.1\n",
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    return tmp_path


def test_a_place_that_lags_behind_is_told_with_its_line(clone: Path) -> None:
    (clone / versions.HOME).write_text('__version__ = "0.2.0"\n', encoding="utf-8")
    assert versions.version_of_package(clone) == "0.2.0"
    with pytest.raises(ReleaseError) as told:
        versions.check("0.2.0", clone)
    places = "docs/x.md:1: 0.1.0, docs/x.md:2: 0.1.0"
    assert str(told.value) == f"not 0.2.0: {places}; `make bump VERSION=0.2.0` sets it"


def test_bump_writes_every_place_and_leaves_other_versions(clone: Path) -> None:
    assert versions.bump("0.10.0", clone) == ["docs/x.md", versions.HOME]
    assert len(versions.check("0.10.0", clone)) == 3
    assert (clone / "docs" / "x.md").read_text() == "pairwise-rm:0.10.0 and KubeRay 1.6.0\npairwise-rm:0.10.0-cpu\n"
    assert (clone / "CHANGELOG.md").read_text() == "make bump VERSION=0.0.1\n"


@pytest.mark.parametrize("version", ["v0.2.0", "0.2", "0.2.0-rc.1", ""])
def test_what_package_and_chart_would_not_both_take_is_refused(version: str, clone: Path) -> None:
    with pytest.raises(ReleaseError, match=r"X\.Y\.Z is needed"):
        versions.check(version, clone)
    with pytest.raises(ReleaseError, match=r"X\.Y\.Z is needed"):
        versions.bump(version, clone)


def test_the_check_ends_at_the_first_fault_with_one_line_and_exit_code_1() -> None:
    command = [sys.executable, "-m", "release.check", "9.9.9"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert done.stderr.startswith("error: version: not 9.9.9: ")
