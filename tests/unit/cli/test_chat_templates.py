"""Every command that meets a model's chat template, with one that raises: one line, and never a traceback."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import yaml

from tests.bad_recipes import GEMMA, RAISES, write_files
from tests.unit.command_line import call, refused

pytestmark = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("transformers", "pyarrow", "verl", "vllm", "ray")),
    reason="needs what training needs",
)
SYSTEM = ("prompt.system=You judge.",)
QUESTION = ("--prompt", "q", "--response-a", "a", "--response-b", "b")


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Path:
    """A CPU recipe with its pairs converted, and beside its model, as export would write it."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    write_files(tmp_path)
    given = {
        "name": "t",
        "device": "cpu",
        "output_dir": str(tmp_path / "run"),
        "data": {"configs": {"path": str(tmp_path / "pairs.jsonl")}},
        "model": {"path": str(tmp_path / "model"), "dtype": "float32"},
        "train": {"tensor_parallel": 1, "gpus_per_node": 1, "batch_size": 2, "mini_batch_size": 2},
    }
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(given))
    # Converting reads no chat template: a judge of another model may be wanted of the same pairs.
    code, _, err = call(capsys, "convert", str(tmp_path / "recipe.yaml"))
    assert (code, err) == (0, "")
    return tmp_path / "recipe.yaml"


COMMANDS = {
    "validate": ("validate", "RECIPE", "--model"),
    "dry run": ("train", "RECIPE", "--dry-run"),
    "train": ("train", "RECIPE"),
    "run": ("run", "RECIPE"),
    "evaluate": ("evaluate", "RECIPE"),
    "evaluate a model": ("evaluate", "RECIPE", "--model", "MODEL"),
    "judge": ("judge", "RECIPE", "--model", "MODEL", *QUESTION),
}


def said(capsys: pytest.CaptureFixture[str], recipe: Path, command: str, *overrides: str) -> str:
    name, file, *options = COMMANDS[command]
    places = {"RECIPE": str(recipe), "MODEL": str(recipe.parent / "model")}
    code, line = refused(capsys, name, *(places.get(part, part) for part in (file, *overrides, *options)))
    assert code == 2
    return line


@pytest.mark.parametrize("command", COMMANDS)
def test_a_chat_template_that_raises_is_one_line(
    capsys: pytest.CaptureFixture[str], recipe: Path, command: str
) -> None:
    (recipe.parent / "model" / "chat_template.jinja").write_text(RAISES)
    assert "its chat template refuses a user message: no such conversation" in said(capsys, recipe, command)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_chat_template_that_refuses_a_system_message_is_one_line_with_what_to_set(
    capsys: pytest.CaptureFixture[str], recipe: Path, command: str
) -> None:
    (recipe.parent / "model" / "chat_template.jinja").write_text(GEMMA)
    assert "System role not supported; set prompt.system to null" in said(capsys, recipe, command, *SYSTEM)


@pytest.mark.parametrize("template", [RAISES, GEMMA])
def test_serve_refuses_such_a_folder_before_vllm_starts(
    capsys: pytest.CaptureFixture[str], recipe: Path, template: str
) -> None:
    pytest.importorskip("httpx")
    folder = recipe.parent / "model"
    (folder / "chat_template.jinja").write_text(template)
    (folder / "recipe.yaml").write_text(recipe.read_text() + "prompt: {system: You judge.}\n")
    code, line = refused(capsys, "serve", str(folder))
    assert code == 2
    assert "its chat template refuses a user message" in line or "set prompt.system to null" in line


def test_export_reads_no_chat_template(capsys: pytest.CaptureFixture[str], recipe: Path) -> None:
    (recipe.parent / "model" / "chat_template.jinja").write_text(RAISES)
    code, line = refused(capsys, "export", str(recipe))
    assert (code, "no finished checkpoint" in line) == (2, True)
