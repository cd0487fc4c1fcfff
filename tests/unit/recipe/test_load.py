"""Recipes: the shipped ones load, a resolved one loads again as the same, overrides reach every key."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pairwise_rm.errors import InputError
from pairwise_rm.recipe.load import first_difference, load_data_config, load_recipe, recipe_yaml, shipped_recipes
from pairwise_rm.recipe.model import Recipe
from pairwise_rm.recipe.yaml_file import dump_yaml, parse_value, read_yaml
from pairwise_rm.run_folder import RunFolder

MINIMAL = "name: t\nmodel: {path: m}\n"


@pytest.fixture
def load(tmp_path: Path) -> Callable[..., Recipe]:
    def make(text: str = MINIMAL, *overrides: str) -> Recipe:
        (tmp_path / "r.yaml").write_text(text)
        return load_recipe(str(tmp_path / "r.yaml"), overrides)

    return make


def test_the_recipes_that_the_package_promises_are_shipped() -> None:
    shipped = shipped_recipes()
    assert {"smoke", "smollm2"} <= set(shipped)
    described = {load_recipe(name).name: load_recipe(name) for name in shipped}
    gpu = {name: recipe for name, recipe in described.items() if recipe.device == "cuda"}
    shapes = {
        (recipe.model.path.split("/")[-1], recipe.train.nodes * recipe.train.gpus_per_node, bool(recipe.model.lora))
        for recipe in gpu.values()
    }
    assert shapes >= {
        ("Qwen3-8B", 1, True),
        ("Qwen3-8B", 8, False),
        ("Qwen3-14B", 8, False),
        ("Qwen3-32B", 8, False),
        ("Qwen3-32B", 16, False),
    }


@pytest.mark.parametrize("name", shipped_recipes())
def test_every_shipped_recipe_loads_and_its_resolved_form_loads_as_the_same(name: str, tmp_path: Path) -> None:
    recipe = load_recipe(name)
    path = tmp_path / "resolved.yaml"
    path.write_text(recipe_yaml(recipe), encoding="utf-8")
    assert load_recipe(str(path)) == recipe


@pytest.mark.parametrize("name", shipped_recipes())
def test_every_shipped_gpu_recipe_keeps_the_hyper_parameters_of_the_rm_gallery_tutorial(name: str) -> None:
    recipe = load_recipe(name)
    if recipe.device == "cuda":
        train = recipe.train
        # A 4,096-token prompt, 2,048 of response, 96 prompts by 4 rollouts a step, in the tutorial's algorithm.
        assert (recipe.prompt.max_prompt_length, recipe.prompt.max_response_length) == (4096, 2048)
        assert (train.batch_size, train.mini_batch_size, train.rollouts) == (96, 24, 4)
        assert train.kl_loss is not None
        assert (train.kl_loss.coef, train.kl_loss.type, train.entropy_coeff) == (0.001, "low_var_kl", 0)
    assert recipe.description


def test_the_defaults_are_the_hyper_parameters_of_the_rm_gallery_tutorial(load: Callable[..., Recipe]) -> None:
    recipe = load()
    train = recipe.train
    assert (train.batch_size, train.mini_batch_size, train.micro_batch_size_per_gpu, train.rollouts) == (96, 24, 1, 4)
    assert (recipe.prompt.max_prompt_length, recipe.prompt.max_response_length) == (4096, 2048)
    assert (train.learning_rate, train.epochs, train.save_every, train.entropy_coeff) == (1e-6, 10, 20, 0)
    assert train.kl_loss
    assert (train.kl_loss.coef, train.kl_loss.type) == (0.001, "low_var_kl")
    assert (train.nodes, train.gpus_per_node, train.tensor_parallel, train.gpu_memory_utilization) == (1, 8, 8, 0.6)
    assert train.gradient_checkpointing
    assert train.remove_padding
    assert train.offload.reference


def test_a_number_in_scientific_notation_is_a_number(load: Callable[..., Recipe]) -> None:
    assert load(MINIMAL + "train: {learning_rate: 1e-6}\n").train.learning_rate == 1e-6
    assert load(MINIMAL, "train.learning_rate=3e-4").train.learning_rate == 3e-4


@pytest.mark.parametrize("word", ["on", "off", "yes", "no", "y", "N"])
def test_words_that_yaml_takes_for_booleans_stay_text(load: Callable[..., Recipe], word: str) -> None:
    assert load(MINIMAL + f"description: {word}\n").description == word
    assert load(MINIMAL, f"description={word}").description == word


@pytest.mark.parametrize(
    ("override", "section", "value"),
    [
        ("train.steps=30", ("train", "steps"), 30),
        ("train.kl_loss=null", ("train", "kl_loss"), None),
        ("train.offload.params=true", ("train", "offload", "params"), True),
        ("model.lora.rank=8", ("model", "lora", "rank"), 8),
        ("model.path=a=b", ("model", "path"), "a=b"),
        ("train.loggers=[console, wandb]", ("train", "loggers"), ["console", "wandb"]),
        ("prompt.system=", ("prompt", "system"), ""),
        (
            "prompt.chat_template_kwargs.enable_thinking=false",
            ("prompt", "chat_template_kwargs"),
            {"enable_thinking": False},
        ),
        ("train.verl.trainer.critic_warmup=1", ("train", "verl"), {"trainer": {"critic_warmup": 1}}),
        ("data.configs.limit=10", ("data", "configs", "limit"), 10),
    ],
)
def test_an_override_sets_its_key(
    load: Callable[..., Recipe], override: str, section: tuple[str, ...], value: Any
) -> None:
    found: Any = load(MINIMAL, override)
    for part in section:
        found = getattr(found, part)
    assert found == value


def test_the_last_of_two_overrides_holds(load: Callable[..., Recipe]) -> None:
    assert load(MINIMAL, "train.steps=1", "train.steps=2").train.steps == 2


def test_the_data_config_of_the_rm_gallery_tutorial_loads_as_it_stands(tmp_path: Path) -> None:
    path = tmp_path / "data_config.yaml"
    path.write_text(
        "dataset:\n  name: helpsteer2_pairwise                # Custom dataset name\n  configs:\n"
        "    type: local                           # Local file\n    source: helpsteer2_pairwise\n"
        "    path: ~/data/HelpSteer2/preference/preference.jsonl\n  export:\n    output_dir: ./examples/data/exports\n"
        '    formats: ["parquet"]\n    preserve_structure: true\n    split_ratio: {train: 0.8, test: 0.2}\n'
    )
    config = load_data_config(path, ["dataset.configs.limit=5"])
    assert config.export.split_ratio
    assert (config.export.split_ratio.train, config.configs.limit) == (0.8, 5)


letters = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
words = st.one_of(
    letters, st.sampled_from(["1e5", "7e12345", "1e-6", "0x10", "on", "null", "~", "12:30", "2024-01-01"])
)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(words, words, st.floats(1e-12, 1e12), st.dictionaries(words.filter(bool), words, max_size=3))
def test_any_recipe_survives_being_written_and_loaded(
    tmp_path_factory: pytest.TempPathFactory, text: str, rubric: str, number: float, options: dict[str, str]
) -> None:
    given_values = {
        "name": "t",
        "description": text,
        "model": {"path": "m", "revision": text},
        "prompt": {"rubric": rubric, "chat_template_kwargs": options},
        "train": {"learning_rate": number},
    }
    recipe = Recipe.model_validate(given_values)
    path = tmp_path_factory.getbasetemp() / "round-trip.yaml"
    path.write_text(recipe_yaml(recipe), encoding="utf-8")
    assert load_recipe(str(path)) == recipe


@given(words)
def test_text_that_looks_like_something_else_is_quoted(text: str) -> None:
    assert parse_value(dump_yaml({"key": text})) == {"key": text}


@pytest.mark.parametrize(
    ("old", "new", "difference"),
    [
        ({"a": {"b": 1}}, {"a": {"b": 2}}, "a.b: 1 -> 2"),
        ({"a": 1}, {"a": 1}, None),
        ({"a": {}}, {"a": {"b": 1}}, "a.b: null -> 1"),
        ({"a": {"b": 1}}, {"a": {}}, "a.b: 1 -> null"),
        ({"a": None}, {}, None),
        ({"a": 0}, {"a": False, "b": [1]}, "b: null -> [1]"),
    ],
)
def test_the_first_difference_names_the_key_and_both_values(
    old: dict[str, Any], new: dict[str, Any], difference: str | None
) -> None:
    assert first_difference(old, new) == difference


def test_every_path_of_a_run_is_absolute_and_below_its_folder(load: Callable[..., Recipe], tmp_path: Path) -> None:
    folder = RunFolder.of(load(MINIMAL, f"output_dir={tmp_path}"))
    assert folder.root == tmp_path
    paths = [folder.train_file, folder.metrics, folder.checkpoints, folder.latest, folder.merged, folder.evaluation]
    assert all(path.is_relative_to(tmp_path) for path in paths)
    assert RunFolder.of(load()).root == Path.cwd() / "runs" / "t"


def test_files_that_are_converted_already_can_be_named(load: Callable[..., Recipe]) -> None:
    folder = RunFolder.of(load(MINIMAL, "data.files.train=~/a.parquet", "data.files.test=b.parquet"))
    assert (folder.train_file, folder.test_file) == (Path.home() / "a.parquet", Path.cwd() / "b.parquet")


def test_loading_a_recipe_imports_nothing_heavy() -> None:
    code = (
        "import sys; from pairwise_rm.recipe.load import load_recipe; load_recipe('smoke');"
        "print([m for m in ('torch', 'vllm', 'ray', 'verl', 'transformers', 'pandas', 'pyarrow') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_key_of_the_resolved_form_can_be_set_by_an_override(load: Callable[..., Recipe], tmp_path: Path) -> None:
    resolved = tmp_path / "resolved.yaml"
    resolved.write_text(recipe_yaml(load()))
    value = read_yaml(resolved)[0]
    assert load_recipe(str(resolved), [f"train.steps={value['train']['epochs']}"]).train.steps == 10


def test_a_missing_shipped_recipe_is_answered_with_the_nearest_name() -> None:
    with pytest.raises(InputError, match="did you mean smoke"):
        load_recipe("smokee")
