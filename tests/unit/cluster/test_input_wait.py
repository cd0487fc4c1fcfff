"""The order of the stages: which end of an earlier one is waited for, and which ends the waiting."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from pairwise_rm.cluster import input_wait
from pairwise_rm.cluster.input_wait import EarlierStage, await_stages
from pairwise_rm.cluster.state_file import read_state, renew
from pairwise_rm.errors import InputError, StageError
from tests.unit.cluster.stage_states import FIRST_STEP, HOUR, await_stage, put, tell


@pytest.mark.parametrize("digest", ["d1", None])
def test_a_finished_earlier_stage_is_not_waited_for(tmp_path: Path, quick: list[str], digest: str | None) -> None:
    await_stage(EarlierStage("train", digest), put(tmp_path / "t.json", state="succeeded"), 1, tell(quick))
    assert quick == []


OTHER = "3f2a0b1c9d8e"


def waited_for_another_recipe(
    path: Path, said: list[str], *, then: dict[str, object], after: float, timeout: float = 30
) -> str:
    """What waiting for `d1` ends with when the file becomes `then` a moment later."""
    timer = threading.Timer(after, put, [path], {"digest": OTHER, **then})
    timer.start()
    with pytest.raises(StageError) as raised:
        await_stage(EarlierStage("train", "d1"), path, timeout, tell(said))
    timer.join()
    return str(raised.value)


@pytest.fixture
def settling(quick: list[str], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """An upgrade takes 0.5 s here, and an end stands after 0.1 s."""
    monkeypatch.setattr(input_wait, "GRACE_SECONDS", 0.5)
    monkeypatch.setattr(input_wait, "SETTLE_SECONDS", 0.1)
    return quick


MISMATCH = (
    f"train {{}} with another recipe, {OTHER}, and this stage was made for d1: the recipe of one RayJob was changed "
    "without the others; render all of them from the same values with `helm template` "
    "(`pairwise-rm validate --manifests FILE` says which disagree)"
)


@pytest.mark.parametrize("state", ["succeeded", "failed"])
def test_an_end_with_another_recipe_from_before_is_waited_over_since_an_upgrade_leaves_it(
    tmp_path: Path, settling: list[str], state: str
) -> None:
    path = put(tmp_path / "t.json", state=state, digest=OTHER)
    with pytest.raises(StageError, match=rf"was not done .*it is not begun; {state} with another recipe, {OTHER}\)"):
        await_stage(EarlierStage("train", "d1"), path, 0.6, tell(settling))
    assert settling == [f"waiting for train (not begun; {state} with another recipe, {OTHER}) (0:00:00)"]


def test_a_run_with_another_recipe_that_an_upgrade_stops_is_waited_over(tmp_path: Path, settling: list[str]) -> None:
    path = put(tmp_path / "t.json", digest=OTHER)
    stopped: dict[str, object] = {"state": "failed", "error": "stopped before it was done"}
    assert "was not done" in waited_for_another_recipe(path, settling, then=stopped, after=0.05, timeout=1)


def test_the_right_run_after_a_stopped_one_with_another_recipe_is_taken(
    tmp_path: Path, settling: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(input_wait, "GRACE_SECONDS", 10)
    path = put(tmp_path / "t.json", state="failed", digest=OTHER)

    def right_run() -> None:
        time.sleep(0.2)
        put(path)
        while not settling or not settling[-1].startswith("waiting for train (running) "):
            time.sleep(0.01)
        put(path, state="succeeded")

    writer = threading.Thread(target=right_run, daemon=True)
    writer.start()
    await_stage(EarlierStage("train", "d1"), path, 30, tell(settling))
    writer.join()
    assert settling[-1].startswith("waiting for train (running) (0:00:")


@pytest.mark.parametrize("state", ["succeeded", "failed"])
def test_a_run_with_another_recipe_that_ends_long_after_this_stage_began_is_a_mismatch(
    tmp_path: Path, settling: list[str], state: str
) -> None:
    path = put(tmp_path / "t.json", digest=OTHER)
    assert waited_for_another_recipe(path, settling, then={"state": state}, after=0.6) == MISMATCH.format(state)
    assert settling[0] == f"waiting for train (running with another recipe, {OTHER}) (0:00:00)"


@pytest.mark.parametrize("before", [None, {"digest": "0ld"}, {"digest": OTHER, "state": "failed"}])
def test_a_run_with_another_recipe_that_began_after_this_stage_and_ended_is_a_mismatch_at_once(
    tmp_path: Path, settling: list[str], before: dict[str, object] | None
) -> None:
    path = put(tmp_path / "t.json", **before) if before else tmp_path / "t.json"
    assert waited_for_another_recipe(path, settling, then={"state": "failed"}, after=0.05) == MISMATCH.format("failed")


def test_an_end_with_another_recipe_over_which_the_right_run_writes_is_no_mismatch(
    tmp_path: Path, settling: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(input_wait, "SETTLE_SECONDS", 5)
    path = put(tmp_path / "t.json", digest=OTHER)

    def right_run() -> None:
        time.sleep(0.6)
        for changed in ({"digest": OTHER, "state": "succeeded"}, {}, {"state": "succeeded"}):
            put(path, **changed)
            time.sleep(0.1)

    writer = threading.Thread(target=right_run)
    writer.start()
    await_stage(EarlierStage("train", "d1"), path, 10, tell(settling))
    writer.join()
    assert settling[0] == f"waiting for train (running with another recipe, {OTHER}) (0:00:00)"


def test_a_run_with_another_recipe_whose_pod_is_gone_counts_as_not_begun(
    tmp_path: Path, settling: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = put(tmp_path / "t.json", digest=OTHER)
    monkeypatch.setattr(input_wait, "LOST_SECONDS", 0.05)
    with pytest.raises(StageError, match=r"train was not done after 0:00:00 \(it is not begun\)"):
        await_stage(EarlierStage("train", "d1"), path, 0.2, tell(settling))
    assert settling == [
        f"waiting for train (running with another recipe, {OTHER}) (0:00:00)",
        "waiting for train (not begun) (0:00:00)",
    ]


def test_the_end_of_the_earlier_stage_ends_the_waiting(tmp_path: Path, quick: list[str]) -> None:
    path = put(tmp_path / "t.json")
    timer = threading.Timer(0.1, put, [path], {"state": "succeeded"})
    timer.start()
    await_stage(EarlierStage("train", "d1"), path, 10, tell(quick))
    assert quick == ["waiting for train (running) (0:00:00)"]


def test_a_failure_of_the_earlier_stage_fails_this_one_at_once_and_names_it(tmp_path: Path, quick: list[str]) -> None:
    path = tmp_path / "t.json"
    timer = threading.Timer(0.1, put, [path], {"state": "failed", "error": "out of memory"})
    timer.start()
    with pytest.raises(StageError, match="train failed, so there is nothing to do here: out of memory"):
        await_stage(EarlierStage("train", "d1"), path, 10, tell(quick))


def test_a_failure_of_a_stage_that_began_a_moment_earlier_counts_at_once(tmp_path: Path, quick: list[str]) -> None:
    path = put(tmp_path / "t.json", state="failed", since=time.time() - 20, error="no such file")
    with pytest.raises(StageError, match="train failed, so there is nothing to do here: no such file"):
        await_stage(EarlierStage("train", "d1"), path, 10, tell(quick))
    assert quick == []


def test_a_failure_from_before_is_given_time_to_be_retried(
    tmp_path: Path, quick: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = put(tmp_path / "t.json", state="failed", since=time.time() - 600, error="an earlier attempt's")
    with pytest.raises(StageError, match="was not done"):
        await_stage(EarlierStage("train", "d1"), path, 0.1, tell(quick))
    monkeypatch.setattr(input_wait, "GRACE_SECONDS", 0.05)
    with pytest.raises(StageError, match=r"train failed.*an earlier attempt's"):
        await_stage(EarlierStage("train", "d1"), path, 10, tell(quick))


def test_a_failure_that_kuberay_may_try_again_is_waited_over_and_the_new_run_is_taken(
    tmp_path: Path, quick: list[str]
) -> None:
    path = put(tmp_path / "t.json", state="failed", since=time.time() - 5, error="the head is gone")
    runs = [(0.2, {}), (0.4, {"state": "failed", "error": "again"}), (0.6, {}), (0.8, {"state": "succeeded"})]
    timers = [threading.Timer(after, put, [path], then) for after, then in runs]
    for timer in timers:
        timer.start()
    await_stage(EarlierStage("train", "d1"), path, 10, tell(quick), retry_timeout=5)
    assert [line.partition(" (0:")[0] for line in quick] == [
        f"waiting for train ({state})" for state in ("failed", "running", "failed", "running")
    ]


def test_a_failure_that_is_not_tried_again_in_time_counts(tmp_path: Path, quick: list[str]) -> None:
    path = put(tmp_path / "t.json", state="failed", since=time.time() - 5, error="the head is gone")
    began = time.monotonic()
    with pytest.raises(StageError, match="train failed, so there is nothing to do here: the head is gone"):
        await_stage(EarlierStage("train", "d1"), path, 10, tell(quick), retry_timeout=0.3)
    assert time.monotonic() - began >= 0.3


@pytest.mark.parametrize("since", [0, 20, 600])
def test_a_failure_of_another_attempt_is_waited_over_until_the_new_one_has_ended(
    tmp_path: Path, quick: list[str], monkeypatch: pytest.MonkeyPatch, since: int
) -> None:
    monkeypatch.setattr(input_wait, "GRACE_SECONDS", 0.05)
    path = put(tmp_path / "t.json", state="failed", since=time.time() - since, error="an earlier attempt's")
    ends = {0.3: {"attempt": "2"}, 0.6: {"attempt": "2", "state": "failed", "error": "the new one's"}}
    for timer in (threading.Timer(after, put, [path], then) for after, then in ends.items()):
        timer.start()
    with pytest.raises(StageError, match="train failed, so there is nothing to do here: the new one's"):
        await_stage(EarlierStage("train", "d1"), path, 10, tell(quick), "2")
    assert quick[:2] == [
        "waiting for train (not begun; failed in another attempt) (0:00:00)",
        "waiting for train (running) (0:00:00)",
    ]


def test_a_run_of_another_attempt_that_is_not_stopped_is_the_one_to_wait_for(
    tmp_path: Path, quick: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(input_wait, "GRACE_SECONDS", 0.1)
    path = put(tmp_path / "t.json")
    timer = threading.Timer(0.5, put, [path], {"state": "failed", "error": "out of memory"})
    timer.start()
    with pytest.raises(StageError, match="train failed, so there is nothing to do here: out of memory"):
        await_stage(EarlierStage("train", "d1"), path, 10, tell(quick), "2")


def test_a_run_of_another_attempt_that_is_stopped_as_this_one_begins_is_waited_over(
    tmp_path: Path, quick: list[str]
) -> None:
    path = put(tmp_path / "t.json")
    timer = threading.Timer(0.1, put, [path], {"state": "failed", "error": "stopped before it was done"})
    timer.start()
    with pytest.raises(StageError, match=r"was not done after .*it is not begun; failed in another attempt"):
        await_stage(EarlierStage("train", "d1"), path, 0.6, tell(quick), "2")


def test_what_another_attempt_has_done_is_done(tmp_path: Path, quick: list[str]) -> None:
    path = put(tmp_path / "t.json", state="succeeded", attempt="1")
    await_stage(EarlierStage("train", "d1"), path, 1, tell(quick), "2")


def test_a_failure_in_the_future_of_a_clock_that_is_ahead_is_given_time_to_be_retried_too(
    tmp_path: Path, quick: list[str]
) -> None:
    path = put(tmp_path / "t.json", state="failed", since=time.time() + HOUR, error="an earlier attempt's")
    with pytest.raises(StageError, match="was not done"):
        await_stage(EarlierStage("train", "d1"), path, 0.1, tell(quick))


@pytest.mark.parametrize("ahead", [-HOUR, 0, HOUR])
def test_an_earlier_stage_whose_pod_is_gone_is_not_waited_for(
    tmp_path: Path, quick: list[str], monkeypatch: pytest.MonkeyPatch, ahead: float
) -> None:
    path = put(tmp_path / "t.json", progress=FIRST_STEP.as_json(), heartbeat=time.time() + ahead)
    monkeypatch.setattr(input_wait, "LOST_SECONDS", 0.05)
    with pytest.raises(StageError, match=r"train has not been heard of for 0:00:00 \(it was running: step 1/2 "):
        await_stage(EarlierStage("train", "d1"), path, 10, tell(quick))


@pytest.mark.parametrize("ahead", [-HOUR, HOUR])
def test_no_clock_that_is_set_or_differs_makes_a_living_stage_lost(
    tmp_path: Path, quick: list[str], monkeypatch: pytest.MonkeyPatch, ahead: float
) -> None:
    monkeypatch.setattr(input_wait, "LOST_SECONDS", 2.0)
    path = put(tmp_path / "t.json", since=time.time() + ahead, heartbeat=time.time() + ahead)

    def beat() -> None:
        for beats in range(20):  # and this one is set by an hour half way
            time.sleep(0.15)
            put(path, heartbeat=time.time() + (ahead if beats < 10 else 0))
        put(path, state="succeeded")

    writer = threading.Thread(target=beat)
    writer.start()
    await_stage(EarlierStage("train", "d1"), path, 30, tell(quick))
    writer.join()
    assert quick == ["waiting for train (running) (0:00:00)"]


def test_a_line_of_progress_comes_when_something_is_new_and_then_at_a_pace(
    tmp_path: Path, quick: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(input_wait, "TELL_SECONDS", 0.2)
    with pytest.raises(StageError):
        await_stage(EarlierStage("train", "d1"), put(tmp_path / "t.json"), 0.5, tell(quick))
    assert 2 <= len(quick) <= 4


# What the chart gives to export.
BOTH = (EarlierStage("train", "d2"), EarlierStage("evaluate", None))


@pytest.fixture
def finished(tmp_path: Path) -> tuple[Path, Path]:
    """The files of a run that has finished with another recipe, train's and evaluate's, as an upgrade finds them."""
    old: dict[str, object] = {"state": "succeeded", "since": time.time() - HOUR}
    return put(tmp_path / "train.json", digest="d1", **old), put(tmp_path / "evaluate.json", digest="e1", **old)


def test_export_waits_for_the_judge_of_its_recipe_though_an_earlier_one_is_evaluated(
    finished: tuple[Path, Path], quick: list[str]
) -> None:
    trained = threading.Timer(0.2, put, [finished[0]], {"digest": "d2", "state": "succeeded"})
    trained.start()
    await_stages(list(zip(BOTH, finished, strict=True)), 10, tell(quick))
    assert not trained.is_alive()
    assert quick == ["waiting for train (not begun; succeeded with another recipe, d1) (0:00:00)"]


def test_export_waits_for_the_evaluation_of_that_judge_however_late_it_begins(
    finished: tuple[Path, Path], quick: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(input_wait, "STALE_SECONDS", 0.05)
    train, evaluate = finished
    runs: list[tuple[float, Path, dict[str, object]]] = [
        (0.2, train, {"digest": "d2", "state": "succeeded"}),
        (0.4, evaluate, {"digest": "e2", "state": "running"}),
        (0.6, evaluate, {"digest": "e2", "state": "succeeded"}),
    ]
    for after, path, then in runs:
        threading.Timer(after, put, [path], then).start()
    await_stages(list(zip(BOTH, finished, strict=True)), 10, tell(quick))
    assert quick == [
        "waiting for train (not begun; succeeded with another recipe, d1) (0:00:00)",
        "waiting for evaluate (not begun; succeeded before) (0:00:00)",
        "waiting for evaluate (running) (0:00:00)",
    ]


def test_an_evaluation_that_finds_itself_done_is_the_one_that_export_waits_for(
    finished: tuple[Path, Path], quick: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(input_wait, "STALE_SECONDS", 0.05)
    train, evaluate = finished
    done = read_state(evaluate)
    assert done is not None
    threading.Timer(0.2, put, [train], {"digest": "d2", "state": "succeeded"}).start()
    threading.Timer(0.4, renew, [evaluate, done]).start()
    await_stages(list(zip(BOTH, finished, strict=True)), 10, tell(quick))
    assert quick[-1] == "waiting for evaluate (not begun; succeeded before) (0:00:00)"


def test_an_evaluation_of_another_configuration_is_as_good_to_export(
    finished: tuple[Path, Path], quick: list[str]
) -> None:
    put(finished[0], digest="d2", state="succeeded")
    await_stages(list(zip(BOTH, finished, strict=True)), 1, tell(quick))
    assert quick == []


def test_a_failure_of_evaluate_ends_the_waiting_while_train_is_at_work(
    finished: tuple[Path, Path], quick: list[str]
) -> None:
    put(finished[0], digest="d2")
    put(finished[1], digest="e2", state="failed", error="no such file")
    with pytest.raises(StageError, match="evaluate failed, so there is nothing to do here: no such file"):
        await_stages(list(zip(BOTH, finished, strict=True)), 10, tell(quick))


@pytest.mark.parametrize("text", ["evaluate", "train=d1", "serve"])
def test_a_stage_waits_only_for_one_that_comes_before_it(text: str) -> None:
    with pytest.raises(InputError, match=f"--after {text}: expected one of convert before train"):
        EarlierStage.parse(text, "train")
