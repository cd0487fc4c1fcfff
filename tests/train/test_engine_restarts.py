"""Engines that end while they judge, with a real Ray. The one seam is `EngineWorker`, the actor's class."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

ray = pytest.importorskip("ray")

from pairwise_rm.errors import StageError  # noqa: E402
from pairwise_rm.evaluate import engine  # noqa: E402
from pairwise_rm.evaluate.engine import batches_of  # noqa: E402
from pairwise_rm.evaluate.engine_failure import is_of_node  # noqa: E402
from pairwise_rm.ray_session import _connect  # noqa: E402
from tests.unit.conftest import MakeRecipe  # noqa: E402
from tests.unit.evaluate import ending_engines  # noqa: E402
from tests.unit.evaluate.ending_engines import DIES, FAILS, Judging  # noqa: E402


@pytest.fixture(scope="module", autouse=True)
def local_ray() -> Iterator[None]:
    ray.cloudpickle.register_pickle_by_value(ending_engines)
    options = {"address": "local", "num_cpus": 3, "num_gpus": 2, "include_dashboard": False, "log_to_driver": False}
    _connect({**options, "object_store_memory": 100 << 20}, "a local Ray")
    yield
    ray.shutdown()


@pytest.fixture(autouse=True)
def worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(engine, "EngineWorker", ending_engines.Worker)
    monkeypatch.setattr(engine, "worker_environment", lambda recipe: {})  # Ray then has idle processes for actors
    monkeypatch.setattr(engine, "_PAUSES", (0.0, 0.1, 0.2))
    monkeypatch.setattr(engine, "_POLL_SECONDS", 0.2)


@pytest.mark.parametrize(("name", "token"), [("kill", DIES), ("fail", FAILS)])
def test_an_engine_that_ends_is_started_again_and_its_batch_is_judged_once_more(
    tmp_path: Path, make_recipe: MakeRecipe, name: str, token: int
) -> None:
    tokens = [1, 2, token, 4, 5]
    whole = Judging(tmp_path / "whole", make_recipe).run(tokens)
    judging = Judging(tmp_path / "ended", make_recipe, **{name: 1}).run(tokens)
    assert judging.texts == whole.texts == [f"{token} at {index}" for index, token in enumerate(tokens)]
    assert sorted(judging.batches) == [[0, 1], [2, 3], [4]]
    assert judging.lines("judged") == ["[0, 1]", "[2, 3]", "[2, 3]", "[4]"]
    assert len({line.split()[0] for line in judging.lines("starts")}) == 2
    why = {"kill": "the engine's process was killed; a lack of memory is the usual cause", "fail": "CUDA error"}[name]
    assert judging.said[0].startswith("warning: engine 1 ended (")
    assert why in judging.said[0]
    assert judging.said[0].endswith("; it is started again, and its 2 rows are judged once more")
    assert judging.said[1:] == ["engine 1 has started again"]


def test_the_other_engine_goes_on_while_one_is_started_again(tmp_path: Path, make_recipe: MakeRecipe) -> None:
    tokens = [DIES, *range(20, 39)]
    judging = Judging(tmp_path / "e", make_recipe, replicas=2, kill=1).run(tokens)
    assert judging.texts == [f"{token} at {index}" for index, token in enumerate(tokens)]
    assert sorted(judging.batches) == batches_of(range(20), 2)
    assert judging.lines("judged").count("[0, 1]") == 2


def test_a_batch_that_ends_two_engines_is_the_cause_and_its_rows_are_named(
    tmp_path: Path, make_recipe: MakeRecipe
) -> None:
    judging = Judging(tmp_path / "e", make_recipe, fail=9)
    with pytest.raises(StageError) as failed:
        judging.run([1, 2, 3, FAILS, 5])
    assert str(failed.value) == (
        "vLLM ended twice at the same rows (row 2, row 3): RuntimeError: CUDA error: an illegal memory access was "
        "encountered"
    )
    assert judging.batches == [[0, 1]]


def test_an_engine_that_does_not_start_again_is_tried_three_times_and_says_both_causes(
    tmp_path: Path, make_recipe: MakeRecipe
) -> None:
    judging = Judging(tmp_path / "e", make_recipe, fail=1)
    with pytest.raises(StageError) as failed:
        judging.run([FAILS], failing_starts=9)
    assert str(failed.value).startswith("vLLM: engine 1 ended (RuntimeError: CUDA error")
    assert str(failed.value).endswith(
        ") and does not start again: RuntimeError: Free memory on device is less than desired"
    )
    assert [line.split()[1] for line in judging.lines("starts")] == ["0.0", "0.0", "0.1", "0.2"]


def test_an_engine_whose_gpu_is_not_free_at_once_starts_at_the_second_attempt(
    tmp_path: Path, make_recipe: MakeRecipe
) -> None:
    judging = Judging(tmp_path / "e", make_recipe, fail=1).run([FAILS], failing_starts=1)
    assert judging.texts == [f"{FAILS} at 0"]
    assert judging.said[1].endswith("less than desired); it is started once more")


def test_an_engine_that_gets_no_place_is_waited_for_until_the_deadline_and_says_what_it_lacks(
    tmp_path: Path, make_recipe: MakeRecipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    judging = Judging(tmp_path / "e", make_recipe, fail=1)
    monkeypatch.setattr(engine, "is_placed", lambda group: False)
    monkeypatch.setattr(engine, "why_pending", lambda bundles: "1 GPU wanted, 0 GPUs present")
    monkeypatch.setattr(engine, "_PAUSES", (60.0,))
    monkeypatch.setattr(engine, "START_DEADLINE", 1.0)
    with pytest.raises(StageError, match=r"has not started again after 1 s: 1 GPU wanted, 0 GPUs present"):
        judging.run([FAILS])
    assert judging.said[1].startswith("waiting for a place for engine 1; 1 GPU wanted, 0 GPUs present (")


def test_an_engine_that_cannot_start_at_first_fails_at_once(tmp_path: Path, make_recipe: MakeRecipe) -> None:
    judging = Judging(tmp_path / "e", make_recipe, start=1)
    with pytest.raises(StageError, match=r"^vLLM: RuntimeError: Free memory on device"):
        judging.run([1])
    assert len(judging.lines("starts")) == 1


def test_a_node_that_leaves_is_told_from_an_engine_that_its_rows_have_ended() -> None:
    assert is_of_node(RuntimeError("The actor died because its node has died. Node Id: 0a"))
    assert not is_of_node(RuntimeError("The actor died unexpectedly before finishing this task."))


def test_batches_are_cut_at_the_same_places_whatever_was_judged_before() -> None:
    assert batches_of(range(5), 2) == [[0, 1], [2, 3], [4]]
    assert batches_of([1, 4, 5, 6], 3) == [[1], [4, 5], [6]]
