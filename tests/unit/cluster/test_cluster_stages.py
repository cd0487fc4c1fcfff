"""A stage on the cluster, as far as files go: its state, the order, the recipe's ConfigMap, the upload."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from pairwise_rm.atomic_io import write_json
from pairwise_rm.cluster import input_wait, ray_job
from pairwise_rm.cluster.gpu_request import Demand, GpuRequest, demand_of
from pairwise_rm.cluster.input_wait import EarlierStage, await_stages
from pairwise_rm.cluster.ray_job import how_ended, own_submission_id
from pairwise_rm.cluster.recipe_mount import await_recipe
from pairwise_rm.cluster.run import ClusterReporter, Job, run_job
from pairwise_rm.cluster.state_file import Silence, StageState, StateWriter, read_state, state_file
from pairwise_rm.cluster.upload import check_target, upload
from pairwise_rm.errors import InputError, StageError
from pairwise_rm.progress import Line, Retry, Step, Waiting
from pairwise_rm.recipe.load import digest_of, load_recipe, recipe_yaml
from tests.bad_recipes import write_files
from tests.unit.conftest import MakeRecipe


def put(path: Path, **changed: object) -> Path:
    now = time.time()
    value = {"stage": "train", "digest": "d1", "state": "running", "since": now, "heartbeat": now, **changed}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, value)
    return path


FIRST_STEP = Line("train", "train", Step(1, 2, 0.5, 0.5, 1.0, None, 9.1, 9.1))


# ---- state ---------------------------------------------------------------------------------------


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


HOUR = 3600.0


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


# ---- order ---------------------------------------------------------------------------------------


def await_stage(
    earlier: EarlierStage,
    path: Path,
    timeout: float,
    say: Callable[[Waiting], None],
    attempt: str = "",
    retry_timeout: float = 0.0,
) -> None:
    """Waits for one stage."""
    await_stages([(earlier, path)], timeout, say, attempt, retry_timeout)


def tell(lines: list[str]) -> Callable[[Waiting], None]:
    return lambda event: lines.append(str(event))


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setattr(input_wait, "POLL_SECONDS", 0.01)
    return []


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
    monkeypatch.setattr(input_wait, "LOST_SECONDS", 0.5)
    path = put(tmp_path / "t.json", since=time.time() + ahead, heartbeat=time.time() + ahead)

    def beat() -> None:
        for beats in range(20):  # and this one is set by an hour half way
            time.sleep(0.05)
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


# ---- recipe --------------------------------------------------------------------------------------


def test_a_recipe_that_is_mounted_already_is_taken_at_once(tmp_path: Path) -> None:
    (tmp_path / "train.yaml").write_text("name: t\n")
    said: list[str] = []
    await_recipe(tmp_path / "train.yaml", digest_of(b"name: t\n"), tell(said))
    assert said == []


def test_a_recipe_that_comes_later_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pairwise_rm.cluster.recipe_mount._POLL_SECONDS", 0.01)
    path = tmp_path / "train.yaml"
    path.write_text("old")
    threading.Timer(0.1, path.write_text, ["new"]).start()
    said: list[str] = []
    await_recipe(path, digest_of(b"new"), tell(said))
    assert said == ["waiting for the recipe's ConfigMap to reach this pod, up to two minutes (0:00:00)"]


def test_a_recipe_that_a_later_release_replaced_ends_the_job(tmp_path: Path) -> None:
    (tmp_path / "train.yaml").write_text("newer")
    with pytest.raises(StageError, match="a later release has replaced the recipe"):
        await_recipe(tmp_path / "train.yaml", "0123456789ab", lambda text: None, timeout=0)


def test_a_config_map_that_is_not_mounted_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="the recipe's ConfigMap is not mounted"):
        await_recipe(tmp_path / "no" / "train.yaml", "0123456789ab", lambda event: pytest.fail(str(event)))


# ---- GPUs and upload -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stage", "demand"),
    [("convert", None), ("train", Demand(2, 8)), ("evaluate", Demand(4, 4)), ("export", None)],
)
def test_each_stage_asks_for_the_gpus_of_the_recipe(stage: str, demand: Demand | None) -> None:
    assert demand_of(stage, load_recipe("qwen3-32b-2x8x80g")) == demand


def test_an_upload_is_complete_when_its_manifest_is_there(tmp_path: Path) -> None:
    folder = tmp_path / "export"
    (folder / "deep").mkdir(parents=True)
    (folder / "deep" / "a.txt").write_text("abc")
    assert upload(folder, f"file://{tmp_path}/store") == f"file://{tmp_path}/store/export"
    assert (tmp_path / "store" / "export" / "deep" / "a.txt").read_text() == "abc"
    manifest = json.loads((tmp_path / "store" / "export" / "manifest.json").read_text())
    assert manifest == {"files": {"deep/a.txt": 3}}


@pytest.mark.parametrize("uri", ["bucket/path", "nosuch://bucket"])
def test_a_target_that_is_no_store_is_told_before_anything_runs(uri: str) -> None:
    with pytest.raises(InputError, match=r"storage\.upload: "):
        check_target(uri)


def test_a_store_that_refuses_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "export").mkdir()
    (tmp_path / "export" / "a").write_text("x")
    (tmp_path / "store").write_text("a file stands in the way")
    with pytest.raises(StageError, match=r"storage\.upload: file://.*Error"):
        upload(tmp_path / "export", f"file://{tmp_path}/store")


# ---- the command ---------------------------------------------------------------------------------


@pytest.fixture
def convert_recipe(make_recipe: MakeRecipe, tmp_path: Path) -> Path:
    row = {"prompt": "q", "response_1": "a", "response_2": "b", "preference_strength": 1}
    rows = [{**row, "prompt": f"q{n}", "split": split} for n, split in enumerate(["train", "val"])]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    configs = {"path": str(tmp_path / "pairs.jsonl"), "source": "helpsteer2_pairwise"}
    export = {"output_dir": str(tmp_path / "data"), "split": "official"}
    path = tmp_path / "convert.yaml"
    path.write_text(recipe_yaml(make_recipe(data={"configs": configs, "export": export})))
    return path


def stage(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if key != "RAY_ADDRESS"}
    command = [sys.executable, "-m", "pairwise_rm", "stage", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment, check=False)


def test_a_stage_runs_records_itself_and_is_not_done_twice(convert_recipe: Path, tmp_path: Path) -> None:
    first = stage("convert", "--recipe", str(convert_recipe))
    assert first.returncode == 0, first.stderr
    state = read_state(tmp_path / "data" / "stages" / "convert.json")
    assert state is not None
    assert (state.state, state.digest) == ("succeeded", digest_of(convert_recipe.read_bytes()))
    second = stage("convert", "--recipe", str(convert_recipe))
    assert second.returncode == 0
    assert "already done with this recipe" in second.stdout


def test_a_stage_that_fails_says_why_in_its_state(convert_recipe: Path, tmp_path: Path) -> None:
    (tmp_path / "pairs.jsonl").unlink()
    done = stage("convert", "--recipe", str(convert_recipe))
    state = read_state(tmp_path / "data" / "stages" / "convert.json")
    assert state is not None
    assert done.returncode == 2
    assert state.state == "failed"
    assert done.stderr == f"error: {state.error}\n"


def test_a_stage_waits_for_each_stage_that_its_command_names(convert_recipe: Path, tmp_path: Path) -> None:
    stages = tmp_path / "run" / "stages"
    put(stages / "train.json", digest="d1", state="succeeded")
    put(stages / "evaluate.json", stage="evaluate", digest="e1", state="succeeded")
    waits = ["--after", "train=d2", "--after", "evaluate", "--input-timeout", "0"]
    done = stage("export", "--recipe", str(convert_recipe), *waits)
    assert done.returncode == 1
    assert "train was not done after 0:00:00 (it is not begun; succeeded with another recipe, d1)" in done.stderr


def test_a_stage_that_is_stopped_says_so_in_its_state(convert_recipe: Path, tmp_path: Path) -> None:
    path = tmp_path / "run" / "stages" / "train.json"
    command = [sys.executable, "-m", "pairwise_rm", "stage", "train", "--recipe", str(convert_recipe)]
    process = subprocess.Popen([*command, "--after", "convert"], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert "waiting for convert (not begun)" in process.stdout.readline()
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 130
    process.stdout.close()
    state = read_state(path)
    assert state is not None
    assert (state.state, state.error) == ("failed", "stopped before it was done")


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Demand]:
    """The seam: a Ray cluster whose GPUs never come; holds what was asked for."""
    found: list[Demand] = []

    def acquire(self: GpuRequest, timeout: float, say: Callable[[Waiting], None]) -> None:
        found.append(self.demand)
        raise StageError("no GPUs")

    monkeypatch.setenv("RAY_ADDRESS", "ray://nowhere")
    monkeypatch.setattr(GpuRequest, "acquire", acquire)
    return found


@pytest.mark.parametrize("name", ["train", "evaluate"])
@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda folder: (folder / "data" / "preference_test.parquet").write_text("x"), "not a readable parquet"),
        (lambda folder: (folder / "model" / "config.json").unlink(), "no config.json"),
        (lambda folder: (folder / "model" / "chat_template.jinja").write_text("Hello"), "leaves out the user's text"),
        (None, "no GPUs"),
    ],
)
def test_a_stage_asks_for_gpus_only_when_all_is_checked_that_needs_none(
    convert_recipe: Path,
    tmp_path: Path,
    asked: list[Demand],
    name: str,
    spoil: Callable[[Path], object] | None,
    words: str,
) -> None:
    for package in ("transformers", "pyarrow", "verl", "vllm"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"needs {package}")
    write_files(tmp_path)
    text = convert_recipe.read_text().replace("batch_size: 4", "batch_size: 2")
    convert_recipe.write_text(text)
    run_job(Job("convert", convert_recipe, None, (), 1, 1, None), lambda line: None)
    if spoil is None:
        with pytest.raises(StageError, match=words):
            run_job(Job(name, convert_recipe, None, (), 1, 1, None), lambda line: None)
        assert len(asked) == 1
        return
    spoil(tmp_path)
    with pytest.raises(InputError, match=words):
        run_job(Job(name, convert_recipe, None, (), 1, 1, None), lambda line: None)
    assert asked == []


def test_a_stage_refuses_its_recipe_before_it_waits_for_the_stage_before_it(
    convert_recipe: Path, tmp_path: Path
) -> None:
    written: list[str] = []
    convert_recipe.write_text(convert_recipe.read_text().replace("batch_size: 4", "batch_size: 5"))
    with pytest.raises(InputError, match=r"convert\.yaml:\d+: train\.batch_size: must be a multiple of"):
        run_job(Job("train", convert_recipe, None, ("convert",), 600, 1, None), written.append)
    assert not any("waiting for" in line for line in written)
    state = read_state(tmp_path / "run" / "stages" / "train.json")
    assert state is not None
    assert state.state == "failed"


# ---- a stage that was killed -------------------------------------------------------------------------


@pytest.fixture
def dashboard(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    """A server that answers as Ray's dashboard does: the status of each job, and 404 for any other."""
    jobs: dict[str, str] = {}

    class Dashboard(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            job = self.path.removeprefix("/api/jobs/")
            known = job in jobs and self.headers["Authorization"] == "Bearer secret"
            self.send_response(200 if known else 404)
            self.end_headers()
            self.wfile.write(json.dumps({"status": jobs.get(job)}).encode() if known else b"not found")

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Dashboard)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr(ray_job, "DASHBOARD", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("RAY_AUTH_TOKEN", "secret")
    yield jobs
    server.shutdown()


def test_a_job_that_has_ended_is_told_apart_from_one_that_runs_and_one_that_is_not_known(
    dashboard: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    dashboard.update({"a": "RUNNING", "b": "FAILED", "c": "STOPPED"})
    assert [how_ended(job) for job in "abcd"] == [None, "FAILED", "STOPPED", None]
    monkeypatch.setattr(ray_job, "DASHBOARD", "http://127.0.0.1:9")
    assert how_ended("b") is None


def test_a_stage_knows_the_id_that_it_was_submitted_under(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("RAY_JOB_CONFIG_JSON_ENV_VAR", raising=False)
    assert own_submission_id() is None
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", json.dumps({"metadata": {"job_submission_id": "train-x7"}}))
    with StateWriter(tmp_path / "train.json", "train", "d1"):
        state = read_state(tmp_path / "train.json")
    assert state is not None
    assert state.ray_job == "train-x7"


def test_a_stage_that_was_killed_is_noticed_by_its_ray_job_and_not_ten_minutes_later(
    tmp_path: Path, quick: list[str], dashboard: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(input_wait, "ASK_SECONDS", 0.02)
    monkeypatch.setattr(input_wait, "SETTLE_SECONDS", 0.2)
    dashboard["train-x7"] = "FAILED"
    path = put(tmp_path / "t.json", ray_job="train-x7", progress=FIRST_STEP.as_json())
    with pytest.raises(StageError, match=r"train was killed: its Ray job has FAILED, and it was running: step 1/2"):
        await_stage(EarlierStage("train", "d1"), path, 30, tell(quick))


def test_a_stage_that_writes_its_end_a_moment_after_its_job_has_ended_was_not_killed(
    tmp_path: Path, quick: list[str], dashboard: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(input_wait, "ASK_SECONDS", 0.02)
    monkeypatch.setattr(input_wait, "SETTLE_SECONDS", 5)
    dashboard["train-x7"] = "SUCCEEDED"
    path = put(tmp_path / "t.json", ray_job="train-x7")
    threading.Timer(0.3, put, [path], {"ray_job": "train-x7", "state": "succeeded"}).start()
    await_stage(EarlierStage("train", "d1"), path, 30, tell(quick))


# ---- a stage that tries again by itself ----------------------------------------------------------------

AGAIN = Retry(2, 9, 4, 5.0, "WorkerDict (pid 7 on 10.0.0.7) died: its node left")


def test_a_stage_that_tries_again_says_so_until_a_step_shows_that_the_new_attempt_works(tmp_path: Path) -> None:
    path, log = tmp_path / "train.json", list[str]()
    reporter = ClusterReporter("train", log.append)

    def now() -> tuple[str, str | None]:
        state = read_state(path)
        assert state is not None
        return state.state, state.error

    with StateWriter(path, "train", "d1") as reporter.state, reporter.part("train") as part:
        part.say(AGAIN)
        retrying = ("retrying", AGAIN.reason)
        assert now() == retrying
        reporter.wait(Waiting("GPUs: 1 wanted, 0 there", 3))
        assert now() == retrying
        reporter.go_on()
        part.say("starting Ray")
        assert now() == retrying
        part.say(Step(5, 20, 0.5, 0.5, 1.0, None, 9.1, 9.1))
        assert now() == ("running", None)
    assert now() == ("succeeded", None)
    assert [json.loads(line)["event"] for line in log if "attempt" in line] == ["retry"]


def test_a_stage_that_tries_again_is_waited_for(tmp_path: Path, quick: list[str]) -> None:
    path = put(
        tmp_path / "t.json", state="retrying", error=AGAIN.reason, progress=Line("train", "train", AGAIN).as_json()
    )
    threading.Timer(0.2, put, [path], {"state": "succeeded"}).start()
    await_stage(EarlierStage("train", "d1"), path, 30, tell(quick))
    assert quick == ["waiting for train (retrying) (0:00:00)"]


def test_an_unknown_stage_is_refused() -> None:
    done = stage("serve", "--recipe", "x.yaml")
    assert (done.returncode, done.stderr) == (
        2, "error: stage 'serve': expected one of convert, train, evaluate, export\n"
    )  # fmt: skip
