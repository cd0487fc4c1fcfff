"""One table of bad recipes at every door: each refuses what its layer of checks can tell, and nothing less.

pytest tests/chart/test_doors.py -s -n 0      # prints the table
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from pairwise_rm.cluster.run import Job, run_job
from pairwise_rm.errors import InputError
from pairwise_rm.recipe.load import find_recipe
from tests.bad_recipes import MISTAKES, RECIPE, Mistake, write_files
from tests.chart.rendering import nested, over, refusal, rendered
from tests.unit.command_line import call

pytestmark = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("transformers", "pyarrow", "verl", "torch")),
    reason="needs what training needs",
)
DOORS = ("validate", "validate --files --model", "train --dry-run", "convert stage", "helm template")
# What each door can tell; of helm, which has a part of the first layer, the table says it row by row.
LAYERS = {
    "validate": ("recipe",),
    "validate --files --model": ("recipe", "files", "model"),
    "train --dry-run": ("recipe", "files", "model"),
    "convert stage": ("recipe", "files", "model"),
}
Said = dict[str, str | None]
"""What each door says to a recipe; None where it lets it pass."""


class Doors:
    """A recipe's file with its model and its pairs, taken to every door."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder, self.capsys = folder, capsys
        self.file = folder / "recipe.yaml"

    def write(self, mistake: Mistake) -> None:
        write_files(self.folder)
        mistake.change(self.folder)
        overrides = nested(
            {"model.path": str(self.folder / "model"), "output_dir": str(self.folder / "run")}
            | {"data.configs": {"type": "local", "path": str(self.folder / "pairs.jsonl")}}
            | {"data.configs.source": "helpsteer2_pairwise"}
        )
        shipped = yaml.safe_load(find_recipe(RECIPE).read_text())
        given = yaml.safe_dump(over(over(shipped, overrides), nested(dict(mistake.overrides))))
        self.file.write_text(given.replace("FOLDER", str(self.folder)))

    def say(self, mistake: Mistake) -> Said:
        file = str(self.file)
        return {
            "validate": self._command("validate", file),
            "validate --files --model": self._command("validate", file, "--files", "--model"),
            "train --dry-run": self._command("train", file, "--dry-run"),
            "convert stage": self._stage(),
            "helm template": _helm(mistake),
        }

    def _command(self, *arguments: str) -> str | None:
        code, out, err = call(self.capsys, *arguments)
        assert code in (0, 2), err
        self.printed = out
        return err if code else None

    def _stage(self) -> str | None:
        try:
            run_job(Job("convert", self.file, None, (), 1, 1, None), lambda line: None)
        except InputError as error:
            return "".join(f"error: {line}\n" for line in str(error).splitlines())
        return None


def _helm(mistake: Mistake) -> str | None:
    if mistake.layer != "recipe":
        return None  # it has neither the files nor the model
    values = nested({f"recipe.overrides.{key}": setting for key, setting in mistake.overrides.items()})
    if mistake.helm is None:
        assert rendered([], values)
        return None
    return refusal(values)


@pytest.fixture
def doors(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Doors:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    return Doors(tmp_path, capsys)


@pytest.fixture(scope="module")
def table() -> Iterator[Callable[[str, Mistake, Said], None]]:
    """Collects what the doors say, and prints it when all rows are through."""
    rows: list[tuple[str, str, Said]] = []
    yield lambda name, mistake, said: rows.append((name, mistake.layer, said))
    print(f"\n{'':<46}{'layer':<8}" + "".join(f"{door:<26}" for door in DOORS))
    for name, layer, said in rows:
        print(f"{name:<46}{layer:<8}" + "".join(f"{'refused' if said[door] else '-':<26}" for door in DOORS))


def test_the_recipe_without_a_mistake_passes_every_door(doors: Doors) -> None:
    right = Mistake("recipe", "")
    doors.write(right)
    assert doors.say(right) == dict.fromkeys(DOORS)


@pytest.mark.parametrize("name", MISTAKES)
def test_each_door_refuses_what_its_layer_of_checks_can_tell(
    name: str, doors: Doors, table: Callable[[str, Mistake, Said], None]
) -> None:
    mistake = MISTAKES[name]
    doors.write(mistake)
    said = doors.say(mistake)
    table(name, mistake, said)
    for door in LAYERS:
        found = said[door]
        if mistake.layer not in LAYERS[door] or (door == "train --dry-run" and mistake.absent):
            assert found is None, door
            continue
        assert found is not None, door
        assert mistake.said in found, door
        assert found.count("\n") == 1, door
        assert found.startswith("error: "), door
    assert (mistake.helm or "") in (said["helm template"] or "")


def test_a_dry_run_tells_what_it_could_not_check(doors: Doors) -> None:
    mistake = MISTAKES["a source that is not there"]
    doors.write(mistake)
    assert doors._command("train", str(doors.file), "--dry-run") is None
    assert "# checked: the recipe\n# not checked here: the files (data.configs.path: " in doors.printed
    assert "# checked: the model's config and chat template\n" in doors.printed


def test_all_problems_of_a_layer_are_told_at_once_each_with_its_line(doors: Doors) -> None:
    both: dict[str, Any] = {"train.batch_size": 100, "train.tensor_parallel": 3, "prompt.template": "x"}
    doors.write(Mistake("recipe", "", both))
    said = doors._command("validate", str(doors.file))
    lines = (said or "").splitlines()
    text = doors.file.read_text().splitlines()
    assert len(lines) == 3
    for line in lines:
        number, key = line.removeprefix(f"error: {doors.file}:").split(": ")[:2]
        assert text[int(number) - 1].strip().startswith(f"{key.rpartition('.')[2]}:"), line
