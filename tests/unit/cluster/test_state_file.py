"""A stage's state on the cluster, as a file."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from pairwise_rm.cluster.state_file import Silence, StageState, StateWriter, read_state, state_file
from pairwise_rm.errors import InputError, StageError
from tests.unit.cluster.stage_states import FIRST_STEP, HOUR
from tests.unit.conftest import MakeRecipe


def test_a_stage_leaves_succeeded_behind(tmp_path: Path) -> None:
    with StateWriter(tmp_path / "stages" / "train.json", "train", "d1") as writer:
        writer.now("running")
        writer.say(FIRST_STEP)
    state = read_state(tmp_path / "stages" / "train.json")
    assert state is not None
    assert (state.stage, state.digest, state.state, state.error) == ("train", "d1", "succeeded", None)


def test_the_last_line_is_written_with_the_heartbeat(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pairwise_rm.cluster.state_file.HEARTBEAT_SECONDS", 0.02)
    path = tmp_path / "train.json"
    with StateWriter(path, "train", "d1") as writer:
        writer.say(FIRST_STEP)
        end = time.monotonic() + 10
        while (state := read_state(path)) is None or state.progress != FIRST_STEP.as_json():
            assert time.monotonic() < end
            time.sleep(0.01)


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (StageError("verl died"), "verl died"),
        (InputError("one\ntwo"), "one; two"),
        (KeyError("messages"), "KeyError: 'messages'"),
        (KeyboardInterrupt(), "stopped before it was done"),
        (
            ModuleNotFoundError("No module named 'gguf.x'", name="gguf.x"),
            "gguf is not installed; pip install 'pairwise-rm[models]'",
        ),
        (ModuleNotFoundError("No module named 'ours'", name="ours"), "ModuleNotFoundError: No module named 'ours'"),
    ],
)
def test_an_error_becomes_the_failure_of_the_stage_and_goes_on(tmp_path: Path, error: BaseException, line: str) -> None:
    with pytest.raises(type(error)), StateWriter(tmp_path / "train.json", "train", "d1"):
        raise error
    state = read_state(tmp_path / "train.json")
    assert state is not None
    assert (state.state, state.error) == ("failed", line)


def test_a_damaged_state_is_told_by_its_path(tmp_path: Path) -> None:
    (tmp_path / "train.json").write_text('{"stage": "train"}')
    with pytest.raises(StageError, match=r"train\.json: damaged: .*; remove it to run this stage again"):
        read_state(tmp_path / "train.json")


def test_the_state_of_convert_lies_beside_the_pairs_and_that_of_others_in_the_run_folder(
    make_recipe: MakeRecipe, tmp_path: Path
) -> None:
    recipe = make_recipe(data={"export": {"output_dir": str(tmp_path / "pairs")}})
    assert state_file(recipe, "convert") == tmp_path / "pairs" / "stages" / "convert.json"
    assert state_file(recipe, "train") == tmp_path / "run" / "stages" / "train.json"


def test_only_a_stage_that_should_be_writing_can_be_lost() -> None:
    running, succeeded = (StageState("train", "d", state, 0, 0) for state in ("running", "succeeded"))
    silence = Silence()
    assert silence.of(running) == 0
    time.sleep(0.02)
    assert silence.of(running) >= 0.02
    assert (silence.of(succeeded), silence.of(None)) == (0, 0)


@pytest.mark.parametrize("set_by", [-HOUR, HOUR])
def test_a_writer_whose_clock_is_set_is_heard_of_with_its_next_heartbeat(set_by: float) -> None:
    silence, now = Silence(), time.time()
    silence.of(StageState("train", "d", "running", now, now))
    time.sleep(0.02)
    later = StageState("train", "d", "running", now, now + set_by)
    assert silence.of(later) == 0
    time.sleep(0.02)
    assert silence.of(later) >= 0.02
