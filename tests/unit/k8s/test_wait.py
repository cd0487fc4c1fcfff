"""Waiting for a stage exits as its RayJob does, and says why."""

from __future__ import annotations

import time

import pytest

from pairwise_rm.cli.wait import seconds_from
from pairwise_rm.errors import InputError
from pairwise_rm.k8s import wait as k8s_wait
from pairwise_rm.progress import Failure
from tests.unit.command_line import call, refused
from tests.unit.k8s_objects import AT, container, job, said, submitter, worker
from tests.unit.kubernetes_stub import KubernetesStub


def test_waiting_for_a_stage_that_is_done_exits_0(release: KubernetesStub, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = call(capsys, "wait", "--for", "convert")
    assert (code, err) == (0, "")
    assert out.endswith("convert succeeded\n")


def test_waiting_for_a_stage_that_failed_exits_1_with_its_own_error_line(
    cluster: KubernetesStub, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster.add("rayjobs", job("train", "Failed", "FAILED", message="Job failed", reason="AppFailed"))
    cluster.add("pods", submitter(phase="Succeeded"))
    cluster.logs["judge-train-0a1b2c3d-s1"] = f"{AT} {said(Failure('/mnt/data: no such file'))}\n"
    assert refused(capsys, "wait", "--for", "train") == (1, "train failed: /mnt/data: no such file")


def test_waiting_ends_at_its_time_and_says_why(release: KubernetesStub, capsys: pytest.CaptureFixture[str]) -> None:
    code, line = refused(capsys, "wait", "--for", "export", "--timeout", "0s")
    assert code == 1
    assert line.startswith("export is not done after 0 s: it is waiting for train (running)")


def test_waiting_ends_at_once_when_nothing_can_come_of_it(
    cluster: KubernetesStub, capsys: pytest.CaptureFixture[str]
) -> None:
    status = container("ray-worker", {"waiting": {"reason": "ImagePullBackOff", "message": "not found"}})
    cluster.add("rayjobs", job("train", "Initializing", ""))
    cluster.add("pods", worker("Pending", containerStatuses=[status]))
    code, line = refused(capsys, "wait", "--for", "train", "--timeout", "1h")
    assert code == 1
    assert line.startswith("train cannot go on (starting): worker pod judge-a100-worker-x1 cannot pull image")


def test_waiting_goes_on_without_gpus_and_tells_it(cluster: KubernetesStub, capsys: pytest.CaptureFixture[str]) -> None:
    placed = {
        "type": "PodScheduled",
        "status": "False",
        "reason": "Unschedulable",
        "message": "0/1 nodes are available: 1 Insufficient nvidia.com/gpu.",
    }
    cluster.add("rayjobs", job("train", "Initializing", ""))
    cluster.add("pods", worker("Pending", gpus=8, conditions=[placed]))
    code, out, err = call(capsys, "wait", "--for", "train", "--timeout", "1s")
    assert code == 1
    assert out.count("! worker pod judge-a100-worker-x1 waits for 8 nvidia.com/gpu") == 1
    assert "train is not done after 1 s: it is starting, the head of judge is starting: worker pod" in err


def test_an_issue_that_only_lasts_longer_is_told_once(
    cluster: KubernetesStub, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(k8s_wait, "POLL_SECONDS", 0.4)
    untaken = job("train", "", "")
    untaken["metadata"]["creationTimestamp"] = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - 90))
    cluster.add("rayjobs", untaken)
    _, out, _ = call(capsys, "wait", "--for", "train", "--timeout", "2s")
    assert out.count("has not been taken up for") == 1


def test_a_stage_that_the_release_lacks_is_told_with_those_that_it_has(
    release: KubernetesStub, capsys: pytest.CaptureFixture[str]
) -> None:
    assert refused(capsys, "wait", "--for", "evaluate") == (
        2,
        "stage 'evaluate': release judge has convert, train, export; set stages.evaluate.enabled for it",
    )


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("30m", 1800), ("2h", 7200), ("1h30m", 5400)])
def test_a_time_is_read(text: str, seconds: float) -> None:
    assert seconds_from(text) == seconds


@pytest.mark.parametrize("text", ["", "2", "soon", "-1s", "1.5h", "30m2h"])
def test_no_other_time_is_read(text: str) -> None:
    with pytest.raises(InputError, match="expected a time such as 90s, 30m, 2h"):
        seconds_from(text)


def test_waiting_for_a_stage_of_another_version_says_so_once(
    cluster: KubernetesStub, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster.add("rayjobs", job("train"))
    cluster.add("pods", submitter())
    cluster.logs["judge-train-0a1b2c3d-s1"] = f"{AT} {said('vLLM loaded', v=2)}\n"
    _, out, _ = call(capsys, "wait", "--for", "train", "--timeout", "1s")
    assert out.count("the image is newer than this pairwise-rm") == 1
    assert "running, vLLM loaded" in out


def test_a_stage_that_runs_is_waited_for_though_a_further_worker_can_never_start(
    cluster: KubernetesStub, capsys: pytest.CaptureFixture[str]
) -> None:
    status = container("ray-worker", {"waiting": {"reason": "ImagePullBackOff", "message": "not found"}})
    cluster.add("rayjobs", job("train"))
    cluster.add("pods", worker("Pending", containerStatuses=[status]))
    code, line = refused(capsys, "wait", "--for", "train", "--timeout", "0s")
    assert code == 1
    assert line.startswith("train is not done after 0 s: it is running: worker pod judge-a100-worker-x1 cannot pull")


def test_a_change_of_what_suspends_a_stage_is_told(
    cluster: KubernetesStub, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster.add("rayjobs", job("train", "Suspended", ""))
    (train,) = cluster.objects["rayjobs"]

    def change(seconds: float) -> None:
        if "kueue.x-k8s.io/queue-name" in train["metadata"]["labels"]:
            train["status"].update(jobDeploymentStatus="Complete", jobStatus="SUCCEEDED")
        train["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] = "gpu"

    monkeypatch.setattr(time, "sleep", change)
    code, out, _ = call(capsys, "wait", "--for", "train")
    assert code == 0
    told = [line.partition("  train ")[2] for line in out.splitlines() if "  train " in line]
    assert told == ["suspended, spec.suspend is true", "suspended, in queue gpu", "succeeded"]
