"""A stage's log is that of its submitter pod, whole and once, however often the connection is lost."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from pairwise_rm.k8s import logs
from pairwise_rm.k8s.client import Cluster, Unavailable
from pairwise_rm.progress import Failure
from tests.unit.command_line import call, refused
from tests.unit.k8s_objects import AT, STEP, job, said, submitter
from tests.unit.kubernetes_stub import KubernetesStub


def test_the_log_is_the_submitters_without_its_times(
    release: KubernetesStub, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(capsys, "logs", "train") == (0, f"▸ train  a -> b\n  {STEP}\n", "")


def test_what_the_command_prints_of_its_error_is_shown_once_and_other_lines_as_they_are(
    cluster: KubernetesStub, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster.add("rayjobs", job("train", "Failed", "FAILED"))
    cluster.add("pods", submitter(phase="Failed"))
    logged = ["INFO -- Connecting", said("first step", v=2), said(Failure("no room")), "error: no room"]
    cluster.logs["judge-train-0a1b2c3d-s1"] = "".join(f"{AT} {line}\n" for line in logged)
    assert call(capsys, "logs", "train") == (0, "INFO -- Connecting\n  first step\nerror: no room\n", "")


def test_following_the_log_of_a_stage_that_has_ended_ends(
    cluster: KubernetesStub, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster.add("rayjobs", job("train", "Complete", "SUCCEEDED"))
    cluster.add("pods", submitter(phase="Succeeded"))
    cluster.logs["judge-train-0a1b2c3d-s1"] = f"{AT} one\n{AT[:-2]}9Z two\n"
    assert call(capsys, "logs", "train", "-f") == (0, "one\ntwo\n", "train succeeded\n")


def test_a_log_that_is_not_there_yet_is_told(cluster: KubernetesStub, capsys: pytest.CaptureFixture[str]) -> None:
    cluster.add("rayjobs", job("train", "Initializing", ""))
    code, line = refused(capsys, "logs", "train")
    assert (code, line) == (1, "train has no log yet (starting, the head of judge is starting); -f waits for it")


def test_a_container_that_has_not_started_has_no_log_yet(
    cluster: KubernetesStub, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster.add("rayjobs", job("train", "Running", ""))
    cluster.add("pods", submitter(phase="Pending"))
    cluster.answers["GET /api/v1/namespaces/ml/pods/judge-train-0a1b2c3d-s1/log"] = (
        400,
        {"message": 'container "ray-job-submitter" in pod "x" is waiting to start: ContainerCreating'},
    )
    code, line = refused(capsys, "logs", "train")
    assert code == 1
    assert line.endswith("is waiting to start: ContainerCreating); -f waits for it")


def test_without_a_submitter_pod_it_says_where_the_log_is(
    cluster: KubernetesStub, capsys: pytest.CaptureFixture[str]
) -> None:
    over_http = job("train")
    over_http["spec"]["submissionMode"] = "HTTPMode"
    cluster.add("rayjobs", over_http)
    code, line = refused(capsys, "logs", "train")
    assert code == 1
    assert "has no submitter pod, since submission.mode is HTTPMode" in line
    assert "/mnt/runs/judge/smoke-1 keeps train/train.log" in line


def test_a_log_whose_connection_is_lost_goes_on_without_a_gap_and_without_a_line_twice() -> None:
    class BreaksOnce(Cluster):
        def __init__(self) -> None:
            self.calls: list[int | None] = []

        def log(self, pod: str, container: str, follow: bool, since: int | None, quiet: float) -> Iterator[str]:
            self.calls.append(since)
            yield from ("1 one", "2 two", "2 also two")
            if since is None:
                raise Unavailable("reset")
            yield "3 three"

    written: list[str] = []
    cluster = BreaksOnce()
    reading = logs._Reading(cluster, written.append)
    with pytest.raises(Unavailable):
        reading.read(submitter(), follow=True)
    reading.read(submitter(), follow=True)
    assert written == ["one", "two", "also two", "three"]
    assert cluster.calls[0] is None
    assert cluster.calls[1] is not None


def test_another_submitter_pod_is_read_from_its_beginning() -> None:
    class SaysItsPod(Cluster):
        def __init__(self) -> None: ...

        def log(self, pod: str, container: str, follow: bool, since: int | None, quiet: float) -> Iterator[str]:
            yield f"1 {pod[-2:]}"

    written: list[str] = []
    reading = logs._Reading(SaysItsPod(), written.append)
    for name in ("s1", "s2"):
        reading.read(submitter(name=name), follow=True)
    assert written == ["s1", "s2"]


def test_a_log_that_was_followed_to_its_end_is_not_missed_when_its_pod_goes_before_the_job_has_ended(
    cluster: KubernetesStub, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster.add("rayjobs", job("train"))
    cluster.add("pods", submitter())
    cluster.logs["judge-train-0a1b2c3d-s1"] = f"{AT} one\n"

    def end(seconds: float) -> None:
        cluster.objects["pods"].clear()
        cluster.objects["rayjobs"][0]["status"] |= {"jobDeploymentStatus": "Complete", "jobStatus": "SUCCEEDED"}

    monkeypatch.setattr(time, "sleep", end)
    assert call(capsys, "logs", "train", "-f") == (0, "one\n", "train succeeded\n")
