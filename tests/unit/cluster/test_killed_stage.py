"""A stage that was killed outright is noticed by its Ray job."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from pairwise_rm.cluster import input_wait, ray_job
from pairwise_rm.cluster.input_wait import EarlierStage
from pairwise_rm.cluster.ray_job import how_ended, own_submission_id
from pairwise_rm.cluster.state_file import StateWriter, read_state
from pairwise_rm.errors import StageError
from tests.unit.cluster.stage_states import FIRST_STEP, await_stage, put, tell


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
