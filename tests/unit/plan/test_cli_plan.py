"""`pairwise-rm plan` as a person meets it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console

from pairwise_rm.recipe.load import load_recipe, shipped_recipes
from tests.paths import REPO
from tests.unit.command_line import call, refused
from tests.unit.conftest import MakeRows, WriteRows


@pytest.fixture(autouse=True)
def _a_terminal_of_100_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    from pairwise_rm.cli import console

    monkeypatch.setattr(console, "console", Console(width=100, highlight=False, soft_wrap=True))


@pytest.mark.parametrize("name", shipped_recipes())
def test_every_recipe_is_planned_within_100_columns(capsys: pytest.CaptureFixture[str], name: str) -> None:
    fits = name != "qwen3-32b-8x80g"
    code, out, err = call(capsys, "plan", name)
    assert (code, err == "") == ((0, True) if fits else (1, False))
    assert max(map(len, out.splitlines())) <= 100
    assert "Memory of" in out
    assert "volume of the runs" in out
    assert ("What this rests on" in out) == (load_recipe(name).device == "cuda")


def test_what_does_not_fit_says_by_how_much_and_what_helps_after_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = call(capsys, "plan", "qwen3-32b-8x80g")
    assert code == 1
    assert "Does not fit: update (the optimizer's step)" in out
    assert err.startswith("error: qwen3-32b-8x80g: does not fit: update by 1.2 GiB; what helps: ")
    assert "optim.override_optimizer_config={fused: true}" in err
    assert err.count("\n") == 1


def test_an_unknown_gpu_lists_the_known_ones(capsys: pytest.CaptureFixture[str]) -> None:
    known = "a100-40gb, a100-80gb, h100-80gb, h200, h20, l40s, b200"
    assert refused(capsys, "plan", "qwen3-8b-8x40g", "--gpu", "v100") == (2, f"--gpu v100: expected one of {known}")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--gpus", "12"), "--gpus 12: expected at most 8, or a multiple of it"),
        (("--values", "--json"), "--values and --json exclude each other; keep one"),
        (("--data", "nowhere.parquet"), "nowhere.parquet: no such file; `pairwise-rm convert` writes it"),
    ],
    ids=str,
)
def test_a_mistake_is_one_line(capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], message: str) -> None:
    assert refused(capsys, "plan", "qwen3-8b-8x40g", *arguments) == (2, message)


@pytest.mark.parametrize("arguments", [("--gpu", "h200"), ("--search",), ("--values",)], ids=str)
def test_a_recipe_for_a_cpu_has_no_gpus_to_plan(capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...]) -> None:
    code, message = refused(capsys, "plan", "smoke", *arguments)
    assert code == 2
    assert message.startswith(f"{' '.join(arguments)}: the recipe has device: cpu")


def test_a_number_of_gpus_that_the_recipe_cannot_use_is_refused_by_the_recipes_key(
    capsys: pytest.CaptureFixture[str],
) -> None:
    code, message = refused(capsys, "plan", "qwen3-14b-8x80g", "--gpus", "4")
    assert code == 2
    assert "train.tensor_parallel: 8 must divide the 4 GPUs" in message


def document(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    code, out, _ = call(capsys, "plan", *arguments, "--json")
    assert code == 0
    found: dict[str, Any] = json.loads(out)
    return found


def test_the_json_has_the_parts_of_every_phase(capsys: pytest.CaptureFixture[str]) -> None:
    found = document(capsys, "qwen3-14b-8x80g", "--price", "2")
    for phase in found["memory"]["phases"]:
        assert phase["total"] == sum(phase["parts"].values())
    assert found["time"]["cost"] == 2 * found["time"]["gpu_hours"]
    assert {"kind", "source", "date", "value", "what", "name"} == found["assumptions"][0].keys()


def test_a_recipe_for_a_cpu_has_memory_and_no_time(capsys: pytest.CaptureFixture[str]) -> None:
    found = document(capsys, "smoke")
    assert (found["gpu"], found["time"], found["memory"]["fits"]) == (None, None, True)


def test_the_gpu_is_the_one_that_the_recipe_names(capsys: pytest.CaptureFixture[str]) -> None:
    assert document(capsys, "qwen3-8b-8x40g")["gpu"] == "a100-40gb"
    assert document(capsys, "qwen3-8b-8x40g", "--gpu", "H200")["gpu"] == "h200"


def test_gpus_beyond_a_node_are_nodes_of_eight(capsys: pytest.CaptureFixture[str]) -> None:
    found = document(capsys, "qwen3-14b-8x80g", "--gpus", "16")
    assert (found["nodes"], found["gpus_per_node"]) == (2, 8)


def test_the_data_count(
    capsys: pytest.CaptureFixture[str], make_rows: MakeRows, write_rows: WriteRows, tmp_path: Path
) -> None:
    file = write_rows(tmp_path / "pairs.parquet", make_rows(200))
    found = document(capsys, "qwen3-14b-8x80g", "--data", str(file))
    assert found["lengths"]["rows"] == 400
    assert found["time"]["steps"] == 10 * (400 // 96)


def test_a_search_is_shown_before_the_plan_of_its_first(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = call(capsys, "plan", "qwen3-32b-8x80g", "--search", "--price", "2")
    assert code == 0
    assert out.startswith("Layouts that fit, cheapest first")
    assert max(map(len, out.splitlines())) <= 100
    found = document(capsys, "qwen3-32b-8x80g", "--search")
    assert found["search"][0]["nodes"] == found["nodes"] == 2


def test_a_search_says_that_lora_makes_another_judge(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = call(capsys, "plan", "qwen3-14b-8x80g", "--gpu", "l40s", "--gpus", "2", "--search")
    assert code == 0
    assert "an adapter (LoRA) makes another judge" in out


def test_a_search_without_a_find_ends_with_exit_code_1(capsys: pytest.CaptureFixture[str]) -> None:
    code, message = refused(capsys, "plan", "qwen3-32b-8x80g", "--gpu", "l40s", "--gpus", "1", "--search")
    assert (code, message) == (1, "qwen3-32b-8x80g: no layout that was tried fits on L40S-48GB")


def test_values_are_yaml_and_nothing_else(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = call(capsys, "plan", "qwen3-14b-8x80g", "train.epochs=2", "--values")
    assert (code, err) == (0, "")
    values = yaml.safe_load(out)
    assert values["recipe"] == {"name": "qwen3-14b-8x80g", "overrides": {"train": {"epochs": 2}}}
    assert values["poolDefaults"]["gpuProduct"] == "a100-80gb"


def test_values_of_what_does_not_fit_are_not_printed(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = call(capsys, "plan", "qwen3-32b-8x80g", "--values")
    assert (code, out) == (1, "")
    assert "does not fit" in err


def test_a_plan_imports_nothing_heavy_where_there_is_no_tokenizer(tmp_path: Path) -> None:
    code = """
import contextlib, io, sys
from pairwise_rm.cli.app import main
for arguments in (["plan", "qwen3-8b-8x40g", "--search"], ["plan", "smoke"]):
    with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
        main(arguments)
print([name for name in ("torch", "vllm", "ray", "verl", "transformers") if name in sys.modules])
"""
    # Not in the repository, where `make run` may have left the smoke model, whose tokenizer would be loaded.
    environment = {**os.environ, "PYTHONPATH": str(REPO)}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.stdout.strip() == "[]", done.stdout + done.stderr
