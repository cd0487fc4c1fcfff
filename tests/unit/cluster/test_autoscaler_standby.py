"""The autoscaler runs again when its container has ended, and not beside one that lives."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from pairwise_rm.cluster import autoscaler_standby, ray_start_hook
from pairwise_rm.k8s.client import Cluster, Unavailable

COMMAND = ["ray", "kuberay-autoscaler", "--cluster-name", "judge", "--cluster-namespace", "ml"]


def pod(state: dict[str, Any], name: str = "autoscaler") -> dict[str, Any]:
    return {"status": {"containerStatuses": [{"name": "ray-head", "state": {}}, {"name": name, "state": state}]}}


class Pods:
    """Gives one answer after another; the RayCluster's status is `status`."""

    def __init__(self, *answers: dict[str, Any] | Exception) -> None:
        self.answers = list(answers)
        self.status: dict[str, Any] = {"state": "ready"}

    def object(self, kind: str, name: str) -> dict[str, Any]:
        assert (kind, name) == ("rayclusters", "judge")
        return {"status": self.status}

    def pod(self, name: str) -> dict[str, Any]:
        assert name == "judge-head-x1"
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


class Ran(Exception):
    pass


def run(monkeypatch: pytest.MonkeyPatch, pods: Pods) -> None:
    def execvp(file: str, command: list[str]) -> None:
        assert (file, command) == ("ray", COMMAND)
        raise Ran

    monkeypatch.setattr(autoscaler_standby, "POLL_SECONDS", 0.0)
    monkeypatch.setattr(Cluster, "connect", lambda namespace: pods)
    monkeypatch.setattr(os, "execvp", execvp)
    for key, text in {"NAME": "judge", "NAMESPACE": "ml"}.items():
        monkeypatch.setenv(f"RAY_CLUSTER_{key}", text)
    monkeypatch.setenv("RAY_HEAD_POD_NAME", "judge-head-x1")
    with pytest.raises(Ran):
        autoscaler_standby.main()


def test_it_becomes_the_autoscaler_once_that_has_ended_and_not_before(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ended = {"terminated": {"reason": "OOMKilled", "exitCode": 137}}
    pods = Pods({"status": {}}, pod({"waiting": {}}), pod({"running": {}}), pod(ended, "other"), pod(ended))
    run(monkeypatch, pods)
    assert pods.answers == []
    assert capsys.readouterr().out == (
        "container autoscaler has ended (OOMKilled, exit code 137) and is not started again in this pod: "
        "running it here\n"
    )


def test_an_api_that_is_away_is_told_once_and_asked_again(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    away = [Unavailable("no answer in time")] * 3
    run(monkeypatch, Pods(*away, pod({"terminated": {"reason": "Error", "exitCode": 1}})))
    assert capsys.readouterr().out.count("no answer in time") == 1


@pytest.mark.parametrize(
    ("status", "was_ready"),
    [
        ({}, False),
        ({"state": "", "conditions": [{"type": "RayClusterProvisioned", "status": "False"}]}, False),
        ({"state": "failed", "conditions": [{"type": "RayClusterProvisioned", "status": "True"}]}, True),
        ({"state": "ready"}, True),
    ],
)
def test_a_pod_that_was_never_ready_is_ended_and_made_anew(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    status: dict[str, Any],
    was_ready: bool,
) -> None:
    pods = Pods(pod({"terminated": {"reason": "Error", "exitCode": 1}}))
    pods.status = status

    monkeypatch.setenv("HOME", str(tmp_path))

    def sleep(_: float) -> None:
        raise Ran

    monkeypatch.setattr(time, "sleep", sleep)
    run(monkeypatch, pods)
    said = capsys.readouterr().out
    assert ("running it here" in said) == was_ready
    assert ("ending Ray's head, so that KubeRay makes another pod" in said) != was_ready
    assert (tmp_path / "end-ray-head").exists() != was_ready


def test_the_head_ends_when_the_standby_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(ray_start_hook, "_LOOK_SECONDS", 0.01)
    ended = threading.Event()
    monkeypatch.setattr(os, "_exit", lambda code: ended.set())
    ray_start_hook.end_when_told()
    assert not ended.wait(0.05)
    (tmp_path / "end-ray-head").write_text("no autoscaler")
    assert ended.wait(10)


def test_the_head_hands_its_token_on_in_a_file_that_no_one_else_reads(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "token"
    monkeypatch.setenv("PAIRWISE_RM_TOKEN_FILE", str(file))
    monkeypatch.setenv("RAY_AUTH_TOKEN", "t0ken")

    class Parameters:
        ray_client_server_port: int | None = 10001

    parameters = Parameters()
    ray_start_hook.on_start(parameters, head=False)
    assert not file.exists()
    ray_start_hook.on_start(parameters, head=True)
    assert (file.read_text(), file.stat().st_mode & 0o777) == ("t0ken", 0o600)
    assert parameters.ray_client_server_port is None


def test_a_head_without_a_token_hands_none_on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PAIRWISE_RM_TOKEN_FILE", str(tmp_path / "token"))
    monkeypatch.delenv("RAY_AUTH_TOKEN", raising=False)
    ray_start_hook.hand_on_token()
    assert not (tmp_path / "token").exists()
