"""The published chart: its version, and the image's digest in its values."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
import yaml

from release import ROOT, ReleaseError, check, registry
from release.chart import CHART, helm, package, with_image

DIGEST = "sha256:" + "0123456789abcdef" * 4
IMAGE = f"registry.example.com:5000/team/judges:1.2.3@{DIGEST}"
VALUES = (CHART / "values.yaml").read_text(encoding="utf-8")


def test_the_image_is_written_into_the_values_and_nothing_else_changes() -> None:
    before, after = yaml.safe_load(VALUES), yaml.safe_load(with_image(VALUES, IMAGE))
    changed = {"repository": "registry.example.com:5000/team/judges", "tag": f"1.2.3@{DIGEST}"}
    assert after == {**before, "image": {**before["image"], **changed}}
    assert with_image(VALUES, IMAGE).count("\n") == VALUES.count("\n")


@pytest.mark.parametrize(
    "image", ["", "judges", "team/judges:1.2.3", f"team/judges@{DIGEST}", f"team/judges:1@{DIGEST}0"]
)
def test_an_image_without_its_tag_and_digest_is_refused(image: str) -> None:
    with pytest.raises(ReleaseError, match=r"REPOSITORY:TAG@sha256:… is needed"):
        with_image(VALUES, image)


def test_the_package_renders_with_the_image_by_digest_until_ones_own_is_set(tmp_path: Path) -> None:
    chart = package("1.2.3", tmp_path, IMAGE)
    assert chart.name == "pairwise-rm-1.2.3.tgz"
    rendering = helm("template", "judge", str(chart))
    assert check.images_of(rendering) == [IMAGE]
    assert set(re.findall(r"app\.kubernetes\.io/version: \"?([^\s\"]+)", rendering)) == {"1.2.3"}
    kind = helm("template", "judge", str(chart), f"--values={CHART / 'values-kind.yaml'}")
    assert check.images_of(kind) == ["localhost/pairwise-rm:test"]


def test_packaging_leaves_the_tree_as_it_is(tmp_path: Path) -> None:
    package("1.2.3", tmp_path, IMAGE)
    assert (CHART / "values.yaml").read_text(encoding="utf-8") == VALUES


def test_the_default_image_is_the_one_that_the_workflow_builds_for_this_repository() -> None:
    [url] = re.findall(
        r'^Repository = "https://github\.com/(.+)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE
    )
    assert yaml.safe_load(VALUES)["image"]["repository"] == f"ghcr.io/{url}"
    workflow = (ROOT / ".github" / "workflows" / "release.yaml").read_text(encoding="utf-8")
    assert 'echo "image=ghcr.io/${GITHUB_REPOSITORY,,}"' in workflow
    # The tag of the gpu image is the version itself, as the chart's default is.
    jobs = yaml.safe_load(workflow)["jobs"]
    assert {"target": "gpu", "suffix": ""} in jobs["image"]["strategy"]["matrix"]["include"]
    assert jobs["image"]["env"]["TAG"] == "${{ needs.check.outputs.version }}${{ matrix.suffix }}"


@pytest.mark.skipif(not (registry.is_here() and shutil.which("buildah")), reason="no docker-registry, no buildah")
def test_a_chart_from_a_registry_names_the_digest_of_the_image_that_was_pushed_there(tmp_path: Path) -> None:
    assert "which names this digest" in check.pushed("1.2.3", tmp_path)


def test_a_step_whose_tool_is_not_here_is_told_as_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "is_here", lambda: False)
    with pytest.raises(check.NotRun, match="docker-registry is not installed"):
        check.pushed("1.2.3", tmp_path)


def test_what_did_not_run_is_counted_in_the_last_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def not_run(version: str, work: Path) -> str:
        raise check.NotRun("no such tool")

    monkeypatch.setattr(check, "STEPS", {"one": lambda version, work: "done", "two": not_run})
    assert check.check("1.2.3") == 0
    assert capsys.readouterr().out.splitlines()[-1] == "1.2.3 can be released; 1 of 2 steps did not run here"
