"""The card of an export that is there already, when its judge is evaluated again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pairwise_rm.export.run import refresh_card
from tests.unit.conftest import MakeRecipe


@pytest.fixture
def exported(tmp_path: Path) -> Path:
    folder = tmp_path / "run" / "export"
    folder.mkdir(parents=True)
    merge = {"checkpoint": "c", "step": 20, "dtype": "float32", "sealed": 1}
    record = {"merge": merge, "parameters": 7, "export": {"dtype": "bfloat16", "license": "apache-2.0"}}
    (folder / "merged.json").write_text(json.dumps(record))
    (folder / "README.md").write_text("an older card")
    return folder


def evaluated(tmp_path: Path, accuracy: float) -> None:
    folder = tmp_path / "run" / "evaluation" / "after"
    folder.mkdir(parents=True)
    (folder / "metrics.json").write_text(
        json.dumps({"pairs": 3, "accuracy": {"value": accuracy, "low": 0.5, "high": 1.0, "n": 6}})
    )


def test_a_new_evaluation_gives_the_card_its_numbers(make_recipe: MakeRecipe, exported: Path, tmp_path: Path) -> None:
    evaluated(tmp_path, 0.9375)
    assert refresh_card(make_recipe()) == exported / "README.md"
    assert "| accuracy, both orders | - | 0.938 [0.500, 1.000] |" in (exported / "README.md").read_text()


def test_the_card_keeps_what_was_exported_whatever_the_recipe_at_hand_says(
    make_recipe: MakeRecipe, exported: Path, tmp_path: Path
) -> None:
    evaluated(tmp_path, 0.5)
    refresh_card(make_recipe(export={"license": None}))
    card = (exported / "README.md").read_text()
    assert "license: apache-2.0" in card
    assert "7 parameters, bfloat16" in card
    assert "20 steps" in card


def test_without_an_export_there_is_no_card_to_write(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    evaluated(tmp_path, 0.5)
    assert refresh_card(make_recipe()) is None
    assert not (tmp_path / "run" / "export").exists()
