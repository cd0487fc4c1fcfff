"""`make sbom`: what it writes is CycloneDX, and names every package of the lock, and nothing else."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

import pairwise_rm
from release import ReleaseError, sbom
from release.audit import pins


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, object]]:
    """The documents, by the lock's name."""
    pytest.importorskip("cyclonedx_py")
    files = sbom.write(tmp_path_factory.mktemp("sbom"))
    return {file.name.split("-")[-1].partition(".")[0]: json.loads(file.read_text()) for file in files}


@pytest.mark.parametrize("lock", sbom.LOCKS)
def test_a_lock_s_packages_are_all_in_it_and_nothing_else(written: dict[str, dict[str, object]], lock: str) -> None:
    assert sbom.named(written[lock]) == set(pins(locks=sbom.LOCKS[lock]))
    assert {"torch", "ray", "verl"} <= {pin.name for pin in sbom.named(written[lock])}


def test_it_says_what_it_is_of(written: dict[str, dict[str, object]]) -> None:
    for document in written.values():
        assert (document["bomFormat"], document["specVersion"]) == ("CycloneDX", "1.6")
        component = document["metadata"]["component"]  # type: ignore[index]
        assert (component["name"], component["version"]) == ("pairwise-rm", pairwise_rm.__version__)


def test_one_that_lacks_a_package_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sbom, "_made", lambda wanted: {"components": [{"name": "torch", "version": "1"}]})
    with pytest.raises(ReleaseError, match="lacks absl-py, accelerate"):
        sbom.write(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_tool_that_fails_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(ReleaseError, match="cyclonedx-py: exit 1"):
        sbom.write(tmp_path)
    assert list(tmp_path.iterdir()) == []
