"""The guard of a stage's request for GPUs, without a Ray cluster: whom it outlives, and that it then acts."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

pytest.importorskip("ray")

# An address that is refused before anything is connected to, so that the guard says at once that it has tried.
REFUSED = {**os.environ, "RAY_ADDRESS": "http://head:8265"}
BEGIN = """
import os, pathlib, signal
from pairwise_rm.cluster.gpu_request_guard import Guard
guard = Guard()
"""
TRIED = "the stage ended, and the request for GPUs that it left could not be withdrawn: RAY_ADDRESS=http://head:8265"


def stage(end: str) -> subprocess.CompletedProcess[str]:
    """A stage that ends like this. The guard has its standard error too, so this waits for both."""
    command = [sys.executable, "-c", BEGIN + end]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, env=REFUSED, check=False)


def test_a_stage_that_is_killed_has_its_request_withdrawn() -> None:
    done = stage("os.kill(os.getpid(), signal.SIGKILL)")
    assert done.returncode == -9
    assert done.stderr.startswith(TRIED)


def test_a_stage_that_ends_without_a_word_has_its_request_withdrawn() -> None:
    done = stage("os._exit(3)")
    assert done.returncode == 3
    assert done.stderr.startswith(TRIED)


def test_a_dismissed_guard_does_nothing() -> None:
    done = stage("guard.dismiss()")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_killing_a_stage_with_its_children_and_its_process_group_leaves_the_guard() -> None:
    children = "print(pathlib.Path(f'/proc/{os.getpid()}/task/{os.getpid()}/children').read_text().strip(), flush=True)"
    done = stage(f"os.setpgid(0, 0)\n{children}\nos.killpg(0, signal.SIGKILL)")
    assert (done.returncode, done.stdout.strip()) == (-9, "")
    assert done.stderr.startswith(TRIED)
