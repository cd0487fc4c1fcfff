"""Lengths come from the data where they are there, and are said to be assumed where they are not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pairwise_rm.errors import InputError
from pairwise_rm.plan.lengths import lengths_of
from pairwise_rm.recipe.load import load_recipe
from tests.unit.conftest import MakeRecipe, MakeRows, WriteRows


def test_a_file_is_estimated_where_the_tokenizer_is_not_there(
    make_recipe: MakeRecipe, make_rows: MakeRows, write_rows: WriteRows, tmp_path: Path
) -> None:
    file = write_rows(tmp_path / "pairs.parquet", make_rows(3))
    found = lengths_of(make_recipe(), file)
    assert found.estimated
    assert found.rows == 6
    assert "4 characters a token, since the model's tokenizer is not on this machine" in found.prompt_source
    assert 0 < found.prompt <= found.longest < 4096


def test_the_models_own_tokenizer_counts_where_it_is_there(
    make_recipe: MakeRecipe, make_rows: MakeRows, write_rows: WriteRows, tmp_path: Path, tokenizer: Any
) -> None:
    tokenizer.save_pretrained(tmp_path / "model")
    file = write_rows(tmp_path / "pairs.parquet", make_rows(3))
    found = lengths_of(make_recipe(), file)
    assert not found.estimated
    assert "counted by the model's tokenizer in 6 of 6 rows of pairs.parquet" in found.prompt_source
    assert found.longest == found.prompts[-1]


def test_a_hub_models_tokenizer_is_not_downloaded_for_it(
    make_rows: MakeRows, write_rows: WriteRows, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pairwise_rm.plan.lengths.load_tokenizer", lambda *_, **__: pytest.fail("downloads"))
    file = write_rows(tmp_path / "pairs.parquet", make_rows(1))
    assert lengths_of(load_recipe("qwen3-8b-8x40g"), file).estimated


def test_pairs_that_are_dropped_for_their_length_do_not_count(
    make_recipe: MakeRecipe, make_rows: MakeRows, write_rows: WriteRows, tmp_path: Path
) -> None:
    long = [{**row, "responses": ["word " * 4000, "short"]} for row in make_rows(1)]
    file = write_rows(tmp_path / "pairs.parquet", [*make_rows(3), *long])
    prompt = {"max_prompt_length": 1000}
    assert lengths_of(make_recipe(prompt={**prompt, "overlong": "drop"}), file).rows == 6
    cut = lengths_of(make_recipe(prompt={**prompt, "overlong": "cut"}), file)
    assert (cut.rows, cut.longest) == (8, 1000)


def test_the_recipes_own_pairs_count_once_they_are_converted(
    make_recipe: MakeRecipe, make_rows: MakeRows, write_rows: WriteRows, tmp_path: Path
) -> None:
    recipe = make_recipe()
    assert lengths_of(recipe).rows is None
    write_rows(tmp_path / "run" / "data" / "preference_train.parquet", make_rows(2))
    assert lengths_of(recipe).rows == 4


def test_a_histogram_has_every_prompt_once(
    make_recipe: MakeRecipe, make_rows: MakeRows, write_rows: WriteRows, tmp_path: Path
) -> None:
    found = lengths_of(make_recipe(), write_rows(tmp_path / "pairs.parquet", make_rows(5)))
    assert sum(count for _, _, count in found.histogram()) == len(found.prompts) == 10


def test_helpsteer2_is_assumed_by_its_mean_and_without_data_a_limit_is() -> None:
    helpsteer2 = lengths_of(load_recipe("qwen3-8b-8x40g"))
    assert helpsteer2.rows == 17_354
    assert 900 < helpsteer2.prompt < 1400
    assert helpsteer2.longest == 4096
    smoke = lengths_of(load_recipe("smoke", ["output_dir=does-not-exist"]))
    assert (smoke.prompt, smoke.rows) == (64, None)
    assert smoke.prompt_source.startswith("assumed:")


def test_a_response_is_as_long_as_given_or_as_in_the_last_steps_or_half_of_the_limit(
    make_recipe: MakeRecipe, tmp_path: Path
) -> None:
    recipe = make_recipe()
    assert lengths_of(recipe, response=300).response == 300
    assert lengths_of(recipe, response=9000).response == 2048
    assert lengths_of(recipe).response == 1024
    metrics = tmp_path / "run" / "train" / "metrics.jsonl"
    metrics.parent.mkdir(parents=True)
    lines = [json.dumps({"response_length/mean": length}) for length in (100, 200)]
    metrics.write_text("\n".join([*lines, '{"response_length/mean": 3']), encoding="utf-8")
    found = lengths_of(recipe)
    assert (found.response, found.response_source) == (150, "mean of the last 2 steps of this run")


def test_a_file_none_of_whose_rows_can_be_read_is_an_error(
    make_recipe: MakeRecipe, make_rows: MakeRows, write_rows: WriteRows, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=r"pairs\.parquet: no usable row"):
        lengths_of(make_recipe(), write_rows(tmp_path / "pairs.parquet", make_rows(1, preferred="C")))


def test_a_file_none_of_whose_prompts_fits_is_an_error(
    make_recipe: MakeRecipe, make_rows: MakeRows, write_rows: WriteRows, tmp_path: Path
) -> None:
    recipe = make_recipe(prompt={"max_prompt_length": 16, "overlong": "drop"})
    with pytest.raises(InputError, match=r"prompt\.max_prompt_length: none of the rows fits into 16 tokens"):
        lengths_of(recipe, write_rows(tmp_path / "pairs.parquet", make_rows(1)))
