"""Writes leave the old or the new, never half; a full disk is one line."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from pairwise_rm.atomic_io import (
    atomic_folder,
    atomic_path,
    atomic_symlink,
    recover,
    sha256_of,
    write_json,
    write_text,
)
from pairwise_rm.errors import StageError
from tests.chaos.stages import fault_folder_killed_at_every_step

FULL = Path("/dev/full")


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_replaced_as_a_whole(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "a.txt"
    write_text(target, "old")
    write_text(target, "new é")
    assert target.read_text(encoding="utf-8") == "new é"
    assert names(target.parent) == ["a.txt"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_an_error_while_a_file_is_written_leaves_the_old_one(tmp_path: Path, error: type[BaseException]) -> None:
    target = tmp_path / "a.txt"
    target.write_text("old")

    def interrupted() -> None:
        with atomic_path(target) as temporary:
            temporary.write_text("half")
            raise error

    with pytest.raises(error):
        interrupted()
    assert target.read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


@pytest.mark.skipif(not FULL.exists(), reason="needs /dev/full, which Linux has")
def test_a_full_disk_is_one_line_and_leaves_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    target.write_text("old")

    def write() -> None:
        with atomic_path(target) as temporary:
            temporary.symlink_to(FULL)
            temporary.write_text("x" * 10_000)

    with pytest.raises(StageError, match=r"a\.txt: cannot be written: No space left on device$"):
        write()
    assert target.read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


@pytest.mark.skipif(not FULL.exists(), reason="needs /dev/full, which Linux has")
def test_a_full_disk_leaves_the_old_folder(tmp_path: Path) -> None:
    target = tmp_path / "out"
    target.mkdir()
    (target / "a.txt").write_text("old")

    def write() -> None:
        with atomic_folder(target) as temporary:
            (temporary / "a.txt").write_text("new")
            FULL.write_text("x" * 10_000)

    with pytest.raises(StageError, match=r"out: cannot be written: No space left on device$"):
        write()
    assert (target / "a.txt").read_text() == "old"
    assert names(tmp_path) == ["out"]


def test_a_folder_is_replaced_as_a_whole(tmp_path: Path) -> None:
    target = tmp_path / "out"
    for number in (1, 2):
        with atomic_folder(target) as temporary:
            (temporary / f"{number}.txt").write_text("x")
    assert names(target) == ["2.txt"]
    assert names(tmp_path) == ["out"]


def test_an_error_while_a_folder_is_written_leaves_the_old_one(tmp_path: Path) -> None:
    target = tmp_path / "out"
    target.mkdir()
    (target / "a.txt").write_text("old")

    def fail() -> None:
        with atomic_folder(target) as temporary:
            (temporary / "b.txt").write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert names(target) == ["a.txt"]
    assert names(tmp_path) == ["out"]


def test_a_folder_that_cannot_take_its_place_leaves_the_old_one_there(tmp_path: Path) -> None:
    target = tmp_path / "out"
    target.mkdir()
    (target / "a.txt").write_text("old")

    def lose() -> None:
        with atomic_folder(target) as temporary:
            temporary.rename(tmp_path / "gone")
            (tmp_path / "gone").rmdir()

    with pytest.raises(StageError, match="out: cannot be written"):
        lose()
    assert (target / "a.txt").read_text() == "old"


def test_what_a_killed_process_left_behind_does_not_stand_in_the_way(tmp_path: Path) -> None:
    target = tmp_path / "out"
    left = tmp_path / f".out.{os.getpid()}.old"
    for folder in (target, left):
        folder.mkdir()
        (folder / "a.txt").write_text("old")
    with atomic_folder(target) as temporary:
        (temporary / "a.txt").write_text("new")
    assert (target / "a.txt").read_text() == "new"


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(StageError, match=r"cannot be written: (Not a directory|File exists)$"):
        write_text(tmp_path / "file" / "a.txt", "x")
    assert (tmp_path / "file").read_text() == "x"


def test_files_and_folders_have_the_rights_that_the_umask_gives(tmp_path: Path) -> None:
    old = os.umask(0o022)
    try:
        with atomic_folder(tmp_path / "out") as temporary:
            (temporary / "a.txt").write_text("x")
            (temporary / "a.txt").chmod(0o600)
    finally:
        os.umask(old)
    assert (tmp_path / "out").stat().st_mode & 0o777 == 0o755
    assert (tmp_path / "out" / "a.txt").stat().st_mode & 0o777 == 0o644


def test_a_link_moves_in_one_step(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        atomic_symlink(tmp_path / "latest", name)
        assert os.readlink(tmp_path / "latest") == name
    assert names(tmp_path) == ["latest", "one", "two"]


def test_json_keeps_its_order_and_its_letters(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"b": "é", "a": 1})
    text = (tmp_path / "a.json").read_text(encoding="utf-8")
    assert list(json.loads(text)) == ["b", "a"]
    assert "é" in text


def test_the_checksum_is_that_of_sha256sum(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    assert sha256_of(tmp_path / "a") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_a_folder_is_the_old_one_or_the_new_one_wherever_its_writer_is_killed() -> None:
    tries, survived, _ = fault_folder_killed_at_every_step()
    assert tries == survived > 20


def test_what_another_process_is_writing_is_not_taken_for_left_over(tmp_path: Path) -> None:
    target = tmp_path / "out"
    with atomic_folder(target) as temporary:
        (temporary / "a.txt").write_text("mine")
        with atomic_folder(target) as other:
            (other / "a.txt").write_text("theirs")
        assert temporary.is_dir()
    assert (target / "a.txt").read_text() == "mine"
    assert names(tmp_path) == ["out"]


def test_a_folder_of_a_like_name_is_not_taken_for_left_over(tmp_path: Path) -> None:
    for name in (".out.b.abcdefgh.lock", ".out.abc.lock", ".outabcdefgh.lock"):
        (tmp_path / name).write_text("")
    recover(tmp_path / "out")
    assert len(names(tmp_path)) == 3


def test_a_link_to_a_folder_is_replaced_and_what_it_points_at_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "a.txt").write_text("old")
    (tmp_path / "out").symlink_to("elsewhere")
    with atomic_folder(tmp_path / "out") as temporary:
        (temporary / "a.txt").write_text("new")
    assert (tmp_path / "out" / "a.txt").read_text() == "new"
    assert (tmp_path / "elsewhere" / "a.txt").read_text() == "old"
    assert names(tmp_path) == ["elsewhere", "out"]
