"""Checks of the recipe alone that the table of `tests/chart/test_doors.py` has no row for."""

from __future__ import annotations

import ast
import importlib.util
import inspect
from pathlib import Path
from typing import Any, get_args

import pytest

from pairwise_rm.checks.problem import Problem, refuse
from pairwise_rm.checks.recipe import CALLERS_OWN, recipe_problems, source_problems
from pairwise_rm.errors import InputError
from pairwise_rm.recipe.load import load_recipe, load_with_origin, shipped_recipes
from pairwise_rm.recipe.model import DatasetConfig, LoraRank, RecipeData


def test_the_lora_ranks_are_those_of_the_installed_vllm() -> None:
    # Read, not imported: importing vLLM takes ten seconds.
    found = importlib.util.find_spec("vllm")
    if found is None or found.origin is None:
        pytest.skip("needs vllm")
    tree = ast.parse((Path(found.origin).parent / "config" / "lora.py").read_text())
    [ranks] = [
        ast.literal_eval(node.value.slice)
        for node in tree.body
        if isinstance(node, ast.Assign)
        and isinstance(node.targets[0], ast.Name)
        and node.targets[0].id == "MaxLoRARanks"
        and isinstance(node.value, ast.Subscript)
    ]
    assert get_args(LoraRank) == ranks


def test_what_a_chat_template_may_not_be_given_are_arguments_of_the_installed_transformers() -> None:
    transformers = pytest.importorskip("transformers")
    known = inspect.signature(transformers.PreTrainedTokenizerFast.apply_chat_template).parameters
    assert set(known) >= set(CALLERS_OWN)


@pytest.mark.parametrize("name", shipped_recipes())
def test_a_shipped_recipe_has_no_problem(name: str) -> None:
    assert recipe_problems(load_recipe(name)) == []


def said(data: DatasetConfig) -> list[str]:
    return [problem.text.partition(":")[0] for problem in source_problems(data)]


@pytest.mark.parametrize(
    ("configs", "keys"),
    [
        ({"path": "p.jsonl"}, []),
        ({}, ["data.configs.path"]),
        ({"path": "p.jsonl", "repo": "a/b", "revision": "1"}, ["data.configs.repo", "data.configs.revision"]),
        ({"type": "huggingface"}, []),
        ({"type": "huggingface", "source": "generic_pairwise"}, ["data.configs.repo", "data.configs.path"]),
        ({"type": "huggingface", "source": "generic_pairwise", "repo": "a/b", "path": "p"}, []),
    ],
)
def test_a_source_says_where_it_is(configs: dict[str, Any], keys: list[str]) -> None:
    assert said(DatasetConfig.model_validate({"configs": configs, "export": {"split": "official"}})) == keys


def test_pairs_that_are_converted_already_need_no_source() -> None:
    assert said(RecipeData.model_validate({"files": {"train": "a", "test": "b"}})) == []


# ---- where a key stands --------------------------------------------------------------------------


def test_a_problem_names_the_line_of_its_key_or_of_the_first_that_is_given_or_of_the_section(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text("name: t\nmodel: {path: m}\ntrain:\n  mini_batch_size: 5\n")
    _, origin = load_with_origin(str(path), ["train.rollouts=8"])
    assert origin.place("train.batch_size", "train.mini_batch_size") == f"{path}:4"
    assert origin.place("train.batch_size", "train.rollouts") == "override 'train.rollouts=8'"
    assert origin.place("train.batch_size") == f"{path}:3"
    assert origin.place("reward.tie_credit") == str(path)


def test_problems_become_one_error_with_a_line_each_and_none_becomes_nothing(tmp_path: Path) -> None:
    refuse([])
    path = tmp_path / "r.yaml"
    path.write_text("name: t\nmodel: {path: m}\n")
    _, origin = load_with_origin(str(path))
    with pytest.raises(InputError) as caught:
        refuse([Problem("name: a"), Problem("b", ("model.path",)), Problem("train.verl.x: c", placed=False)], origin)
    assert str(caught.value) == f"{path}:1: name: a\n{path}:2: b\ntrain.verl.x: c"


def test_in_a_data_config_the_keys_begin_with_dataset() -> None:
    problem = Problem("data.configs.path: missing", ("data.export.split",)).of_data_config()
    assert (problem.text, problem.keys) == ("dataset.configs.path: missing", ("dataset.export.split",))
