"""How a stage stands follows from its RayJob's status alone; the log adds how far it is."""

from __future__ import annotations

import dataclasses

import pytest

from pairwise_rm.cluster.run import ClusterReporter
from pairwise_rm.k8s.objects import Gpus
from pairwise_rm.k8s.snapshot import Snapshot, newest_jobs
from pairwise_rm.k8s.stage_status import StageView, cause, other_version_note, state_of, view
from pairwise_rm.progress import Begin, End, Failure, Line, Retry, Waiting
from tests.unit.k8s_objects import AT, NOW, STEP, WAITS, job, said, submitter, worker


def seen(rayjob: dict[str, object], *lines: str, pods: list[dict[str, object]] | None = None) -> StageView:
    snapshot = Snapshot("judge", "ml", newest_jobs([rayjob]), pods=pods or [], now=NOW)
    return view(snapshot, "train", [f"{AT} {line}" for line in lines])


@pytest.mark.parametrize(
    ("deployment", "ray", "state"),
    [
        ("", "", "submitted"),
        ("Initializing", "", "starting"),
        ("Running", "", "starting"),
        ("Running", "PENDING", "starting"),
        ("Running", "RUNNING", "running"),
        ("Running", "SUCCEEDED", "running"),
        ("Complete", "SUCCEEDED", "succeeded"),
        ("Complete", "STOPPED", "stopped"),
        ("Complete", "FAILED", "failed"),
        ("Failed", "FAILED", "failed"),
        ("Failed", "RUNNING", "failed"),
        ("Failed", "SUCCEEDED", "failed"),
        ("ValidationFailed", "", "failed"),
        ("Retrying", "FAILED", "retrying"),
        ("Waiting", "", "starting"),
        ("Suspending", "RUNNING", "suspended"),
        ("Suspended", "", "suspended"),
        ("ANewOne", "", "starting"),
    ],
)
def test_the_state_is_that_of_the_rayjob(deployment: str, ray: str, state: str) -> None:
    assert state_of(job(deployment=deployment, ray=ray)) == state


def test_a_completed_submitter_pod_does_not_make_a_failed_job_succeed() -> None:
    found = seen(job(deployment="Failed", ray="FAILED"), pods=[submitter(phase="Succeeded")])
    assert found.state == "failed"


def test_a_running_step_is_shown_with_the_time_that_is_left_since_it_was_written() -> None:
    found = seen(job(), said(STEP))
    assert (found.state, found.note, found.step) == ("running", "step 3/20  reward 0.412  accuracy 0.500", STEP)
    assert found.left == pytest.approx(150, abs=1)


def test_a_stage_that_says_it_waits_is_waiting() -> None:
    found = seen(job(), said(WAITS))
    assert (found.state, found.waits_for) == ("waiting", "convert (running)")
    assert str(found) == "waiting for convert (running)"


def test_a_stage_that_waits_for_gpus_says_how_long() -> None:
    found = seen(job(), said(Waiting("GPUs: 8 wanted, 0 there", 60)))
    assert str(found) == "waiting for GPUs: 8 wanted, 0 there, 1 min 10 s"


AGAIN = Retry(2, 9, 2, 5.0, "WorkerDict (pid 7 on 10.0.0.7) died: its node left")


def test_a_stage_that_tries_again_says_why_and_what_the_new_attempt_is_at() -> None:
    pods = [worker(gpus=8)]
    found = seen(job(), said(STEP), said(AGAIN), pods=pods)
    assert str(found) == "retrying, attempt 2 after step 2: WorkerDict (pid 7 on 10.0.0.7) died: its node left"
    assert (found.left, found.step, found.gpus) == (None, None, Gpus(held=8))
    found = seen(job(), said(STEP), said(AGAIN), said(Waiting("GPUs: 8 wanted, 0 there", 60)))
    assert found.state == "retrying"
    assert found.note.startswith("attempt 2 after step 2; waiting for GPUs: 8 wanted, 0 there")
    assert found.note.endswith("died: its node left")
    assert seen(job(), said(AGAIN), said(STEP)).state == "running", "a step shows that the new attempt works"


def test_a_stage_that_has_given_up_has_failed_whatever_it_tried() -> None:
    found = seen(job(deployment="Failed", ray="FAILED"), said(AGAIN), str(Line("train", None, Failure("gave up"))))
    assert str(found) == "failed: gave up"


@pytest.mark.parametrize(
    ("line", "note"),
    [("accuracy 0.973 [0.948, 0.988]", "accuracy 0.973 [0.948, 0.988]"), ("test  128 pairs = 256 rows", "")],
)
def test_of_a_stage_that_is_done_only_its_result_is_shown(line: str, note: str) -> None:
    assert seen(job(deployment="Complete", ray="SUCCEEDED"), said(line)).note == note


def test_the_result_of_an_evaluation_is_shown_though_it_says_where_its_report_is_after_that() -> None:
    logged: list[str] = []
    reporter = ClusterReporter("evaluate", logged.append)
    with reporter.part("evaluate after", "m") as part:
        part.say("accuracy 0.973 [0.948, 0.988]")
    reporter.say("report: /mnt/runs/report.html")
    assert seen(job(deployment="Complete", ray="SUCCEEDED"), *logged).note == "accuracy 0.973 [0.948, 0.988]"


@pytest.mark.parametrize(("versions", "age"), [((0,), "older"), ((2,), "newer"), ((None, 0, 2), "newer")])
def test_an_image_of_another_version_is_named_older_or_newer(versions: tuple[int | None, ...], age: str) -> None:
    views = [dataclasses.replace(seen(job()), lines_version=version) for version in versions]
    assert f"the image is {age} than this pairwise-rm" in (other_version_note(views) or "")
    assert other_version_note([seen(job())]) is None


def test_a_stage_that_has_ended_has_no_time_left_and_keeps_its_last_step() -> None:
    found = seen(
        job(deployment="Complete", ray="SUCCEEDED", endTime="2025-10-09T08:55:20Z"), said(STEP), said(End(120))
    )
    assert (found.left, found.seconds, found.step) == (None, 120.0, STEP)


def test_gpus_are_shown_for_the_stage_that_works_and_not_for_those_that_wait_for_it() -> None:
    pods = [worker(gpus=8)]
    assert seen(job(), said(STEP), pods=pods).gpus == Gpus(held=8)
    assert seen(job(), said(Waiting("GPUs: 8 wanted, 0 there", 10)), pods=pods).gpus == Gpus(held=8)
    assert seen(job(), said(WAITS), pods=pods).gpus == Gpus()


@pytest.mark.parametrize(
    ("status", "log", "words"),
    [
        ({"message": "x"}, [said(Failure("the disk is full"))], "the disk is full"),
        (
            {"message": f"Job failed, last logs:\n{said(Begin(''))}\n{said(Failure('no such folder'))}\n"},
            [],
            "no such folder",
        ),
        (
            {"message": "Ray head pod not found.", "reason": "AppFailed"},
            ["hello"],
            "AppFailed: Ray head pod not found.",
        ),
        ({"reason": "DeadlineExceeded"}, [], "DeadlineExceeded"),
        ({}, [], "FAILED"),
    ],
)
def test_the_cause_is_the_commands_own_line_before_kuberays(status: dict[str, str], log: list[str], words: str) -> None:
    assert cause(job(deployment="Failed", ray="FAILED", **status), log) == words


def test_a_stage_that_a_queue_holds_back_names_the_queue() -> None:
    held = job(deployment="Suspended", ray="")
    held["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] = "a100"
    assert str(seen(held)) == "suspended, in queue a100"


@pytest.mark.parametrize(
    ("message", "why"),
    [
        (
            "The RayJob spec is invalid: BackoffLimit is incompatible with ClusterSelector mode",
            "BackoffLimit is incompatible with ClusterSelector mode",
        ),
        (
            "authOptions.mode is 'token' but RayVersion format is invalid: x, no version",
            "authOptions.mode is 'token' but RayVersion format is invalid: x, no version",
        ),
    ],
)
def test_a_rayjob_that_kuberay_refuses_says_why(message: str, why: str) -> None:
    refused = job(deployment="ValidationFailed", ray="", message=message, reason="ValidationFailed")
    assert seen(refused).note == f"refused by KubeRay for good: {why}; change the values"


@pytest.mark.parametrize(("deployment", "ray"), [("Retrying", "FAILED"), ("Suspended", "")])
def test_a_stage_that_does_not_run_at_the_moment_has_no_step_of_its_last_attempt(deployment: str, ray: str) -> None:
    assert seen(job(deployment=deployment, ray=ray), said(STEP)).step is None
