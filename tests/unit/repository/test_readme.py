"""Every command in the README is run by a test: the light ones here, the long ones where this table says."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from pairwise_rm.cli.app import app, main
from pairwise_rm.contract.rows import read_rows
from pairwise_rm.convert.run import convert
from pairwise_rm.recipe.load import load_data_config, load_recipe, shipped_recipes
from tests.paths import REPO

README = (REPO / "README.md").read_text(encoding="utf-8")
COMMANDS: dict[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]

# Of each command that is too heavy for this file: the file that runs it, and the text there that does.
RUN_ELSEWHERE = {
    "make run": (".ci/run", "make run"),
    "make test": (".ci/run", "make test"),
    "pairwise-rm run smoke": (".ci/run", "make run"),  # with the recipe's own values
    "pairwise-rm train qwen3-14b-8x80g --dry-run": ("tests/unit/train/test_verl_settings.py", "shipped_recipes()"),
    "pairwise-rm plan qwen3-14b-8x80g": ("tests/unit/plan/test_cli_plan.py", "shipped_recipes()"),
    "pairwise-rm judge smoke": ("tests/train/test_training.py", '"judge"'),
    "helm install judge": ("tests/e2e/conftest.py", 'helm("install"'),
    "pairwise-rm status judge": ("tests/e2e/test_release.py", 'pairwise_rm("status"'),
    "pairwise-rm wait judge": ("tests/e2e/test_release.py", 'pairwise_rm("wait"'),
    "pairwise-rm fetch judge": ("tests/e2e/test_release.py", 'pairwise_rm("fetch"'),
    "kubectl apply -f manifests/storage.yaml -f manifests/rayjob-train.yaml": (
        "tests/e2e/test_dry_run.py",
        "MANIFESTS",
    ),
    "kubectl apply -k manifests/overlays/kind": ("tests/e2e/conftest.py", '"manifests" / "overlays" / "kind"'),
    # By hand: a download of 93 MB and half an hour. The model is tested where PAIRWISE_RM_SLOW is set.
    "pairwise-rm run smollm2": ("tests/train/test_smollm2.py", "PAIRWISE_RM_SLOW"),
}
HERE = ("pairwise-rm validate", "pairwise-rm convert --config")


def commands() -> list[str]:
    blocks = re.findall(r"```bash\n(.*?)```", README, re.DOTALL)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    return [re.sub(r"\s+#.*", "", line).strip() for line in lines if line.strip()]


def readme_yaml() -> str:
    return str(re.findall(r"```yaml\n(.*?)```", README, re.DOTALL)[0])


def test_the_readme_has_commands_and_a_data_config() -> None:
    assert {"make run", "make test"} <= set(commands())
    assert any(command.startswith("pairwise-rm validate ") for command in commands())
    assert any(command.startswith("pairwise-rm train ") for command in commands())
    assert readme_yaml().startswith("dataset:\n")


@pytest.mark.parametrize("command", commands())
def test_each_command_of_the_readme_is_run_somewhere(command: str) -> None:
    assert command.startswith((*HERE, *RUN_ELSEWHERE)), command


@pytest.mark.parametrize("known", RUN_ELSEWHERE)
def test_each_command_that_is_run_elsewhere_is_of_the_readme_and_is_run_there(known: str) -> None:
    file, text = RUN_ELSEWHERE[known]
    assert any(command.startswith(known) for command in commands())
    assert text in (REPO / file).read_text(encoding="utf-8")


@pytest.mark.parametrize("command", [line for line in commands() if line.startswith(("helm ", "kubectl "))])
def test_each_file_that_a_command_of_the_readme_names_is_there(command: str) -> None:
    paths = [word for word in shlex.split(command) if "/" in word]
    assert paths
    assert [path for path in paths if not (REPO / path).exists()] == []


FOLLOWING = [line for line in commands() if re.match(r"pairwise-rm (status|wait|fetch) ", line)]


@pytest.mark.parametrize("command", FOLLOWING)
def test_each_option_of_the_commands_that_follow_a_release_is_known(command: str) -> None:
    _, name, *words = shlex.split(command)
    options = {option for parameter in COMMANDS[name].params for option in parameter.opts}
    assert [word for word in words if word.startswith("-") and word not in options] == []


@pytest.mark.parametrize("command", [line for line in commands() if line.startswith("make ")])
def test_each_make_target_of_the_readme_exists(command: str) -> None:
    targets = re.findall(r"^([a-z0-9-]+):", (REPO / "Makefile").read_text(), re.MULTILINE)
    assert set(command.split()[1:]) <= set(targets)


@pytest.mark.parametrize("command", [line for line in commands() if line.startswith("pairwise-rm validate")])
def test_each_validate_command_of_the_readme_passes(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(shlex.split(command)[1:])
    assert ended.value.code == 0
    assert "a valid recipe" in capsys.readouterr().out


@pytest.mark.parametrize("command", [line for line in commands() if re.match(r"pairwise-rm (run|train|judge) ", line)])
def test_each_recipe_and_override_of_the_readme_is_known(command: str) -> None:
    words = shlex.split(command)[2:]
    overrides = [word for word in words[1:] if "=" in word and not word.startswith("-")]
    assert load_recipe(words[0], overrides).name == words[0]


def test_the_data_config_of_the_readme_converts_a_file(tmp_path: Path) -> None:
    value = yaml.safe_load(readme_yaml())
    source = tmp_path / "preference.jsonl"
    rows = [
        {"split": "train", "prompt": f"q{n}", "response_1": "a", "response_2": "b", "preference_strength": 1}
        for n in range(40)
    ]
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    value["dataset"]["configs"]["path"] = str(source)
    config = tmp_path / "data_config.yaml"
    config.write_text(yaml.safe_dump(value))
    result = convert(load_data_config(config), tmp_path / "out")
    train, test = (len(read_rows([file]).rows) for file in (result.train_file, result.test_file))
    assert train + test == 2 * 40
    assert train > test > 0


def test_the_readme_lists_exactly_the_shipped_recipes() -> None:
    listed = re.findall(r"^\| `([a-z0-9-]+)` \|", README, re.MULTILINE)
    assert sorted(listed) == shipped_recipes()
