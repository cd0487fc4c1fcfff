"""The metrics file across interruptions, and the proof that the rollout's weights are fresh."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from pairwise_rm.errors import InputError
from pairwise_rm.train.metrics_file import (
    add_missing,
    append_step,
    drop_after,
    read_steps,
    with_tutorial_names,
)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "metrics.jsonl"
    for step in (1, 2, 3):
        append_step(path, step, {"accuracy": step / 10})
    return path


def steps(path: Path) -> list[int]:
    return [line["step"] for line in read_steps(path)]


def test_what_was_appended_is_read_back_in_order(file: Path) -> None:
    assert [(line["step"], line["accuracy"]) for line in read_steps(file)] == [(1, 0.1), (2, 0.2), (3, 0.3)]
    assert all(line["time"] > 0 for line in read_steps(file))


def test_a_run_that_has_not_begun_has_no_steps(tmp_path: Path) -> None:
    assert read_steps(tmp_path / "metrics.jsonl") == []


@pytest.mark.parametrize("value", [math.nan, math.inf, "text", None, [1, 2]])
def test_a_value_that_json_has_no_number_for_is_left_out(tmp_path: Path, value: Any) -> None:
    append_step(tmp_path / "m.jsonl", 1, {"bad": value, "good": 1})
    line = json.loads((tmp_path / "m.jsonl").read_text(), parse_constant=pytest.fail)
    assert "bad" not in line
    assert line["good"] == 1


def test_going_on_after_a_step_drops_the_later_lines(file: Path) -> None:
    drop_after(file, 1)
    append_step(file, 2, {})
    assert steps(file) == [1, 2]


def test_a_half_written_last_line_is_not_read(file: Path) -> None:
    with open(file, "a") as handle:
        handle.write('{"step": 4, "ti')
    assert steps(file) == [1, 2, 3]


def test_a_half_written_last_line_does_not_spoil_the_resumed_run(file: Path) -> None:
    with open(file, "a") as handle:
        handle.write('{"step": 4, "ti')
    drop_after(file, 3)
    append_step(file, 4, {})
    assert steps(file) == [1, 2, 3, 4]


@pytest.mark.parametrize("line", ["not json", "[]", '{"accuracy": 1}'])
def test_a_damaged_line_is_named_by_its_number(file: Path, line: str) -> None:
    file.write_text(file.read_text() + line + "\n")
    with pytest.raises(InputError, match=r"metrics\.jsonl:4: "):
        read_steps(file)


def test_a_checkpoint_whose_step_has_no_line_yet_brings_what_was_known_at_the_save(file: Path, tmp_path: Path) -> None:
    known = {"time": 1760000000.5, "accuracy": 0.4}
    (tmp_path / "metrics.json").write_text(json.dumps(known))
    add_missing(file, 4, tmp_path)
    add_missing(file, 4, tmp_path)
    assert steps(file) == [1, 2, 3, 4]
    assert read_steps(file)[-1] == {"step": 4, **known}


def test_a_checkpoint_of_an_earlier_version_brings_no_line(file: Path, tmp_path: Path) -> None:
    add_missing(file, 4, tmp_path)
    assert steps(file) == [1, 2, 3]


def test_dropping_nothing_leaves_the_file_untouched(file: Path) -> None:
    before = file.stat()
    drop_after(file, 3)
    assert (file.stat().st_mtime_ns, file.stat().st_ino) == (before.st_mtime_ns, before.st_ino)


def test_the_names_of_the_rm_gallery_tutorial_stand_beside_verls() -> None:
    verl = {"critic/score/mean": 0.5, "rollout/acc": 0.6, "actor/kl_loss": 0.01}
    assert with_tutorial_names(verl) == {"reward/mean": 0.5, "accuracy": 0.6, "kl_loss": 0.01}


def test_without_a_reference_there_is_no_kl_loss() -> None:
    assert set(with_tutorial_names({"critic/score/mean": 0.5, "rollout/acc": 0.6})) == {"reward/mean", "accuracy"}
