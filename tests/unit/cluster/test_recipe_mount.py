"""The recipe's ConfigMap in a pod that runs already."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from pairwise_rm.cluster.recipe_mount import await_recipe
from pairwise_rm.errors import InputError, StageError
from pairwise_rm.recipe.load import digest_of
from tests.unit.cluster.stage_states import tell


def test_a_recipe_that_is_mounted_already_is_taken_at_once(tmp_path: Path) -> None:
    (tmp_path / "train.yaml").write_text("name: t\n")
    said: list[str] = []
    await_recipe(tmp_path / "train.yaml", digest_of(b"name: t\n"), tell(said))
    assert said == []


def test_a_recipe_that_comes_later_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pairwise_rm.cluster.recipe_mount._POLL_SECONDS", 0.01)
    path = tmp_path / "train.yaml"
    path.write_text("old")
    threading.Timer(0.1, path.write_text, ["new"]).start()
    said: list[str] = []
    await_recipe(path, digest_of(b"new"), tell(said))
    assert said == ["waiting for the recipe's ConfigMap to reach this pod, up to two minutes (0:00:00)"]


def test_a_recipe_that_a_later_release_replaced_ends_the_job(tmp_path: Path) -> None:
    (tmp_path / "train.yaml").write_text("newer")
    with pytest.raises(StageError, match="a later release has replaced the recipe"):
        await_recipe(tmp_path / "train.yaml", "0123456789ab", lambda text: None, timeout=0)


def test_a_config_map_that_is_not_mounted_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="the recipe's ConfigMap is not mounted"):
        await_recipe(tmp_path / "no" / "train.yaml", "0123456789ab", lambda event: pytest.fail(str(event)))
