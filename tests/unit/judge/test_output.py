"""`pairwise-rm judge --file F --out O`: what is written, and that a command which was interrupted goes on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("numpy")
pytest.importorskip("transformers")
pytest.importorskip("pyarrow")

from pairwise_rm.evaluate import row_verdicts
from tests.model_files import safetensors, save_byte_tokenizer
from tests.unit.command_line import call, refused
from tests.unit.evaluate.engine_stub import GOOD, Answers, disk_full_at, stops_after, terminates_itself


def equal(prompt: str) -> str:
    return GOOD.format("tie")


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> Answers:
    pool = Answers(equal)
    monkeypatch.setattr(row_verdicts, "engines", pool.engines)
    return pool


@pytest.fixture
def command(tmp_path: Path) -> list[str]:
    """Four items, in batches of one pair."""
    model = tmp_path / "model"
    save_byte_tokenizer(model, "{% for m in messages %}{{ m['content'] }}{% endfor %}", eos="<eos>")
    (model / "model.safetensors").write_bytes(safetensors(1))
    (model / "config.json").write_text("{}")
    items = [{"id": f"x{at}", "prompt": f"q{at}", "response_a": "yes", "response_b": "no"} for at in range(4)]
    (tmp_path / "items.jsonl").write_text("".join(json.dumps(item) + "\n" for item in items))
    return [
        "judge", "smoke", "evaluate.batch_size=2", "prompt.max_prompt_length=4000", "--model", str(model),
        "--file", str(tmp_path / "items.jsonl"), "--out", str(tmp_path / "out" / "verdicts.jsonl"),
    ]  # fmt: skip


def test_judgements_go_into_the_file_and_nowhere_else(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], answers: Answers, command: list[str]
) -> None:
    code, said, _ = call(capsys, *command)
    lines = [json.loads(line) for line in (tmp_path / "out/verdicts.jsonl").read_text().splitlines()]
    assert (code, [line["name"] for line in lines]) == (0, ["x0", "x1", "x2", "x3"])
    assert {line["combined"] for line in lines} == {"tie"}
    assert f"{tmp_path}/out/verdicts.jsonl: 4 judgements" in said
    assert "neither response is better" not in said
    assert [item.name for item in (tmp_path / "out").iterdir()] == ["verdicts.jsonl"]


def test_a_command_that_was_interrupted_goes_on_and_writes_the_same_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], answers: Answers, command: list[str]
) -> None:
    call(capsys, *command)
    whole = (tmp_path / "out/verdicts.jsonl").read_bytes()
    (tmp_path / "out/verdicts.jsonl").unlink()
    stops_after(3, answers, equal)
    assert call(capsys, *command)[0] == 1
    assert not (tmp_path / "out/verdicts.jsonl").exists()
    answers.answer = equal
    assert "goes on: 6 of 8 rows are judged already" in call(capsys, *command)[1]
    assert len(answers.asked) == 2
    assert (tmp_path / "out/verdicts.jsonl").read_bytes() == whole
    assert [item.name for item in (tmp_path / "out").iterdir()] == ["verdicts.jsonl"]


def test_sigterm_stops_a_command_after_its_batch_and_the_same_one_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], answers: Answers, command: list[str]
) -> None:
    terminates_itself(answers)
    code, out, err = call(capsys, *command)
    assert (code, err) == (130, "interrupted\n")
    assert "stopped; the same command goes on, 2 of 8 rows are judged" in out
    answers.answer = equal
    assert "goes on: 2 of 8 rows are judged already" in call(capsys, *command)[1]
    assert len((tmp_path / "out/verdicts.jsonl").read_text().splitlines()) == 4


def test_a_full_disk_is_one_line_and_the_old_file_stays(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], answers: Answers, command: list[str]
) -> None:
    out = tmp_path / "out/verdicts.jsonl"
    out.parent.mkdir()
    out.write_text("old")
    with disk_full_at(100):
        code, line = refused(capsys, *command)
    assert (code, line) == (1, f"{out}.partial/000000000.parquet: cannot be written: File too large")
    assert [item.name for item in out.parent.iterdir()] == ["verdicts.jsonl"]
    assert out.read_text() == "old"
    assert call(capsys, *command)[0] == 0
    assert len(out.read_text().splitlines()) == 4
