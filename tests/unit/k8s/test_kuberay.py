"""A stage that runs while its RayJob's status stays empty: its own word, and whether the operator reaches the head."""

from __future__ import annotations

import json

import pytest

from pairwise_rm.k8s.diagnosis import issues_of
from pairwise_rm.k8s.issue import Issue
from pairwise_rm.k8s.snapshot import Snapshot, newest_jobs
from pairwise_rm.k8s.stage_status import StageView, view
from pairwise_rm.progress import Failure
from tests.unit.command_line import call, refused
from tests.unit.k8s_objects import (
    LONG_AGO,
    NOW,
    STARTED,
    STEP,
    WAITS,
    Object,
    container,
    ended,
    head,
    job,
    said,
    submitter,
)
from tests.unit.kubernetes_stub import KubernetesStub

EARLIER = "2025-10-09T08:48:20Z"  # five
JUST_NOW = "2025-10-09T08:53:15Z"


def running_head(since: str = LONG_AGO, ready: str | None = "", status: str = "True") -> Object:
    """A head that runs since then, and is ready since then too unless another time is given (None: an unknown one)."""
    # Other containers of the pod may restart at any time.
    autoscaler = container("autoscaler", {"running": {"startedAt": JUST_NOW}})
    pod = head(containerStatuses=[autoscaler, container("ray-head", {"running": {"startedAt": since}})])
    stamp = since if ready == "" else ready
    pod["status"]["conditions"] = [{"type": "Ready", "status": status, "lastTransitionTime": stamp}]
    return pod


def ended_submitter(at: str) -> Object:
    pod = submitter(phase="Succeeded", containerStatuses=[container("x", ended("Completed", 0))])
    pod["metadata"]["creationTimestamp"] = LONG_AGO
    pod["status"]["containerStatuses"][0]["state"]["terminated"]["finishedAt"] = at
    return pod


def unnoticed(**status: str) -> Object:
    return job(deployment="Running", ray="", **status)


def snapshot(
    *lines: str, rayjob: Object | None = None, pods: list[Object] | None = None, log: dict[str, list[str]] | None = None
) -> Snapshot:
    there = [running_head(), submitter()] if pods is None else pods
    jobs = newest_jobs([rayjob or unnoticed()])
    return Snapshot("judge", "ml", jobs, pods=there, tails={"train": list(lines)}, operators=log or {}, now=NOW)


def shown(*lines: str, rayjob: Object | None = None, pods: list[Object] | None = None) -> StageView:
    return view(snapshot(*lines, rayjob=rayjob, pods=pods), "train", list(lines))


def found(
    *lines: str, rayjob: Object | None = None, pods: list[Object] | None = None, log: dict[str, list[str]] | None = None
) -> list[Issue]:
    return issues_of(snapshot(*lines, rayjob=rayjob, pods=pods, log=log), "train")


@pytest.mark.parametrize(
    "rayjob",
    [
        job(deployment="", ray=""),
        job(deployment="Initializing", ray=""),
        unnoticed(),
        job(deployment="Running", ray="PENDING"),
    ],
)
def test_a_stage_that_kuberay_has_not_noticed_is_shown_by_its_own_word(rayjob: Object) -> None:
    stage = shown(f"{EARLIER} {said(STEP)}", rayjob=rayjob)
    assert str(stage) == "running, step 3/20  reward 0.412  accuracy 0.500 · KubeRay has not noticed it yet"
    assert stage.step == STEP


def test_a_stage_that_waits_does_so_by_its_own_word_too() -> None:
    assert str(shown(f"{EARLIER} {said(WAITS)}")) == "waiting for convert (running) · KubeRay has not noticed it yet"


def test_what_ray_prints_on_submission_is_not_taken_for_the_stage() -> None:
    told = [f"{EARLIER} Next steps", f"{EARLIER}   Query the logs of the job:", f"{EARLIER}     ray job logs j-1"]
    assert str(shown(*told)) == "starting, being submitted to Ray"
    assert str(shown(*told, f"{JUST_NOW} {said('vLLM loaded')}")).startswith("running, vLLM loaded")


def test_kuberay_is_given_half_a_minute_to_notice() -> None:
    assert str(shown(f"{JUST_NOW} {said(WAITS)}")) == "waiting for convert (running)"


@pytest.mark.parametrize("pods", [[submitter()], [submitter(), head("Pending")], [submitter(), running_head(JUST_NOW)]])
def test_lines_of_an_attempt_whose_head_was_lost_are_not_taken_for_the_present_one(pods: list[Object]) -> None:
    stage = shown(f"{EARLIER} {said(STEP)}", pods=pods)
    assert (str(stage), stage.step) == ("starting, being submitted to Ray", None)


def test_a_stage_whose_submitter_has_ended_is_not_said_to_run_nor_to_have_succeeded() -> None:
    pods = [running_head(), ended_submitter(EARLIER)]
    stage = shown(f"{EARLIER} {said(STEP)}", f"{EARLIER} {said(Failure('the disk is full'))}", pods=pods)
    assert str(stage) == "starting, its submitter has ended (the disk is full) · KubeRay has not noticed it yet"


def test_a_stage_that_is_tried_again_says_why_and_no_step_of_the_attempt_that_failed() -> None:
    stage = shown(
        f"{EARLIER} {said(STEP)}",
        rayjob=job(deployment="Retrying", ray="FAILED", message="no head", reason="AppFailed"),
    )
    assert (str(stage), stage.step) == ("retrying, AppFailed: no head", None)


OPERATOR = "KubeRay's operator"
DASHBOARD = "the dashboard of RayCluster judge (port 8265)"
VALUES = "networkPolicy.ingress.operator.namespace and networkPolicy.ingress.operator.podLabels"


def line(error: str, at: str = EARLIER, rayjob: str = "judge-train-0a1b2c3d") -> str:
    told = {"level": "error", "msg": "Failed to get job info", "RayJob": {"name": rayjob, "namespace": "ml"}}
    return f"{at} {json.dumps({**told, 'error': error}, separators=(',', ':'))}"


TIMEOUT = 'Get "http://judge-head-svc.ml.svc.cluster.local:8265/api/jobs/j-1": dial tcp 10.96.3.4:8265: i/o timeout'
NOT_YET = "Job j-1 does not exist on the cluster"


def test_an_operator_whose_log_says_that_it_cannot_reach_the_head_is_told_with_the_values() -> None:
    (issue,) = found(f"{EARLIER} {said(WAITS)}", log={"kuberay": [line(NOT_YET), line(TIMEOUT)]})
    assert str(issue) == (
        f"{OPERATOR} cannot reach {DASHBOARD}, so that RayJob judge-train-0a1b2c3d tells nothing of its job: dial tcp "
        f"10.96.3.4:8265: i/o timeout; set {VALUES} to namespace kuberay and the labels of its pods"
    )
    assert issue.terminal


def test_an_operator_whose_log_may_not_be_read_is_told_as_far_as_it_is_known() -> None:
    (issue,) = found(f"{EARLIER} {said(WAITS)}")
    assert str(issue) == (
        f"{OPERATOR} has not seen the job of RayJob judge-train-0a1b2c3d, which was submitted: either it cannot reach "
        f"{DASHBOARD}, for which see {VALUES}, or it waits before it asks again, 17 minutes at most"
    )
    assert not issue.terminal


@pytest.mark.parametrize(
    "log",
    [
        [line(TIMEOUT), line(NOT_YET)],
        # Neither of an earlier head's time, nor of another RayJob, nor of another address, nor an answer of the head's.
        [line(NOT_YET), line(TIMEOUT, at="2025-10-09T08:40:00Z")],
        [line(NOT_YET), line(TIMEOUT, rayjob="judge-export-0a1b2c3d")],
        [line("dial tcp 10.96.0.1:443: i/o timeout")],
        [line('Get "http://judge-head-svc.ml.svc.cluster.local:8265/api/jobs/j-1": unexpected status 500')],
    ],
)
def test_an_operator_that_reaches_the_head_and_only_waits_is_no_issue(log: list[str]) -> None:
    assert found(f"{EARLIER} {said(WAITS)}", log={"kuberay": log}) == []


@pytest.mark.parametrize("rayjob", [job(deployment="Initializing", ray=""), job(deployment="Running", ray="PENDING")])
def test_an_operator_that_is_not_asked_for_the_job_yet_or_sees_it_is_not_accused(rayjob: Object) -> None:
    assert found(f"{EARLIER} {said(WAITS)}", rayjob=rayjob, log={"kuberay": [line(TIMEOUT)]}) == []


def test_a_head_of_which_it_is_not_known_since_when_it_is_ready_is_so_since_it_runs() -> None:
    (issue,) = found(f"{EARLIER} {said(WAITS)}", pods=[running_head(ready=None), submitter()])
    assert "has not seen the job of RayJob judge-train-0a1b2c3d" in str(issue)


def test_a_submitter_that_has_ended_shows_too_that_the_job_was_submitted() -> None:
    done = submitter(phase="Succeeded")
    done["metadata"]["creationTimestamp"] = EARLIER
    (issue,) = found(pods=[running_head(), done])
    assert "has not seen the job of RayJob judge-train-0a1b2c3d, which was submitted" in str(issue)


@pytest.mark.parametrize(
    ("lines", "pods"),
    [
        ([], None),
        ([f"{JUST_NOW} {said(WAITS)}"], None),
        ([f"{EARLIER} {said(WAITS)}"], [running_head(STARTED), submitter()]),
        ([f"{EARLIER} {said(WAITS)}"], [head(), submitter()]),
        ([f"{EARLIER} {said(WAITS)}"], [running_head(status="False"), submitter()]),
        ([f"{EARLIER} {said(WAITS)}"], [running_head(ready=JUST_NOW), submitter()]),
        ([], [running_head(), ended_submitter(JUST_NOW)]),
    ],
)
def test_a_job_that_was_not_submitted_long_ago_or_whose_head_is_not_ready_accuses_no_operator(
    lines: list[str], pods: list[Object] | None
) -> None:
    assert found(*lines, pods=pods) == []


def test_kuberay_1_7_tells_itself_that_it_cannot_reach_the_head() -> None:
    failing = job(jobStatusCheckFailureStartTime=EARLIER)
    (issue,) = found(rayjob=failing)
    assert str(issue) == (
        f"{OPERATOR} cannot reach {DASHBOARD}, so that RayJob judge-train-0a1b2c3d tells nothing of its job; "
        f"set {VALUES} to its namespace and its pods' labels"
    )


def test_a_check_that_began_to_fail_with_an_earlier_head_accuses_no_operator() -> None:
    assert found(rayjob=job(jobStatusCheckFailureStartTime=LONG_AGO), pods=[running_head(EARLIER), submitter()]) == []


@pytest.mark.parametrize(
    ("reason", "message"),
    [
        (
            "JobStatusCheckTimeoutExceeded",
            "Job status checks have been failing since 2025-10-09 08:43:20; exceeded timeout of 300s",
        ),
        (
            "JobDeploymentStatusTransitionGracePeriodExceeded",
            "The RayJob submitter finished at 2025-10-09 08:43:20 but the ray job did not reach terminal state within "
            "30s",
        ),
    ],
)
def test_a_rayjob_that_failed_since_the_operator_never_saw_its_job_says_so(reason: str, message: str) -> None:
    failed = job(deployment="Failed", ray="FAILED", reason=reason, message=message)
    assert shown(rayjob=failed).note == f"{reason}: {message}; {OPERATOR} never saw the job in Ray: see {VALUES}"
    failed["status"]["rayJobInfo"] = {"startTime": EARLIER}
    assert shown(rayjob=failed).note == f"{reason}: {message}"


OPERATOR_POD = {
    "metadata": {"name": "kuberay-1", "namespace": "kuberay", "labels": {"app.kubernetes.io/name": "kuberay-operator"}},
    "spec": {"containers": [{"name": "kuberay-operator"}]},
}


@pytest.fixture
def unheard(cluster: KubernetesStub) -> KubernetesStub:
    """A release that has run for long, and whose RayJob shows no job status."""
    cluster.add("rayjobs", unnoticed())
    cluster.add("pods", running_head(), submitter(), OPERATOR_POD)
    cluster.logs["judge-train-0a1b2c3d-s1"] = f"{EARLIER} {said(WAITS)}\n"
    cluster.logs["kuberay-1"] = line(TIMEOUT) + "\n"
    return cluster


def test_the_operators_log_is_read_in_its_namespace(
    unheard: KubernetesStub, capsys: pytest.CaptureFixture[str]
) -> None:
    told = json.loads(call(capsys, "status", "--json")[1])
    assert (told["stages"][0]["state"], told["last_event"]) == ("waiting", None)
    assert "to namespace kuberay and the labels of its pods" in told["issues"][0]["text"]


@pytest.mark.parametrize("path", ["/api/v1/pods", "/api/v1/namespaces/kuberay/pods/kuberay-1/log"])
def test_an_account_that_may_not_read_the_operators_log_sees_the_rest(
    unheard: KubernetesStub, capsys: pytest.CaptureFixture[str], path: str
) -> None:
    unheard.answers[f"GET {path}"] = (403, {"message": "no"})
    code, out, err = call(capsys, "status")
    assert (code, err) == (0, "")
    assert "has not seen the job of RayJob" in out


def test_waiting_for_a_stage_whose_end_the_operator_cannot_see_ends(
    unheard: KubernetesStub, capsys: pytest.CaptureFixture[str]
) -> None:
    pod = unheard.objects["pods"][1]
    pod["status"]["phase"] = "Succeeded"
    code, told = refused(capsys, "wait", "--for", "train", "--timeout", "1h")
    assert code == 1
    assert told.startswith(f"train cannot go on (starting): {OPERATOR} cannot reach {DASHBOARD}")
