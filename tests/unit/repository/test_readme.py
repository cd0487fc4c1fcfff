"""Every command in the README is run by a test: the light ones here, the long ones where this table says."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import yaml

from pairwise_rm.convert.run import convert
from pairwise_rm.recipe.load import load_data_config, load_recipe, shipped_recipes
from tests.paths import REPO

README = (REPO / "README.md").read_text(encoding="utf-8")

RUN_ELSEWHERE = {
    "make run": ".ci/run",
    "make test": ".ci/run",
    "pairwise-rm run smoke": ".ci/run, with the recipe's own values",
    "pairwise-rm train qwen3-14b-8x80g --dry-run": "tests/unit/test_verl_overrides.py, for every shipped recipe",
    "pairwise-rm judge smoke": "tests/train/test_training.py",
    "helm install judge": "tests/chart, for every preset; tests/e2e with the kind preset",
    "pairwise-rm status judge": "tests/e2e/test_release.py",
    "pairwise-rm wait judge": "tests/e2e/test_release.py",
    "pairwise-rm fetch judge": "tests/e2e/test_release.py",
    "kubectl apply -f manifests/storage.yaml -f manifests/rayjob-train.yaml": "tests/e2e/test_standalone.py",
    "kubectl apply -k manifests/overlays/kind": "tests/e2e/test_standalone.py, train alone",
    "pairwise-rm run smollm2": "by hand: a download of 93 MB and half an hour",
}


def commands() -> list[str]:
    blocks = re.findall(r"```bash\n(.*?)```", README, re.DOTALL)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    return [re.sub(r"\s+#.*", "", line).strip() for line in lines if line.strip()]


def readme_yaml() -> str:
    return str(re.findall(r"```yaml\n(.*?)```", README, re.DOTALL)[0])


@pytest.mark.parametrize("command", commands())
def test_each_command_of_the_readme_is_run_somewhere(command: str) -> None:
    here = ("pairwise-rm validate", "pairwise-rm convert --config")
    assert command.startswith(here) or any(command.startswith(known) for known in RUN_ELSEWHERE), command


@pytest.mark.parametrize("command", [line for line in commands() if line.startswith("make ")])
def test_each_make_target_of_the_readme_exists(command: str) -> None:
    targets = re.findall(r"^([a-z0-9-]+):", (REPO / "Makefile").read_text(), re.MULTILINE)
    assert command.split()[1] in targets


@pytest.mark.parametrize("command", [line for line in commands() if line.startswith("pairwise-rm validate")])
def test_each_validate_command_of_the_readme_passes(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    from pairwise_rm.cli.app import main

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
        f'{{"split": "train", "prompt": "q{n}", "response_1": "a", "response_2": "b", "preference_strength": 1}}\n'
        for n in range(40)
    ]
    source.write_text("".join(rows))
    value["dataset"]["configs"]["path"] = str(source)
    config = tmp_path / "data_config.yaml"
    config.write_text(yaml.safe_dump(value))
    result = convert(load_data_config(config), tmp_path / "out")
    assert result.train_file.is_file()
    assert result.test_file.is_file()


def test_the_readme_lists_exactly_the_shipped_recipes() -> None:
    listed = re.findall(r"^\| `([a-z0-9-]+)` \|", README, re.MULTILINE)
    assert sorted(listed) == shipped_recipes()
