"""Evaluation and judging through real Ray and real vLLM, on a tiny random model. About two minutes."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("vllm")

import pyarrow as pa
from pyarrow import parquet

from pairwise_rm.contract.rows import Pair, arrow_schema, both_orders
from pairwise_rm.errors import StageError
from pairwise_rm.evaluate.engine import worker_environment
from pairwise_rm.evaluate.run import evaluate, write_report
from pairwise_rm.evaluate.verdicts_parquet import read_verdicts
from pairwise_rm.judge.items import Item
from pairwise_rm.judge.run import judge
from pairwise_rm.ray_session import ray_session
from pairwise_rm.recipe.model import Recipe
from tests.paths import REPO
from tests.unit.processes import gone, linux


def test_vllm_in_a_ray_actor_judges_both_orders_with_several_samples(
    model: str, recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    data = write_pairs(tmp_path / "d.parquet", 4)
    told: list[tuple[str, int, int]] = []
    found = evaluate(
        recipe, model=model, label="before", data_file=data, folder=tmp_path / "e", progress=lambda *w: told.append(w)
    )
    columns = read_verdicts(found.folder / "verdicts.parquet")
    assert [len(texts) for texts in columns["text"]] == [2] * 8
    assert all(0 < tokens <= 16 for row in columns["sample_tokens"] for tokens in row)
    assert columns["text"][0][0] != columns["text"][0][1]
    assert told[-1] == ("judge", 8, 8)
    assert found.metrics["rows"] == 8
    assert write_report(tmp_path / "e", after=found.folder, recipe=recipe).stat().st_size < 300_000


def test_a_model_that_vllm_cannot_load_fails_with_its_reason(
    model: str, recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    config = Path(model) / "config.json"
    content = json.loads(config.read_text())
    config.write_text(json.dumps({**content, "max_position_embeddings": 64}))
    try:
        with pytest.raises(StageError, match=r"vLLM: .*max_model_len"):
            judge(recipe, model, [Item.of("Why?", "Because.", "No.")])
    finally:
        config.write_text(json.dumps(content))


@pytest.mark.skipif(os.environ.get("PAIRWISE_RM_SLOW") != "1", reason="set PAIRWISE_RM_SLOW=1 to run it")
@linux
def test_verdicts_are_the_same_when_vllm_is_killed_and_when_the_command_is_killed(
    model: str, recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    data, folder = write_pairs(tmp_path / "d.parquet", 12), tmp_path / "e"
    recipe = recipe.model_copy(update={"prompt": recipe.prompt.model_copy(update={"max_response_length": 64})})
    said: list[str] = []
    killed: list[int] = []

    def kill_once(what: str, done: int, of: int) -> None:
        if what == "judge" and done >= 6 and not killed:
            killed.append(engine_of(os.getpid()))
            os.kill(killed[0], signal.SIGKILL)

    with ray_session("cpu", gpus=1, cpus=1, env=worker_environment(recipe)):
        whole = evaluate(recipe, model=model, label="whole", data_file=data, folder=folder)
        after = evaluate(
            recipe, model=model, label="engine", data_file=data, folder=folder,
            progress=kill_once, say=lambda event: said.append(str(event)),
        )  # fmt: skip
    expected = read_verdicts(whole.folder / "verdicts.parquet")
    assert len(set(map(tuple, expected["text"]))) == 24  # sampled, so that any other order of batches would show
    assert read_verdicts(after.folder / "verdicts.parquet") == expected
    assert said[0].startswith("warning: engine 1 ended (the engine's process was killed")
    assert said[1:] == ["engine 1 has started again"]
    figures = [{k: v for k, v in found.metrics.items() if k != "manifest"} for found in (whole, after)]
    assert figures[0] == figures[1]

    written = tmp_path / "recipe.yaml"
    written.write_text(json.dumps(recipe.model_dump(mode="json", exclude_unset=True)))
    command = [sys.executable, "-m", "pairwise_rm", "evaluate", str(written), "--model", model, "--data", str(data)]
    command += ["--out", str(tmp_path / "c")]
    first = killed_after(command, tmp_path / "c/before.partial", shards=3, log=tmp_path / "first.log")
    assert not (tmp_path / "c/before").exists()
    done = subprocess.run(command, cwd=REPO, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"goes on: {3 * first} of 24 rows are judged already" in done.stdout
    assert read_verdicts(tmp_path / "c/before/verdicts.parquet") == expected
    assert sorted(item.name for item in (tmp_path / "c").iterdir()) == ["before", "report.html"]


def engine_of(driver: int) -> int:
    """The process of the one engine below this one."""
    psutil = pytest.importorskip("psutil")

    found = []
    for process in psutil.Process(driver).children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):  # which a zombie is too
            if process.cmdline()[:1] and process.cmdline()[0].startswith("ray::EngineWorker"):
                found.append(process.pid)
    (engine,) = found
    return int(engine)


def killed_after(command: list[str], partial: Path, shards: int, log: Path) -> int:
    """Kills the command once so many shards are there. Returns how many there are then."""
    with open(log, "w") as output:
        process = subprocess.Popen(command, cwd=REPO, stdout=output, stderr=output)
    end = time.monotonic() + 420
    while len(list(partial.glob("*.parquet"))) < shards:
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < end, "no shards in 7 minutes"
        time.sleep(0.01)
    engine = engine_of(process.pid)
    process.kill()
    process.wait()
    assert gone(engine, 60)  # nothing of it writes on
    return len(list(partial.glob("*.parquet")))


def write_pairs(path: Path, count: int) -> Path:
    made = [Pair([{"role": "user", "content": f"q{at}"}], ("yes", "no"), "A", 1, "test") for at in range(count)]
    parquet.write_table(pa.Table.from_pylist([r for p in made for r in both_orders(p)], schema=arrow_schema()), path)
    return path
