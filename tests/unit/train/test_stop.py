"""`pairwise-rm stop`: one line in each case, and the file that the training looks for."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pairwise_rm.train import preemption
from pairwise_rm.train.attempts import Attempts
from tests.unit.command_line import call, refused


@pytest.fixture
def train(tmp_path: Path) -> Path:
    """The train folder of a run of this process, at its second attempt."""
    attempts = Attempts(tmp_path / "run" / "train" / "attempts.jsonl")
    attempts.begin(0)
    attempts.end("failed", 5, 4, "a node left")
    attempts.retry()
    attempts.begin(4)
    return tmp_path / "run" / "train"


def changed(train: Path, **values: object) -> None:
    """Changes the last attempt."""
    *lines, last = (train / "attempts.jsonl").read_text().splitlines()
    last = json.dumps({**json.loads(last), **values})
    (train / "attempts.jsonl").write_text("\n".join([*lines, last]) + "\n")


def gone() -> int:
    """The id of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


ASKED = "asked; the training saves after its running step and ends, and the same command goes on later"


@pytest.mark.parametrize("given", [["{run}"], ["{run}/train"], ["smoke", "output_dir={run}"]])
def test_a_training_that_runs_is_asked_by_its_folder_or_its_recipe(
    train: Path, capsys: pytest.CaptureFixture[str], given: list[str]
) -> None:
    arguments = [text.format(run=train.parent) for text in given]
    assert call(capsys, "stop", *arguments) == (0, f"{train}: {ASKED}\n", "")
    assert preemption.asked(train) == preemption.Notice("asked to save and end")
    again = f"{train}: asked already; the training ends after its running step\n"
    assert call(capsys, "stop", *arguments) == (0, again, "")


def test_a_training_between_two_attempts_is_asked_too(train: Path, capsys: pytest.CaptureFixture[str]) -> None:
    changed(train, outcome="failed", retried=True)
    assert call(capsys, "stop", str(train)) == (0, f"{train}: {ASKED}\n", "")


@pytest.mark.parametrize(
    ("last", "words"),
    [
        ({"outcome": "done", "reached": 20}, "training is done, up to step 20"),
        (
            {"outcome": "stopped", "checkpoint": 12},
            "the last attempt has ended (stopped), and the next one goes on after step 12",
        ),
        ({"pid": gone()}, "the last attempt was killed, and the next one goes on after step 4"),
        (
            {"pid": gone(), "outcome": "failed", "retried": True, "checkpoint": 6},
            "the last attempt has ended (failed), and the next one goes on after step 6",
        ),
    ],
)
def test_where_nothing_runs_nothing_is_asked(
    train: Path, capsys: pytest.CaptureFixture[str], last: dict[str, object], words: str
) -> None:
    changed(train, **last)
    assert call(capsys, "stop", str(train)) == (0, f"{train}: nothing is running; {words}\n", "")
    assert preemption.asked(train) is None


@pytest.mark.parametrize("last", [{"host": "judge-head-x7"}, {"host": None, "pid": None}])
def test_a_training_on_another_machine_is_asked_though_nobody_knows_whether_it_runs(
    train: Path, capsys: pytest.CaptureFixture[str], last: dict[str, object]
) -> None:
    changed(train, **last)
    where = last["host"] or "another machine"
    code, said, _ = call(capsys, "stop", str(train))
    assert (code, f"asked; the training on {where}, if it is still there, saves after" in said) == (0, True)
    assert preemption.asked(train)


def test_a_process_of_another_user_is_one_that_runs(
    train: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbidden(pid: int, signal: int) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "kill", forbidden)
    assert ASKED in call(capsys, "stop", str(train))[1]


def test_where_no_training_has_begun_that_is_the_answer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = "no training has begun here; expected a recipe, or the folder of a run"
    assert refused(capsys, "stop", str(tmp_path)) == (2, f"{tmp_path}/train: {words}")
    assert refused(capsys, "stop", "smoke", f"output_dir={tmp_path}") == (2, f"{tmp_path}/train: {words}")
    assert list(tmp_path.iterdir()) == []


def test_what_is_neither_a_recipe_nor_a_folder_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert refused(capsys, "stop", f"{tmp_path}/none")[0] == 2
    assert "somke" in refused(capsys, "stop", "somke")[1]


def test_overrides_belong_to_a_recipe(train: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = "is a folder, and train.steps=3 belongs to a recipe; give one of them"
    assert refused(capsys, "stop", str(train), "train.steps=3") == (2, f"{train}: {words}")
