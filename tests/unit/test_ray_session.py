"""Which Ray a stage uses, and what it says when there is none. Nothing here starts a Ray."""

from __future__ import annotations

import signal
import socket
import sys

import pytest

from pairwise_rm import ray_session as module
from pairwise_rm.errors import InputError, StageError
from pairwise_rm.ray_session import cluster_address, ray_session, seconds_after_sigterm, with_slow_starts


@pytest.mark.parametrize(
    ("value", "address"), [(None, None), ("", None), ("local", None), ("10.0.0.1:6379", "10.0.0.1:6379")]
)
def test_the_cluster_is_the_one_that_ray_address_names(
    monkeypatch: pytest.MonkeyPatch, value: str | None, address: str | None
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    if value is not None:
        monkeypatch.setenv("RAY_ADDRESS", value)
    assert cluster_address() == address


def test_a_cluster_that_does_not_answer_is_named_within_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray")
    monkeypatch.setattr(module, "_CONNECT_SECONDS", 0.0)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, and nobody listens
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        monkeypatch.setenv("RAY_ADDRESS", address)
        with (
            pytest.raises(StageError, match=f"RAY_ADDRESS={address}: no Ray cluster answers"),
            ray_session("cpu", 1, 1),
        ):
            pass


def test_the_address_for_job_submission_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray")
    monkeypatch.setenv("RAY_ADDRESS", "http://head:8265")
    with pytest.raises(InputError, match="where jobs are submitted"), ray_session("cpu", 1, 1):
        pass


@pytest.mark.parametrize("slow", [1, 3])
def test_a_local_ray_that_a_busy_machine_does_not_start_in_time_is_started_again_and_then_one_line(
    monkeypatch: pytest.MonkeyPatch, slow: int
) -> None:
    ray = pytest.importorskip("ray")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    starts: list[int] = []

    def init(**_: object) -> None:
        starts.append(1)
        if len(starts) <= slow:
            raise Exception("The current node timed out during startup. This could happen because some of the raylet")

    monkeypatch.setattr(ray, "init", init)
    if slow == 1:
        with ray_session("cpu", 1, 1):
            assert len(starts) == 2
        return
    with (
        pytest.raises(StageError, match=r"a local Ray: cannot connect: The current node timed out"),
        ray_session("cpu", 1, 1),
    ):
        pass
    assert len(starts) == 3


@pytest.mark.parametrize(
    ("said", "starts"),
    [("The current node timed out during startup. This could", 3), ("verl's own error", 1)],
)
def test_a_training_whose_local_ray_does_not_start_in_time_starts_it_again_and_no_other_error_is_tried_again(
    said: str, starts: int
) -> None:
    pytest.importorskip("ray")
    tries: list[int] = []

    def run() -> None:
        tries.append(1)
        raise Exception(said)

    with pytest.raises(Exception, match=said):
        with_slow_starts(run)
    assert len(tries) == starts


@pytest.mark.parametrize("ours", [True, False])
def test_a_handler_of_sigterm_stays_while_ray_is_connected_and_comes_back_after_it(
    monkeypatch: pytest.MonkeyPatch, ours: bool
) -> None:
    ray = pytest.importorskip("ray")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)

    def of_ray(*_: object) -> None:
        sys.exit(15)

    def of_the_stage(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(ray, "init", lambda **_: signal.signal(signal.SIGTERM, of_ray))
    given = of_the_stage if ours else signal.SIG_DFL
    before = signal.signal(signal.SIGTERM, given)
    try:
        with ray_session("cpu", 1, 1):
            assert signal.getsignal(signal.SIGTERM) is (of_the_stage if ours else of_ray)
        assert signal.getsignal(signal.SIGTERM) is given
    finally:
        signal.signal(signal.SIGTERM, before)


@pytest.mark.parametrize(
    ("submitted", "given", "seconds"),
    [(False, None, 25), (True, None, 1), (True, "60", 25), (True, "20", 18), (True, "1", 0), (True, "soon", 1)],
)
def test_a_job_of_ray_has_less_time_after_sigterm_than_another_process(
    monkeypatch: pytest.MonkeyPatch, submitted: bool, given: str | None, seconds: float
) -> None:
    for name, value in (
        ("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}" if submitted else None),
        ("RAY_JOB_STOP_WAIT_TIME_S", given),
    ):
        monkeypatch.delenv(name, raising=False)
        if value is not None:
            monkeypatch.setenv(name, value)
    assert seconds_after_sigterm(25) == seconds
