"""Every mistake in a recipe is one line with file, line number and full key path."""

from __future__ import annotations

from pathlib import Path

import pytest

from pairwise_rm.errors import InputError
from pairwise_rm.recipe.load import load_data_config, load_recipe

HEAD = "name: t\nmodel:\n  path: m\n"


def message(path: Path, *overrides: str) -> str:
    with pytest.raises(InputError) as caught:
        load_recipe(str(path), overrides)
    text = str(caught.value)
    assert "\n" not in text
    assert text
    return text


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("trian: {}\n", 4, ["unknown key trian", "did you mean train?"]),
        ("train:\n  batch: 3\n", 5, ["unknown key train.batch", "did you mean batch_size?"]),
        ("train:\n  zzz: 3\n", 5, ["unknown key train.zzz", "known here: epochs, steps"]),
        ("train:\n  kl_loss:\n    coeff: 1\n", 6, ["unknown key train.kl_loss.coeff", "did you mean coef?"]),
        ("train:\n  steps: many\n", 5, ["train.steps: expected a valid integer", 'got "many"']),
        ("train:\n  steps: '3'\n", 5, ["train.steps: expected a valid integer", 'got "3"']),
        ("train:\n  steps: 3.0\n", 5, ["train.steps: expected a valid integer"]),
        ("train:\n  remove_padding: yes\n", 5, ["train.remove_padding: expected a valid boolean", 'got "yes"']),
        ("train:\n  batch_size: 0\n", 5, ["train.batch_size: expected greater than or equal to 1, got 0"]),
        ("train:\n  rollouts: 1\n", 5, ["train.rollouts: expected greater than or equal to 2, got 1"]),
        ("train:\n  gpu_memory_utilization: 1.5\n", 5, ["train.gpu_memory_utilization: expected less than 1"]),
        ("train:\n  learning_rate: .nan\n", 5, ["train.learning_rate: expected a finite number"]),
        ("train:\n  learning_rate: .inf\n", 5, ["train.learning_rate: expected a finite number"]),
        ("train:\n  loggers: [console, tensorboard]\n", 5, ["train.loggers.1: expected 'console' or 'wandb'"]),
        ("train:\n  kl_loss:\n    type: exact\n", 6, ["train.kl_loss.type: expected 'kl'", 'got "exact"']),
        ("train: 5\n", 4, ["train: expected a valid dictionary"]),
        ("train:\n", 4, ["train: expected a valid dictionary"]),
        ("device: tpu\n", 4, ["device: expected 'cuda' or 'cpu', got \"tpu\""]),
        (
            "data:\n  configs:\n    min_strength: 4\n",
            6,
            ["data.configs.min_strength: expected less than or equal to 3"],
        ),
        ("data:\n  configs:\n    sha256: abc\n", 6, ["data.configs.sha256: "]),
        ("data:\n  export:\n    split: validation\n", 6, ["data.export.split: expected 'official'"]),
        ("data:\n  export:\n    split_ratio: {train: 0.8, test: 0.3}\n", 6, ["data.export.split_ratio: train + test"]),
        (
            "data:\n  export:\n    split: official\n    split_ratio: {train: 0.8, test: 0.2}\n",
            5,
            ["data.export: split and"],
        ),
        ("reward:\n  invalid_penalty: -1\n", 5, ["reward.invalid_penalty: expected greater than or equal to 0"]),
        ("reward:\n  tie_credit: 1\n", 5, ["reward.tie_credit: expected less than 1"]),
        ("model:\n  path: n\n", 4, ["model is given twice (also in line 2)"]),
        ("train:\n  steps: 1\n  steps: 2\n", 6, ["train.steps is given twice (also in line 5)"]),
        ("train: [1\n", 5, ["not valid YAML"]),
        ("train:\n\tsteps: 1\n", 5, ["not valid YAML"]),
        ("1: x\n", 4, ["expected text as a key"]),
        ("output_dir: ' '\n", 4, ["output_dir: must name a folder"]),
    ],
)
def test_a_mistake_is_named_with_file_line_and_key(tmp_path: Path, text: str, line: int, words: list[str]) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(HEAD + text)
    found = message(path)
    assert found.startswith(f"{path}:{line}: ")
    for word in words:
        assert word in found


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("model: {path: m}\n", "name is missing"),
        ("name: t\n", "model is missing"),
        ("name: t\nmodel: {}\n", ":2: model.path is missing"),
        ("name: Upper\nmodel: {path: m}\n", ":1: name: "),
        ("", "is empty"),
        ("# only a comment\n", "is empty"),
        ("- a\n- b\n", ":1: expected a mapping of keys to values, got list"),
        ("just text\n", ":1: expected a mapping of keys to values, got str"),
        ("name: t\nmodel: {path: m, attention: flash_attention_2}\ndevice: cpu\n", "flash_attention_2 needs a GPU"),
        ("name: t\nmodel: {path: m, attention: sdpa}\ndevice: cpu\n", "train.tensor_parallel: must be 1"),
    ],
)
def test_what_a_recipe_cannot_do_without_is_named(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(text)
    found = message(path)
    assert found.startswith(str(path))
    assert words in found


def test_several_mistakes_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(HEAD + "train: {steps: 0, epochs: 0, zzz: 1}\n")
    assert message(path).endswith("(and 2 more)")


def test_a_missing_file_and_a_folder_are_told_apart(tmp_path: Path) -> None:
    (tmp_path / "folder.yaml").mkdir()
    assert message(tmp_path / "no.yaml").endswith("no.yaml: no such file")
    assert message(tmp_path / "folder.yaml").endswith("is a folder, expected a YAML file")


ALIASES = "a: &a [x]\n" + "".join(
    f"{key}: &{key} [{f'*{below}, ' * 20}]\n" for key, below in zip("bcdef", "abcde", strict=True)
)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: 2001-13-40\n", ":4: not valid YAML: month must be in 1..12"),
        (f"a: {'9' * 5000}\n", ":4: not valid YAML: Exceeds the limit"),
        ("a: &a [*a]\n", ":4: not valid YAML: nested too deeply"),
        (f"a: {'[' * 2000}\n", "not valid YAML: "),
        (ALIASES, "with its aliases it has more than 100000 values"),
        ('"a\\nb": 1\n', r":4: unknown key a\nb"),
        ("a: \0\n", "not valid YAML: unacceptable character"),
    ],
)
def test_yaml_that_overwhelms_its_reader_is_refused_with_one_line(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(HEAD + text)
    assert words in message(path)


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_bytes(b"name: \xff\xfe\n")
    assert "cannot be read as UTF-8 text" in message(path)


def test_a_name_that_is_no_recipe_lists_those_that_are() -> None:
    with pytest.raises(InputError, match=r"expected a YAML file or one of .*smoke"):
        load_recipe("nonsense")


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("train.steps", "expected key=value"),
        ("=3", "expected key=value"),
        ("train.setps=3", "unknown key train.setps; did you mean steps?"),
        ("trian.steps=3", "unknown key trian; did you mean train?"),
        ("train.steps.x=3", "train.steps has no keys of its own"),
        ("train..steps=3", "train has no keys of its own"),
        ("train.steps=many", "train.steps: expected a valid integer"),
        ("train.steps=0", "train.steps: expected greater than or equal to 1, got 0"),
        ("train.steps=[1", "the value is not valid YAML"),
        ("train=3", "train: expected a valid dictionary"),
        ("model=null", "model: expected a valid dictionary"),
        ("model.path=", "model.path: "),
    ],
)
def test_a_wrong_override_is_named_as_it_was_typed(tmp_path: Path, override: str, words: str) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(HEAD)
    found = message(path, override)
    assert found.startswith(f"override {override!r}: ")
    assert words in found


def test_a_mistake_of_the_file_is_not_blamed_on_an_override(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(HEAD + "train: {steps: 0}\n")
    assert message(path, "train.epochs=3").startswith(f"{path}:4: train.steps: ")


def test_a_data_config_has_the_same_errors(tmp_path: Path) -> None:
    path = tmp_path / "data_config.yaml"
    path.write_text("dataset:\n  configs:\n    pth: x\n")
    with pytest.raises(
        InputError, match=r"data_config\.yaml:3: unknown key dataset\.configs\.pth; did you mean path\?"
    ):
        load_data_config(path)


def test_a_recipe_and_a_data_config_are_told_apart_where_one_stands_for_the_other(tmp_path: Path) -> None:
    recipe, config = tmp_path / "r.yaml", tmp_path / "d.yaml"
    recipe.write_text("name: x\nmodel: {path: m}\n")
    config.write_text("dataset: {name: x}\n")
    with pytest.raises(InputError, match=r"d.yaml: a data config, not a recipe; `pairwise-rm convert --config"):
        load_recipe(str(config))
    with pytest.raises(InputError, match=r"r.yaml: a recipe, not a data config; give it without --config"):
        load_data_config(recipe)
