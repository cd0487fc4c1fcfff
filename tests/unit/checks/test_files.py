from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pairwise_rm.checks.files import files_problems, made_with_the_model, source_file_problems
from pairwise_rm.recipe.model import DatasetConfig, Recipe

pytest.importorskip("pyarrow")

ROW = {"prompt": "?", "response_a": "a", "response_b": "b", "preferred": "A"}


def write(path: Path, *rows: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def said(path: object, export: dict[str, Any] | None = None, **configs: Any) -> list[str]:
    data = {"configs": {"source": "generic_pairwise", "path": path, **configs}, "export": export or {}}
    return [problem.text for problem in source_file_problems(DatasetConfig.model_validate(data), download=False)]


def test_rows_that_name_no_split_need_a_ratio_a_test_side_or_files_of_their_own(tmp_path: Path) -> None:
    bare = str(write(tmp_path / "bare.jsonl", ROW))
    [problem] = said(bare)
    assert problem.startswith(f"data.export.split: official, but the rows of {bare} name no split; give")
    assert said(bare, {"split_ratio": {"train": 0.9, "test": 0.1}}) == said(bare, {"split": "test"}) == []
    assert said(bare, test_path=str(write(tmp_path / "held-out.jsonl", ROW))) == []
    assert said(str(write(tmp_path / "named.jsonl", {**ROW, "split": "train"}))) == []


def test_the_first_sound_row_says_whether_the_rows_name_a_split(tmp_path: Path) -> None:
    path = write(tmp_path / "pairs.jsonl", {"prompt": "?"}, {**ROW, "split": "train"})
    assert said(str(path)) == []


def test_a_source_of_which_none_of_the_first_rows_is_a_pair_is_refused_with_the_first_reason(tmp_path: Path) -> None:
    path = write(tmp_path / "pairs.jsonl", {"prompt": "?"}, {"prompt": "!"})
    assert said(str(path)) == [
        f"data.configs: none of the first rows is a pair for generic_pairwise: {path}:1: "
        "responses: missing, expected one of response_1/response_2, response_a/response_b, chosen/rejected"
    ]
    mapped = {
        "prompt": "prompt",
        "response_a": "a",
        "response_b": "b",
        "preferred": {"from": "winner", "A": [1], "B": [2]},
    }
    [problem] = said(str(path), fields=mapped)
    assert problem.endswith(f"{path}:1: a: missing")


def test_a_mapped_source_is_read_under_its_own_names(tmp_path: Path) -> None:
    row = {"question": "?", "first": "a", "second": "b", "winner": "x", "fold": "train"}
    names = {"prompt": "question", "response_a": "first", "response_b": "second"}
    fields = {**names, "preferred": {"from": "winner", "A": ["x"], "B": ["y"]}}
    path = str(write(tmp_path / "pairs.jsonl", row))
    assert len(said(path, fields=fields)) == 1
    assert said(path, fields={**fields, "split": "fold"}) == []


@pytest.mark.parametrize("path", ["*.parquet", ["a.jsonl", "b.jsonl"], "folder"])
def test_files_that_are_not_there_are_absent_and_no_mistake_of_the_recipe(path: Any, tmp_path: Path) -> None:
    places = [str(tmp_path / one) for one in ([path] if isinstance(path, str) else path)]
    data = DatasetConfig.model_validate({"configs": {"path": places}})
    [problem] = source_file_problems(data, download=False)
    assert problem.absent


def test_pairs_in_the_folder_of_the_small_model_are_made_with_it(tmp_path: Path) -> None:
    model = {"make": "smoke", "path": str(tmp_path / "model")}
    for path, made in (
        (str(tmp_path / "model" / "pairs.jsonl"), True),
        ([str(tmp_path / "model" / "*.jsonl")], True),
        (str(tmp_path / "pairs.jsonl"), False),
        (None, False),
    ):
        recipe = Recipe.model_validate({"name": "t", "model": model, "data": {"configs": {"path": path}}})
        assert made_with_the_model(recipe.data, recipe) == made


def test_a_reward_that_is_not_here_is_absent_and_one_that_gives_no_score_is_a_mistake(tmp_path: Path) -> None:
    source = str(write(tmp_path / "pairs.jsonl", {**ROW, "split": "train"}))
    reward = tmp_path / "bad.py"
    given = {
        "name": "t",
        "model": {"path": "m"},
        "output_dir": str(tmp_path / "run"),
        "data": {"configs": {"source": "generic_pairwise", "path": source}},
        "reward": {"function": {"path": str(reward)}},
    }
    recipe = Recipe.model_validate(given)
    assert [problem.absent for problem in files_problems(recipe, download=False)] == [True]
    reward.write_text("def compute_score(data_source, solution_str, ground_truth, extra_info):\n    return None\n")
    assert [problem.absent for problem in files_problems(recipe, download=False)] == [False]
    good = tmp_path / "good.py"
    good.write_text("def compute_score(data_source, solution_str, ground_truth, extra_info):\n    return 1.0\n")
    right = Recipe.model_validate({**given, "reward": {"function": {"path": str(good)}}})
    assert files_problems(right, download=False) == []
