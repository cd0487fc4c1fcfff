"""Sealed checkpoints, and which run a folder may go on with."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from pairwise_rm.atomic_io import write_text
from pairwise_rm.errors import InputError, StageError
from pairwise_rm.recipe.load import recipe_yaml
from pairwise_rm.recipe.model import Recipe
from pairwise_rm.run_folder import RunFolder
from pairwise_rm.train import run as train_run
from pairwise_rm.train.checkpoints import SEAL, check_seal, newest, seal, sealed, step_of
from tests.unit.conftest import MakeRecipe


def checkpoint(folder: Path, step: int, finished: bool = True) -> Path:
    """A checkpoint as verl lays it out, with a few bytes for weights."""
    path = folder / f"global_step_{step}"
    (path / "actor" / "huggingface").mkdir(parents=True)
    (path / "data.pt").write_bytes(b"data")
    (path / "actor" / "model_world_size_1_rank_0.pt").write_bytes(b"weights")
    (path / "actor" / "huggingface" / "config.json").write_text("{}")
    if finished:
        seal(path)
    return path


def test_a_sealed_checkpoint_is_whole(tmp_path: Path) -> None:
    path = checkpoint(tmp_path, 20)
    check_seal(path)
    assert newest(tmp_path) == path
    assert step_of(path) == 20


def test_sealing_again_after_a_file_grew_is_whole_again(tmp_path: Path) -> None:
    path = checkpoint(tmp_path, 20)
    (path / "data.pt").write_bytes(b"more data")
    (path / "extra.pt").write_bytes(b"new")
    seal(path)
    seal(path)
    check_seal(path)
    assert newest(tmp_path) == path


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("actor/model_world_size_1_rank_0.pt", b"weig", "cut short: .*rank_0.pt has 4 bytes, expected 7"),
        ("actor/model_world_size_1_rank_0.pt", None, "cut short: .*rank_0.pt is missing"),
        ("actor/huggingface/config.json", None, "cut short: .*config.json is missing"),
        (SEAL, None, f"not a finished checkpoint \\({SEAL} is missing\\)"),
        (SEAL, b'{"step": 20, "fi', f"cut short: {SEAL} is not what was written"),
        (SEAL, b"[]", f"cut short: {SEAL} is not what was written"),
    ],
)
def test_a_checkpoint_that_was_cut_short_is_refused_with_the_file_that_is_short(
    tmp_path: Path, name: str, content: bytes | None, words: str
) -> None:
    path = checkpoint(tmp_path, 20)
    (path / name).unlink()
    if content is not None:
        (path / name).write_bytes(content)
    with pytest.raises(InputError, match=words) as caught:
        check_seal(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


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


def test_a_damaged_newest_is_an_error_and_not_a_silent_step_back(tmp_path: Path) -> None:
    checkpoint(tmp_path, 10)
    (checkpoint(tmp_path, 20) / "data.pt").unlink()
    with pytest.raises(InputError, match=r"global_step_20: cut short: data\.pt is missing; remove this folder"):
        newest(tmp_path)


def test_a_run_without_checkpoints_has_no_newest(tmp_path: Path) -> None:
    assert newest(tmp_path / "checkpoints") is None


@pytest.mark.parametrize("name", ["actor", "global_step_", "global_step_20.unfinished"])
def test_a_folder_of_another_name_is_no_checkpoint(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match="global_step_<N>"):
        step_of(tmp_path / name)


def test_an_unfinished_checkpoint_is_set_aside_each_time(make_recipe: MakeRecipe) -> None:
    folder = RunFolder.of(make_recipe())
    checkpoint(folder.checkpoints, 10)
    for _ in range(2):
        checkpoint(folder.checkpoints, 20, finished=False)
        train_run._set_aside_unfinished(folder)
    assert sorted(path.name for path in folder.checkpoints.iterdir()) == ["global_step_10", "global_step_20.unfinished"]


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
