"""What happens after verl has saved a checkpoint: it is sealed, read back in a thread and linked, and older ones go."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path

import pytest

from pairwise_rm.errors import StageError
from pairwise_rm.train import checkpoints
from pairwise_rm.train.read_back import ReadBack
from tests.unit.train.test_checkpoints import WEIGHTS, checkpoint, cut, names


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "train" / "checkpoints"


def saved(folder: Path, step: int) -> Path:
    return checkpoint(folder, step, finished=False)


def torn(folder: Path, step: int) -> Path:
    path = saved(folder, step)
    cut(path)
    return path


def test_training_goes_on_while_a_checkpoint_is_read_back_and_it_counts_already(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on = threading.Event()
    crc32 = checkpoints._crc32

    def slow(path: Path) -> str:
        go_on.wait(30)
        return crc32(path)

    monkeypatch.setattr(checkpoints, "_crc32", slow)
    reader, path = ReadBack(keep=1), saved(folder, 20)
    checkpoint(folder, 10)
    reader.begin(path)
    assert checkpoints.newest(folder) == path
    assert not (folder.parent / "latest").exists()
    assert names(folder) == ["global_step_10", "global_step_20"]
    go_on.set()
    reader.wait()
    assert WEIGHTS in json.loads((path / checkpoints.SEAL).read_text())["crc32"]
    assert os.readlink(folder.parent / "latest") == "checkpoints/global_step_20"
    assert (folder.parent / "actor_latest" / "huggingface" / "config.json").is_file()
    assert names(folder) == ["global_step_20"]


def test_one_that_is_damaged_when_it_is_read_back_is_set_aside_and_the_one_before_it_stays_the_latest(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    reader = ReadBack(keep=1)
    reader.begin(saved(folder, 10))
    reader.begin(torn(folder, 20))
    reader.wait()
    assert names(folder) == ["global_step_10", "global_step_20.damaged"]
    assert (folder.parent / "latest").resolve() == folder / "global_step_10"
    assert capfd.readouterr().out == (
        f"warning: {folder}/global_step_20: damaged: {WEIGHTS} is not what was written; "
        "set aside as global_step_20.damaged\n"
    )
    reader.begin(saved(folder, 30))
    reader.wait(last=True)
    assert names(folder) == ["global_step_20.damaged", "global_step_30"]


def test_two_damaged_ones_in_a_row_stop_the_training(folder: Path) -> None:
    reader = ReadBack(keep=1)
    reader.begin(torn(folder, 10))
    reader.wait()
    reader.begin(torn(folder, 20))
    with pytest.raises(StageError, match="global_step_20: damaged when it was read back"):
        reader.wait()


def test_a_last_checkpoint_that_is_damaged_fails_the_training(folder: Path) -> None:
    reader = ReadBack(keep=1)
    reader.begin(torn(folder, 10))
    with pytest.raises(StageError, match="global_step_10: damaged when it was read back"):
        reader.wait(last=True)


def test_a_volume_that_cannot_be_written_fails_the_training(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reader = ReadBack(keep=1)
    reader.begin(saved(folder, 10))
    reader.wait()

    def full(*_: object) -> None:
        raise StageError("checkpoint.json: cannot be written: No space left on device")

    monkeypatch.setattr(checkpoints, "seal_with_checksums", full)
    reader.begin(saved(folder, 20))
    with pytest.raises(StageError, match="No space left"):
        reader.wait()
    assert names(folder) == ["global_step_10", "global_step_20"]
