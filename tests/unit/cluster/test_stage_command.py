"""`pairwise-rm stage`, as far as files go."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pairwise_rm.cluster.gpu_request import Demand, GpuRequest
from pairwise_rm.cluster.run import Job, run_job
from pairwise_rm.cluster.state_file import read_state
from pairwise_rm.errors import InputError, StageError
from pairwise_rm.progress import Waiting
from pairwise_rm.recipe.load import digest_of, recipe_yaml
from tests.bad_recipes import write_files
from tests.unit.cluster.stage_states import put
from tests.unit.conftest import MakeRecipe


@pytest.fixture
def convert_recipe(make_recipe: MakeRecipe, tmp_path: Path) -> Path:
    row = {"prompt": "q", "response_1": "a", "response_2": "b", "preference_strength": 1}
    rows = [{**row, "prompt": f"q{n}", "split": split} for n, split in enumerate(["train", "val"])]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    configs = {"path": str(tmp_path / "pairs.jsonl"), "source": "helpsteer2_pairwise"}
    export = {"output_dir": str(tmp_path / "data"), "split": "official"}
    path = tmp_path / "convert.yaml"
    path.write_text(recipe_yaml(make_recipe(data={"configs": configs, "export": export})))
    return path


def stage(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if key != "RAY_ADDRESS"}
    command = [sys.executable, "-m", "pairwise_rm", "stage", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment, check=False)


def test_a_stage_runs_records_itself_and_is_not_done_twice(convert_recipe: Path, tmp_path: Path) -> None:
    first = stage("convert", "--recipe", str(convert_recipe))
    assert first.returncode == 0, first.stderr
    state = read_state(tmp_path / "data" / "stages" / "convert.json")
    assert state is not None
    assert (state.state, state.digest) == ("succeeded", digest_of(convert_recipe.read_bytes()))
    second = stage("convert", "--recipe", str(convert_recipe))
    assert second.returncode == 0
    assert "already done with this recipe" in second.stdout
    renewed = read_state(tmp_path / "data" / "stages" / "convert.json")
    assert renewed is not None
    assert (renewed.state, renewed.digest, renewed.since > state.since) == ("succeeded", state.digest, True)


def test_a_stage_that_fails_says_why_in_its_state(convert_recipe: Path, tmp_path: Path) -> None:
    (tmp_path / "pairs.jsonl").unlink()
    done = stage("convert", "--recipe", str(convert_recipe))
    state = read_state(tmp_path / "data" / "stages" / "convert.json")
    assert state is not None
    assert done.returncode == 2
    assert state.state == "failed"
    assert done.stderr == f"error: {state.error}\n"


def test_a_stage_waits_for_each_stage_that_its_command_names(convert_recipe: Path, tmp_path: Path) -> None:
    stages = tmp_path / "run" / "stages"
    put(stages / "train.json", digest="d1", state="succeeded")
    put(stages / "evaluate.json", stage="evaluate", digest="e1", state="succeeded")
    waits = ["--after", "train=d2", "--after", "evaluate", "--input-timeout", "0"]
    done = stage("export", "--recipe", str(convert_recipe), *waits)
    assert done.returncode == 1
    assert "train was not done after 0:00:00 (it is not begun; succeeded with another recipe, d1)" in done.stderr


def test_a_stage_that_is_stopped_says_so_in_its_state(convert_recipe: Path, tmp_path: Path) -> None:
    path = tmp_path / "run" / "stages" / "train.json"
    command = [sys.executable, "-m", "pairwise_rm", "stage", "train", "--recipe", str(convert_recipe)]
    process = subprocess.Popen([*command, "--after", "convert"], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert "waiting for convert (not begun)" in process.stdout.readline()
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 130
    process.stdout.close()
    state = read_state(path)
    assert state is not None
    assert (state.state, state.error) == ("failed", "stopped before it was done")


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Demand]:
    """The seam: a Ray cluster whose GPUs never come; holds what was asked for."""
    found: list[Demand] = []

    def acquire(self: GpuRequest, timeout: float, say: Callable[[Waiting], None]) -> None:
        found.append(self.demand)
        raise StageError("no GPUs")

    monkeypatch.setenv("RAY_ADDRESS", "ray://nowhere")
    monkeypatch.setattr(GpuRequest, "acquire", acquire)
    return found


@pytest.mark.parametrize("name", ["train", "evaluate"])
@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda folder: (folder / "data" / "preference_test.parquet").write_text("x"), "not a readable parquet"),
        (lambda folder: (folder / "model" / "config.json").unlink(), "no config.json"),
        (lambda folder: (folder / "model" / "chat_template.jinja").write_text("Hello"), "leaves out the user's text"),
        (None, "no GPUs"),
    ],
)
def test_a_stage_asks_for_gpus_only_when_all_is_checked_that_needs_none(
    convert_recipe: Path,
    tmp_path: Path,
    asked: list[Demand],
    name: str,
    spoil: Callable[[Path], object] | None,
    words: str,
) -> None:
    for package in ("transformers", "pyarrow", "verl", "vllm"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"needs {package}")
    write_files(tmp_path)
    text = convert_recipe.read_text().replace("batch_size: 4", "batch_size: 2")
    convert_recipe.write_text(text)
    run_job(Job("convert", convert_recipe, None, (), 1, 1, None), lambda line: None)
    if spoil is None:
        with pytest.raises(StageError, match=words):
            run_job(Job(name, convert_recipe, None, (), 1, 1, None), lambda line: None)
        assert len(asked) == 1
        return
    spoil(tmp_path)
    with pytest.raises(InputError, match=words):
        run_job(Job(name, convert_recipe, None, (), 1, 1, None), lambda line: None)
    assert asked == []


def test_a_stage_refuses_its_recipe_before_it_waits_for_the_stage_before_it(
    convert_recipe: Path, tmp_path: Path
) -> None:
    written: list[str] = []
    convert_recipe.write_text(convert_recipe.read_text().replace("batch_size: 4", "batch_size: 5"))
    with pytest.raises(InputError, match=r"convert\.yaml:\d+: train\.batch_size: must be a multiple of"):
        run_job(Job("train", convert_recipe, None, ("convert",), 600, 1, None), written.append)
    assert not any("waiting for" in line for line in written)
    state = read_state(tmp_path / "run" / "stages" / "train.json")
    assert state is not None
    assert state.state == "failed"


def test_an_unknown_stage_is_refused() -> None:
    done = stage("serve", "--recipe", "x.yaml")
    assert (done.returncode, done.stderr) == (
        2, "error: stage 'serve': expected one of convert, train, evaluate, export\n"
    )  # fmt: skip
