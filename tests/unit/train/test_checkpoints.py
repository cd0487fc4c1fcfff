"""Sealed checkpoints: whole or not, set aside, pruned, and the room for the next; which run a folder may go on with."""

from __future__ import annotations

import errno
import json
import os
import random
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from pairwise_rm.atomic_io import write_text
from pairwise_rm.errors import InputError, StageError
from pairwise_rm.recipe.load import recipe_yaml
from pairwise_rm.recipe.model import Recipe
from pairwise_rm.run_folder import RunFolder
from pairwise_rm.train import checkpoints as checkpoints_module
from pairwise_rm.train import run as train_run
from pairwise_rm.train.checkpoints import (
    GIB,
    SEAL,
    check,
    expected_bytes,
    has_any,
    newest,
    point_latest_at,
    prune,
    room_for,
    seal,
    seal_with_checksums,
    sealed,
    set_aside,
    set_aside_unfinished,
    step_of,
)
from pairwise_rm.train.metrics_file import append_step, drop_after, read_steps
from tests.unit.conftest import MakeRecipe

WEIGHTS = "actor/model_world_size_1_rank_0.pt"


def torch_file(path: Path, content: bytes = b"weights") -> None:
    """A file as `torch.save` lays it out: a zip archive without compression."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("archive/data.pkl", b"pickled")
        archive.writestr("archive/data/0", content)


def checkpoint(folder: Path, step: int, finished: bool = True, checksums: bool = False) -> Path:
    """A checkpoint as verl lays it out, with a few bytes for weights."""
    path = folder / f"global_step_{step}"
    (path / "actor" / "huggingface").mkdir(parents=True)
    torch_file(path / "data.pt")
    torch_file(path / WEIGHTS)
    (path / "actor" / "huggingface" / "config.json").write_text("{}")
    if finished:
        seal(path)
    if checksums:
        seal_with_checksums(path)
    return path


def flip(path: Path, place: int) -> None:
    """One bit of a file; its size and its time stay."""
    before, content = path.stat(), bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_sealed_checkpoint_is_whole(tmp_path: Path) -> None:
    path = checkpoint(tmp_path, 20)
    check(path)
    assert newest(tmp_path) == path
    assert step_of(path) == 20


def test_sealing_again_after_a_file_grew_is_whole_again(tmp_path: Path) -> None:
    path = checkpoint(tmp_path, 20)
    torch_file(path / "data.pt", b"more data")
    torch_file(path / "extra.pt", b"new")
    seal(path)
    seal(path)
    check(path)
    assert newest(tmp_path) == path


def test_the_checksums_are_added_to_the_sizes_which_stay_where_earlier_versions_read_them(tmp_path: Path) -> None:
    path = checkpoint(tmp_path, 20)
    before = json.loads((path / SEAL).read_text())
    seal_with_checksums(path)
    after = json.loads((path / SEAL).read_text())
    assert {name: after[name] for name in before} == before
    assert set(after["crc32"]) == set(before["files"])
    check(path)


@pytest.mark.parametrize("checksums", [False, True])
@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        (WEIGHTS, b"weig", "cut short: .*rank_0.pt has 4 bytes, expected 248"),
        (WEIGHTS, None, "cut short: .*rank_0.pt is missing"),
        ("actor/huggingface/config.json", None, "cut short: .*config.json is missing"),
        (SEAL, None, f"not a finished checkpoint \\({SEAL} is missing\\)"),
        (SEAL, b'{"step": 20, "fi', f"cut short: {SEAL} is not what was written"),
        (SEAL, b"[]", f"cut short: {SEAL} is not what was written"),
        (SEAL, b"\xff\xfe", f"cut short: {SEAL} is not what was written"),
    ],
)
def test_a_checkpoint_that_was_cut_short_is_refused_with_the_file_that_is_short(
    tmp_path: Path, name: str, content: bytes | None, words: str, checksums: bool
) -> None:
    path = checkpoint(tmp_path, 20, checksums=checksums)
    (path / name).unlink()
    if content is not None:
        (path / name).write_bytes(content)
    with pytest.raises(InputError, match=words) as caught:
        check(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("name", [WEIGHTS, "data.pt", "actor/huggingface/config.json"])
def test_one_flipped_bit_anywhere_is_found(tmp_path: Path, name: str) -> None:
    path = checkpoint(tmp_path, 20, checksums=True)
    for place in range((path / name).stat().st_size):
        flip(path / name, place)
        with pytest.raises(InputError, match=f"global_step_20: damaged: {name} is not what was written"):
            check(path)
        flip(path / name, place)
    check(path)


def test_before_the_checksums_are_there_a_flipped_bit_of_the_weights_is_found_by_torchs_own(tmp_path: Path) -> None:
    path = checkpoint(tmp_path, 20)
    flip(path / WEIGHTS, (path / WEIGHTS).read_bytes().index(b"weights"))
    with pytest.raises(InputError, match=f"damaged: {WEIGHTS} is not what was written"):
        check(path)
    with pytest.raises(InputError, match=f"damaged: {WEIGHTS} is not what was written"):
        seal_with_checksums(path)


def test_a_torch_file_that_is_damaged_in_any_way_ends_in_one_line(tmp_path: Path) -> None:
    path, chance = checkpoint(tmp_path, 20), random.Random(1)
    whole = (path / WEIGHTS).read_bytes()
    for _ in range(300):
        content = bytearray(whole)
        for _ in range(chance.randint(1, 4)):
            content[chance.randrange(len(content))] = chance.randrange(256)
        (path / WEIGHTS).write_bytes(content)
        try:
            check(path)
        except InputError as error:
            assert "is not what was written" in str(error)  # noqa: PT017


def test_a_checkpoint_of_an_earlier_version_is_accepted(tmp_path: Path) -> None:
    path = checkpoint(tmp_path, 20)
    assert "crc32" not in json.loads((path / SEAL).read_text())
    said: list[str] = []
    assert newest(tmp_path, said.append) == path
    assert said == []


def test_a_rank_whose_file_was_not_seen_when_the_checkpoint_was_sealed_is_missed(tmp_path: Path) -> None:
    path = checkpoint(tmp_path, 20, finished=False)
    for rank in (0, 2):
        torch_file(path / "actor" / f"optim_world_size_3_rank_{rank}.pt")
    seal(path)
    with pytest.raises(InputError, match=r"cut short: actor/optim_world_size_3_rank_1\.pt is missing"):
        seal_with_checksums(path)
    torch_file(path / "actor" / "optim_world_size_3_rank_1.pt")
    seal_with_checksums(path)
    assert "actor/optim_world_size_3_rank_1.pt" in json.loads((path / SEAL).read_text())["crc32"]


@pytest.mark.parametrize(
    ("number", "raised", "words"),
    [
        (errno.EIO, InputError, "global_step_20: damaged: .*: Input/output error"),
        (errno.EACCES, StageError, "cannot be read: Permission denied"),
        (errno.ENOENT, InputError, "cut short: .* is missing"),
    ],
)
def test_what_the_disk_says_is_told_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, raised: type[Exception], words: str
) -> None:
    path = checkpoint(tmp_path, 20, checksums=True)

    def refused(_: Path) -> str:
        # The seam: no disk here fails, and tests run as root, whom no file system refuses.
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(checkpoints_module, "_crc32", refused)
    with pytest.raises(raised, match=words):
        check(path)
    assert names(tmp_path) == ["global_step_20"]


def test_the_newest_is_the_highest_step_and_not_the_last_name(tmp_path: Path) -> None:
    for step in (9, 100, 20):
        checkpoint(tmp_path, step)
    assert [step_of(path) for path in sealed(tmp_path)] == [9, 20, 100]
    assert newest(tmp_path) == tmp_path / "global_step_100"


def test_a_checkpoint_that_was_being_written_does_not_count(tmp_path: Path) -> None:
    checkpoint(tmp_path, 10)
    checkpoint(tmp_path, 20, finished=False)
    (tmp_path / "latest_checkpointed_iteration.txt").write_text("20")
    (tmp_path / "global_step_30").write_text("a file")
    assert newest(tmp_path) == tmp_path / "global_step_10"


# ---- setting aside -------------------------------------------------------------------------------


def cut(path: Path) -> None:
    os.truncate(path / WEIGHTS, 100)


def flipped(path: Path) -> None:
    flip(path / WEIGHTS, 60)


def one_removed(path: Path) -> None:
    (path / "data.pt").unlink()


@pytest.mark.parametrize("damage", [cut, flipped, one_removed])
def test_a_damaged_newest_is_set_aside_with_one_line_and_the_one_before_it_is_used(
    tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    checkpoints = tmp_path / "train" / "checkpoints"
    checkpoint(checkpoints, 10, checksums=True)
    path = checkpoint(checkpoints, 20, checksums=True)
    point_latest_at(path)
    damage(path)
    said: list[str] = []
    assert newest(checkpoints, said.append) == checkpoints / "global_step_10"
    assert names(checkpoints) == ["global_step_10", "global_step_20.damaged"]
    (line,) = said
    assert line.startswith(f"{path}: ")
    assert line.endswith("; set aside as global_step_20.damaged, the one before it is used")
    assert os.readlink(tmp_path / "train" / "latest") == "checkpoints/global_step_10"
    assert os.readlink(tmp_path / "train" / "actor_latest") == "checkpoints/global_step_10/actor"
    assert newest(checkpoints, said.append) == checkpoints / "global_step_10"
    assert len(said) == 1, "it is said once"


def test_several_damaged_ones_are_set_aside_and_none_is_lost(tmp_path: Path) -> None:
    for step in (10, 20, 30):
        cut(checkpoint(tmp_path, step, checksums=True))
    said: list[str] = []
    assert newest(tmp_path, said.append) is None
    assert names(tmp_path) == [f"global_step_{step}.damaged" for step in (10, 20, 30)]
    assert [line.rpartition(", ")[2] for line in said] == [
        "the one before it is used", "the one before it is used", "and there is none before it"
    ]  # fmt: skip
    assert has_any(tmp_path), "training was done here"
    assert sealed(tmp_path) == []


def test_a_step_that_is_damaged_again_gets_another_name(tmp_path: Path) -> None:
    for _ in range(3):
        cut(checkpoint(tmp_path, 20))
        assert newest(tmp_path) is None
    assert names(tmp_path) == ["global_step_20.damaged", "global_step_20.damaged.2", "global_step_20.damaged.3"]


def test_a_folder_that_cannot_be_renamed_stops_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = checkpoint(tmp_path, 20)

    def refused(*_: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(Path, "rename", refused)
    with pytest.raises(StageError, match="global_step_20: cannot be set aside: Read-only file system"):
        set_aside(path, "damaged")


def test_one_that_is_removed_while_it_is_looked_at_is_not_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An export looks at step 20 while a training that goes on removes it, and its files before the folder."""
    checkpoint(tmp_path, 20, checksums=True)

    def meanwhile(path: Path) -> str:
        shutil.rmtree(path.parent, ignore_errors=True)
        (tmp_path / "global_step_20" / SEAL).unlink(missing_ok=True)
        raise FileNotFoundError(path)

    monkeypatch.setattr(checkpoints_module, "_crc32", meanwhile)
    assert newest(tmp_path, pytest.fail) is None
    assert "global_step_20.damaged" not in names(tmp_path)


def test_after_falling_back_the_metrics_hold_each_step_once(make_recipe: MakeRecipe) -> None:
    folder = RunFolder.of(make_recipe())
    checkpoint(folder.checkpoints, 2, checksums=True)
    cut(checkpoint(folder.checkpoints, 4, checksums=True))
    for step in (1, 2, 3, 4, 5):
        append_step(folder.metrics, step, {})
    start = newest(folder.checkpoints)
    assert start is not None
    drop_after(folder.metrics, step_of(start))
    for step in (3, 4, 5, 6):
        append_step(folder.metrics, step, {})
    assert [line["step"] for line in read_steps(folder.metrics)] == [1, 2, 3, 4, 5, 6]


def test_a_run_without_checkpoints_has_no_newest(tmp_path: Path) -> None:
    assert newest(tmp_path / "checkpoints") is None
    assert not has_any(tmp_path / "checkpoints")


@pytest.mark.parametrize("name", ["actor", "global_step_", "global_step_20.unfinished", "global_step_20.damaged"])
def test_a_folder_of_another_name_is_no_checkpoint(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match="global_step_<N>"):
        step_of(tmp_path / name)


def test_an_unfinished_checkpoint_is_set_aside_each_time(tmp_path: Path) -> None:
    checkpoint(tmp_path, 10)
    set_aside(checkpoint(tmp_path, 30), "damaged")
    for _ in range(2):
        checkpoint(tmp_path, 20, finished=False)
        set_aside_unfinished(tmp_path)
    assert names(tmp_path) == ["global_step_10", "global_step_20.unfinished", "global_step_30.damaged"]


# ---- how many are kept, and the room for the next ------------------------------------------------


def test_the_newest_finished_ones_are_kept_and_the_others_do_not_count(tmp_path: Path) -> None:
    for step in (10, 20, 40):
        checkpoint(tmp_path, step)
    checkpoint(tmp_path, 30, finished=False)  # left behind by verl
    checkpoint(tmp_path, 60, finished=False)  # being written
    set_aside(checkpoint(tmp_path, 35), "damaged")
    set_aside(checkpoint(tmp_path, 50, finished=False), "unfinished")
    prune(tmp_path, 2)
    assert names(tmp_path) == ["global_step_20", "global_step_35.damaged", "global_step_40", "global_step_60"]


def test_without_a_finished_checkpoint_nothing_is_removed(tmp_path: Path) -> None:
    checkpoint(tmp_path, 10, finished=False)
    prune(tmp_path, 1)
    assert names(tmp_path) == ["global_step_10"]


def test_the_next_checkpoint_is_as_large_as_the_last_one_or_is_told_from_the_weights(tmp_path: Path) -> None:
    assert expected_bytes(tmp_path, 1000) == 12_000
    path = checkpoint(tmp_path, 10)
    written = sum(file.stat().st_size for file in path.rglob("*.*") if file.name != SEAL)
    assert expected_bytes(tmp_path, 1000) == written
    (path / SEAL).write_text("{")
    assert expected_bytes(tmp_path, 1000) == 12_000


class Usage(NamedTuple):
    free: int


def disk(monkeypatch: pytest.MonkeyPatch, free: Callable[[], int]) -> None:
    """The one seam: a disk that is nearly full."""
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(free()))


def save_that_fails(checkpoints: Path, why: str) -> None:
    checkpoint(checkpoints, 20, finished=False)
    raise RuntimeError(why)


def test_no_save_begins_without_room_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint(tmp_path, 10, checksums=True)
    disk(monkeypatch, lambda: GIB)
    with pytest.raises(StageError) as caught, room_for(tmp_path / "global_step_20", 3 * GIB):
        pytest.fail("the save began")
    assert str(caught.value) == (
        f"{tmp_path}/global_step_20: 3.0 GiB wanted for this checkpoint, 1.0 GiB free; "
        "global_step_10 is the newest checkpoint"
    )
    assert newest(tmp_path) == tmp_path / "global_step_10"


def test_the_first_save_without_room_says_that_there_is_no_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk(monkeypatch, lambda: 0)
    words = "1.0 GiB wanted for this checkpoint, 0.0 MiB free; there is no checkpoint yet"
    with pytest.raises(StageError, match=words), room_for(tmp_path / "checkpoints" / "global_step_20", GIB):
        pytest.fail("the save began")


def test_what_was_left_unfinished_makes_room_and_damaged_ones_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = set_aside(checkpoint(tmp_path, 20, finished=False), "unfinished")
    set_aside(checkpoint(tmp_path, 15), "damaged")
    disk(monkeypatch, lambda: 0 if left.exists() else GIB)
    with room_for(tmp_path / "global_step_20", GIB):
        checkpoint(tmp_path, 20)
    assert names(tmp_path) == ["global_step_15.damaged", "global_step_20"]


def test_a_disk_that_fills_up_during_the_save_is_named_and_the_part_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint(tmp_path, 10, checksums=True)
    disk(monkeypatch, lambda: 10 if (tmp_path / "global_step_20").exists() else GIB)
    words = "global_step_20: 1.0 GiB wanted .*, 0.0 MiB free; global_step_10 is the newest"
    with pytest.raises(StageError, match=words), room_for(tmp_path / "global_step_20", GIB):
        save_that_fails(tmp_path, "PytorchStreamWriter failed writing file data/0: file write failed")
    assert names(tmp_path) == ["global_step_10"]


def test_another_error_of_the_save_stays_what_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk(monkeypatch, lambda: GIB)
    with pytest.raises(RuntimeError, match="NCCL"), room_for(tmp_path / "global_step_20", 10):
        save_that_fails(tmp_path, "NCCL timed out")
    assert names(tmp_path) == ["global_step_20"]


# ---- which run a folder may go on with -----------------------------------------------------------


def begun(recipe: Recipe) -> RunFolder:
    folder = RunFolder.of(recipe)
    write_text(folder.train / "recipe.yaml", recipe_yaml(recipe))
    return folder


def test_the_same_recipe_goes_on(make_recipe: MakeRecipe) -> None:
    folder = begun(make_recipe())
    train_run._refuse_other_run(make_recipe(), folder)
    assert (folder.train / "recipe.yaml").is_file()


@pytest.mark.parametrize(
    "changed",
    [
        {"train": {"steps": 99}},
        {"train": {"epochs": 3, "save_every": 7, "keep_checkpoints": 5}},
        {"train": {"loggers": ["wandb"], "project": "p", "stall_timeout": 99, "max_probs_diff": 0.5}},
        {"description": "another text"},
        {"evaluate": {"samples": 3}},
        {"export": {"license": "apache-2.0"}},
    ],
)
def test_what_does_not_change_the_training_may_change(make_recipe: MakeRecipe, changed: dict[str, Any]) -> None:
    folder = begun(make_recipe())
    train_run._refuse_other_run(make_recipe(**changed), folder)
    assert changed


@pytest.mark.parametrize(
    ("changed", "difference"),
    [
        ({"train": {"learning_rate": 0.5}}, "train.learning_rate: 1e-06 -> 0.5"),
        ({"train": {"batch_size": 8}}, "train.batch_size: 4 -> 8"),
        ({"train": {"kl_loss": None}}, "train.kl_loss.coef: 0.001 -> null"),
        ({"train": {"verl": {"trainer": {"critic_warmup": 3}}}}, "train.verl.*critic_warmup"),
        ({"seed": 2}, "seed: 1 -> 2"),
        ({"reward": {"tie_credit": 0.5}}, "reward.tie_credit: 0.0 -> 0.5"),
        ({"prompt": {"rubric": "rhymes"}}, 'prompt.rubric: null -> "rhymes"'),
    ],
)
def test_another_recipe_is_refused_with_its_first_difference(
    make_recipe: MakeRecipe, changed: dict[str, Any], difference: str
) -> None:
    folder = begun(make_recipe())
    with pytest.raises(InputError, match=f"holds a run with another recipe .*{difference}.*--fresh"):
        train_run._refuse_other_run(make_recipe(**changed), folder)


def test_starting_over_removes_the_run_and_nothing_else(make_recipe: MakeRecipe) -> None:
    folder = begun(make_recipe())
    checkpoint(folder.checkpoints, 10)
    folder.data.mkdir()
    train_run._forget(folder)
    assert sorted(path.name for path in folder.root.iterdir()) == ["data"]


def test_starting_over_with_a_recipe_that_cannot_start_leaves_the_run(make_recipe: MakeRecipe) -> None:
    folder = begun(make_recipe())
    checkpoint(folder.checkpoints, 10)
    with pytest.raises((InputError, StageError)):  # StageError: verl is not installed
        train_run.train(make_recipe(train={"batch_size": 5, "mini_batch_size": 3}), fresh=True)
    assert (folder.checkpoints / "global_step_10" / "checkpoint.json").is_file()


def test_starting_over_leaves_a_folder_alone_that_is_no_run(make_recipe: MakeRecipe) -> None:
    folder = RunFolder.of(make_recipe())
    folder.train.mkdir(parents=True)
    (folder.train / "thesis.txt").write_text("years of work")
    with pytest.raises(InputError, match="is not a run of pairwise-rm"):
        train_run._forget(folder)
    assert (folder.train / "thesis.txt").is_file()


def test_going_on_starts_verl_from_the_chosen_checkpoint(tmp_path: Path) -> None:
    start = checkpoint(tmp_path, 20)
    assert {setting.key: setting.value for setting in train_run._resume(start)} == {
        "trainer.resume_mode": "resume_path",
        "trainer.resume_from_path": str(start),
    }
    assert {setting.key: setting.value for setting in train_run._resume(None)} == {"trainer.resume_mode": "disable"}


def test_an_old_run_that_cannot_be_removed_stops_a_fresh_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pairwise_rm.errors import StageError
    from pairwise_rm.recipe.load import load_recipe
    from pairwise_rm.run_folder import RunFolder
    from pairwise_rm.train import run as train_run

    folder = RunFolder.of(load_recipe("smoke", [f"output_dir={tmp_path}"]))
    folder.train.mkdir()
    (folder.train / "recipe.yaml").write_text("name: smoke\n")

    def refused(path: Path) -> None:
        # The one seam: tests run as root, whom no file system refuses.
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(shutil, "rmtree", refused)
    with pytest.raises(StageError, match="--fresh cannot remove it: Permission denied"):
        train_run._forget(folder)
