"""The GPUs that a stage asks for, and its upload to a store."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pairwise_rm.cluster.gpu_request import Demand, demand_of
from pairwise_rm.cluster.upload import check_target, upload
from pairwise_rm.errors import InputError, StageError
from pairwise_rm.recipe.load import load_recipe


@pytest.mark.parametrize(
    ("stage", "demand"),
    [("convert", None), ("train", Demand(2, 8)), ("evaluate", Demand(4, 4)), ("export", None)],
)
def test_each_stage_asks_for_the_gpus_of_the_recipe(stage: str, demand: Demand | None) -> None:
    assert demand_of(stage, load_recipe("qwen3-32b-2x8x80g")) == demand


def test_an_upload_is_complete_when_its_manifest_is_there(tmp_path: Path) -> None:
    folder = tmp_path / "export"
    (folder / "deep").mkdir(parents=True)
    (folder / "deep" / "a.txt").write_text("abc")
    assert upload(folder, f"file://{tmp_path}/store") == f"file://{tmp_path}/store/export"
    assert (tmp_path / "store" / "export" / "deep" / "a.txt").read_text() == "abc"
    manifest = json.loads((tmp_path / "store" / "export" / "manifest.json").read_text())
    assert manifest == {"files": {"deep/a.txt": 3}}


@pytest.mark.parametrize("uri", ["bucket/path", "nosuch://bucket"])
def test_a_target_that_is_no_store_is_told_before_anything_runs(uri: str) -> None:
    with pytest.raises(InputError, match=r"storage\.upload: "):
        check_target(uri)


def test_a_store_that_refuses_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "export").mkdir()
    (tmp_path / "export" / "a").write_text("x")
    (tmp_path / "store").write_text("a file stands in the way")
    with pytest.raises(StageError, match=r"storage\.upload: file://.*Error"):
        upload(tmp_path / "export", f"file://{tmp_path}/store")
