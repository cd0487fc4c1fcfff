"""The command line as a person meets it: exit codes, one line for a mistake, a help text that costs nothing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from pairwise_rm import __version__
from pairwise_rm.cli import app
from pairwise_rm.errors import InputError, StageError
from tests.unit.command_line import call

COMMANDS = (
    *("run", "convert", "train", "stop", "evaluate", "export", "judge", "serve", "validate", "plan", "models"),
    *("status", "logs", "wait", "retry", "fetch", "stage"),
)
# pydantic is not among them, since typer itself imports it where it is installed; the recipe stands for it.
HEAVY = (
    *("torch", "vllm", "ray", "verl", "transformers", "pandas", "pyarrow", "numpy", "kubernetes"),
    "pairwise_rm.recipe.model",
)


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, timeout=60, check=False)


def test_no_help_text_imports_anything_heavy() -> None:
    code = f"""
import contextlib, io, sys
from pairwise_rm.cli.app import main
for command in {("", *COMMANDS)!r}:
    with contextlib.redirect_stdout(io.StringIO()) as shown, contextlib.suppress(SystemExit):
        main([command, "--help"] if command else ["--help"])
    assert "Usage: pairwise-rm" in shown.getvalue(), command
print([name for name in {HEAVY!r} if name in sys.modules])
"""
    done = python("-c", code)
    assert (done.returncode, done.stdout.strip()) == (0, "[]"), done.stderr


def test_the_module_runs_as_the_command_does() -> None:
    done = python("-m", "pairwise_rm", "--version")
    assert (done.returncode, done.stdout.strip()) == (0, f"pairwise-rm {__version__}")


@pytest.mark.parametrize("override", ["train.steps=3", "train.verl.trainer.balance_batch=true"])
def test_a_recipe_is_validated_without_torch(override: str) -> None:
    code = f"""
import sys
from pairwise_rm.cli.app import main
try:
    main(["validate", "smoke", {override!r}])
except SystemExit as ended:
    print(ended.code)
print([name for name in ("torch", "vllm", "ray", "transformers") if name in sys.modules])
"""
    done = python("-c", code)
    assert done.stdout.splitlines()[1:] == ["0", "[]"], done.stdout + done.stderr


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_a_help_text(capsys: pytest.CaptureFixture[str], command: str) -> None:
    code, out, _ = call(capsys, command, "--help")
    assert code == 0
    assert f"Usage: pairwise-rm {command}" in out


def test_a_valid_recipe_exits_0(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = call(capsys, "validate", "smoke")
    assert (code, err) == (0, "")
    assert "a valid recipe (smoke: models/smoke on CPU)" in out


def test_the_shipped_recipes_are_listed_with_what_they_are_for(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = call(capsys, "validate", "--list")
    assert code == 0
    assert any(line.startswith("smoke ") and len(line.split()) > 3 for line in out.splitlines())


def test_a_resolved_recipe_that_was_shown_is_a_valid_recipe(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    _, shown, _ = call(capsys, "validate", "smoke", "train.steps=3", "--show")
    (tmp_path / "shown.yaml").write_text(shown)
    code, again, _ = call(capsys, "validate", str(tmp_path / "shown.yaml"), "--show")
    assert (code, again) == (0, shown)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("train", "smokee", "--dry-run"), "did you mean smoke?"),
        (("train", "smoke", "train.setps=3", "--dry-run"), "unknown key train.setps"),
        (("train", "smoke", "train.verl.trainer.nnodes=3", "--dry-run"), "set train.nodes in the recipe instead"),
        (("train", "smoke", "--dry-run", "--verl", "trainer.total_epochs"), "expected key=value"),
        (("train", "smoke", "data.export={split: test}", "--dry-run"), "split: test leaves no rows for training"),
        (
            ("train", "smoke", "data.export={split_ratio: {train: 1.0}}", "train.validate_every=5", "--dry-run"),
            "data.export.split_ratio: holds no rows out for train.validate_every 5; set that to null",
        ),
        (("run", "no/such.yaml"), "no/such.yaml: no such file"),
        (("validate",), "expected a recipe or a data config"),
        (("validate", "smoke", "train.steps=0"), "train.steps: expected greater than or equal to 1"),
        (("convert",), "expected a recipe, or --config"),
        (("convert", "--config", "no/such.yaml"), "no/such.yaml: no such file"),
        (("judge", "smoke", "--prompt", "x"), "--response-a is missing"),
        (("judge", "smoke", "--prompt", "x", "--file", "y"), "--file and --prompt exclude each other"),
        (("judge", "smoke", "--json", "--out", "y"), "--json and --out exclude each other; keep one"),
        (("judge", "smoke", "--out", "/"), "--out /: is a folder, expected a file"),
        (("models", "gpt"), "gpt"),
        (("convert", "smoke", "--config", "x.yaml"), "--config and the recipe 'smoke' exclude each other"),
        (("validate", "smoke", "data.configs.source=helpsteer9"), "'helpsteer9' is no known converter"),
        (("train", "smoke", "model.path=no-such", "output_dir=/no/such"), "`pairwise-rm models smoke --out no-such`"),
        (
            ("judge", "smoke", "output_dir=/no/such", "--prompt", "x", "--response-a", "y", "--response-b", "z"),
            "/no/such/export: no exported judge; `pairwise-rm export smoke` writes it",
        ),
    ],
)
def test_a_users_mistake_is_one_line_and_exit_code_2(
    capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], words: str
) -> None:
    code, _, err = call(capsys, *arguments)
    assert code == 2
    assert words in err
    assert err.startswith("error: ")
    assert err.count("\n") == 1


@pytest.mark.parametrize("arguments", [("--nonsense",), ("traim",), ("train",), ("train", "smoke", "--nonsense")])
def test_a_wrong_call_exits_2_without_a_traceback(
    capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...]
) -> None:
    code, _, err = call(capsys, *arguments)
    assert code == 2
    assert "Traceback" not in err
    assert "Usage" in err


def test_a_mistake_leaves_no_traceback_in_a_real_process(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text("name: t\nmodel: {path: m}\ntrain:\n  steps: many\n")
    done = python("-m", "pairwise_rm", "validate", str(tmp_path / "r.yaml"))
    assert done.returncode == 2
    assert done.stderr == f'error: {tmp_path}/r.yaml:4: train.steps: expected a valid integer, got "many"\n'


@pytest.mark.parametrize(
    ("error", "code", "shown"),
    [
        (InputError("first\nsecond"), 2, "error: first\nerror: second\n"),
        (StageError("the disk is full"), 1, "error: the disk is full\n"),
        (KeyboardInterrupt(), 130, "interrupted\n"),
        (
            ModuleNotFoundError("No module named 'transformers'", name="transformers"),
            1,
            "error: transformers is not installed; pip install 'pairwise-rm[gpu]', or 'pairwise-rm[cpu]'\n",
        ),
        (
            ModuleNotFoundError("No module named 'gguf.x'", name="gguf.x"),
            1,
            "error: gguf is not installed; pip install 'pairwise-rm[models]'\n",
        ),
        (
            ModuleNotFoundError("No module named 'kubernetes'", name="kubernetes"),
            1,
            "error: kubernetes is not installed; pip install 'pairwise-rm[kubernetes]'\n",
        ),
    ],
)
def test_each_way_to_end_badly_has_its_exit_code(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int, shown: str
) -> None:
    # The one seam: a stage that fails in each way.
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr("pairwise_rm.pipeline.run", fail)
    assert call(capsys, "run", "smoke")[::2] == (code, shown)


def test_a_defect_of_ours_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError("ours")

    monkeypatch.setattr("pairwise_rm.pipeline.run", fail)
    with pytest.raises(ZeroDivisionError, match="ours"):
        app.main(["run", "smoke"])


def test_the_data_config_of_the_rm_gallery_tutorial_is_known_for_one(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = tmp_path / "data_config.yaml"
    path.write_text("dataset:\n  name: x\n  configs: {type: local, source: helpsteer2_pairwise, path: a.jsonl}\n")
    code, out, _ = call(capsys, "validate", str(path))
    assert code == 0
    assert "a valid data config (helpsteer2_pairwise from a.jsonl)" in out


def test_pairs_that_do_not_exist_are_refused_before_a_model_is_made_for_them(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, _, err = call(capsys, "convert", "smoke", "data.configs.path=gone.jsonl")
    assert (code, err) == (2, "error: data.configs.path: gone.jsonl does not exist\n")
    assert list(tmp_path.iterdir()) == []
