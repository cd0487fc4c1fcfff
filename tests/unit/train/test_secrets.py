"""What a training writes down holds no value of a secret that its environment has; tests/train looks at a real run."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from pairwise_rm.recipe.model import Recipe
from pairwise_rm.run_folder import RunFolder
from pairwise_rm.train import run
from pairwise_rm.train.verl_arguments import resolve
from tests.unit.command_line import call
from tests.unit.conftest import MakeRecipe

SECRETS = {name: f"marked-{name.lower()}-{'0' * 20}" for name in (
    "HF_TOKEN", "WANDB_API_KEY", "RAY_AUTH_TOKEN", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY",
    "AZURE_STORAGE_CONNECTION_STRING",
)}  # fmt: skip


@pytest.fixture
def recipe(make_recipe: MakeRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Recipe:
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    pairs = tmp_path / "pairs.jsonl"
    pairs.write_text('{"prompt": "1 + 1?", "response_1": "2", "response_2": "3", "preference_strength": -1}\n')
    source = {"type": "local", "source": "generic_pairwise", "path": str(pairs)}
    return make_recipe(
        train={"loggers": ["console", "wandb"], "validate_every": None},
        data={"configs": source, "export": {"split_ratio": {"train": 1.0}}},
    )


def holding_a_secret(folder: Path) -> list[str]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert files
    return [path.name for path in files if any(value.encode() in path.read_bytes() for value in SECRETS.values())]


def test_the_files_that_a_training_starts_from_hold_no_secret(recipe: Recipe) -> None:
    # launch.json is what verl hands to W&B as the run's config.
    folder = RunFolder.of(recipe)
    run._open_folder(recipe, folder, resolve(recipe, folder, "response", 3), facts())
    names = {path.name for path in folder.train.iterdir()}
    assert names >= {"recipe.yaml", "overrides.txt", "launch.json", "versions.json"}
    assert holding_a_secret(folder.root) == []


LOG = """
import json, sys, wandb
wandb.init(project="p", name="n", mode="offline", dir=sys.argv[1], config=json.load(open(sys.argv[2]))["settings"])
wandb.log({"x": 1})
wandb.finish()
"""


def test_w_and_b_s_files_hold_the_config_and_no_secret(recipe: Recipe) -> None:
    pytest.importorskip("wandb")
    folder = RunFolder.of(recipe)
    run._open_folder(recipe, folder, resolve(recipe, folder, "response", 3), facts())
    command = [sys.executable, "-c", LOG, str(folder.root), str(folder.train / "launch.json")]
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    [written] = (folder.root / "wandb").glob("offline-run-*/run-*.wandb")
    assert b"actor_rollout_ref" in written.read_bytes()
    assert holding_a_secret(folder.root) == []


def test_ray_s_runtime_environment_holds_none_of_the_environment_s_variables_but_those_that_are_named(
    recipe: Recipe,
) -> None:
    # Ray shows it on the dashboard, in its job's status and in its logs.
    settings = {setting.key: setting.value for setting in resolve(recipe, RunFolder.of(recipe))}
    given = settings["ray_kwargs.ray_init.runtime_env.env_vars"]
    assert "TOKENIZERS_PARALLELISM" in given
    assert set(given) & set(SECRETS) == set()
    assert set(given.values()) & set(SECRETS.values()) == set()


@pytest.mark.parametrize("command", [["train", "--dry-run"], ["validate"], ["validate", "--files"]])
def test_a_command_that_checks_a_recipe_says_no_secret(
    recipe: Recipe, tmp_path: Path, capsys: pytest.CaptureFixture[str], command: list[str]
) -> None:
    file = tmp_path / "recipe.yaml"
    file.write_text(yaml.safe_dump(recipe.model_dump(mode="json", exclude_defaults=True)))
    code, out, err = call(capsys, *command, str(file))
    assert (code, out != "") == (0, True), err
    assert [name for name, value in SECRETS.items() if value in out + err] == []


def facts() -> Any:
    return SimpleNamespace()
