"""The generated pages are what the sources give."""

from __future__ import annotations

from pathlib import Path

import pytest

from docs.generate import main, pages, recipe_page
from pairwise_rm.recipe.load import flatten
from pairwise_rm.recipe.model import Recipe


@pytest.mark.parametrize("path", pages(), ids=lambda path: path.name)
def test_a_generated_page_is_what_the_sources_give(path: Path) -> None:
    assert path.read_text(encoding="utf-8") == pages()[path], "run `make docs`"


def test_the_check_says_which_page_lags_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "recipe.md"
    page.write_text("old")
    monkeypatch.setattr("docs.generate.pages", lambda: {page: "new"})
    assert main(check=True) == 1
    assert "recipe.md: differs from the sources" in capsys.readouterr().out
    assert main(check=False) == 0
    assert page.read_text() == "new"
    assert main(check=True) == 0


def test_the_recipe_reference_has_every_key_with_its_default() -> None:
    text = recipe_page()
    for key in flatten(Recipe.model_validate({"name": "x", "model": {"path": "x"}}).model_dump(mode="json")):
        name = key.rpartition(".")[2]
        assert f"| `{name}` |" in text or f"| [`{name}`](#" in text, key
    assert "| `learning_rate` | number, > 0 | `1e-06` | AdamW's learning rate, constant after the warm-up. |" in text
    assert "| `name` | text, at most 40 characters, like `^[a-z]([a-z0-9-]*[a-z0-9])?$` | required |" in text
    assert "## `train.kl_loss`" in text
