"""`pairwise-rm serve` with real Ray Serve and vLLM, on a tiny random model: it outlives its vLLM and ends quietly."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytest.importorskip("vllm")

from pairwise_rm.recipe.load import recipe_yaml
from pairwise_rm.recipe.model import Recipe
from tests.paths import REPO
from tests.unit.processes import linux

pytestmark = linux
VLLM = "vllm.entrypoints.openai.api_server"
SUPERVISOR = "pairwise_rm.serve.end_with_parent"
ITEM = {"prompt": "Why?", "response_a": "Because.", "response_b": "No."}


class Serving:
    """A running `pairwise-rm serve`."""

    def __init__(self, folder: Path, log: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.url = f"http://127.0.0.1:{free.getsockname()[1]}"
        self.log = log
        environment = {key: value for key, value in os.environ.items() if key != "RAY_ADDRESS"}
        command = [sys.executable, "-m", "pairwise_rm", "serve", str(folder), "--port", self.url.rpartition(":")[2]]
        with open(log, "w") as file:
            self.process = subprocess.Popen(command, env=environment, cwd=REPO, stdout=file, stderr=file)

    def answers(self) -> bool:
        request = urllib.request.Request(f"{self.url}/judge", json.dumps(ITEM).encode())
        try:
            return bool(json.load(urllib.request.urlopen(request, timeout=20))["combined"])
        except OSError:
            return False

    def vllm(self) -> list[int]:
        """The processes below ours that are vLLM's server."""
        found, pids = [], [self.process.pid]
        while pids:
            pid = pids.pop()
            with contextlib.suppress(OSError):
                for task in Path(f"/proc/{pid}/task").iterdir():
                    pids += map(int, (task / "children").read_text().split())
                words = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
                if VLLM in words and SUPERVISOR not in words:
                    found.append(pid)
        return found

    def wait(self, done: Callable[[], bool], seconds: float) -> float:
        began = time.monotonic()
        while not done():
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() - began < seconds, self.log.read_text()
            time.sleep(0.2)
        return time.monotonic() - began


@pytest.fixture
def serving(model: str, recipe: Recipe, tmp_path: Path) -> Iterator[Serving]:
    folder = tmp_path / "export"
    shutil.copytree(model, folder)
    (folder / "recipe.yaml").write_text(recipe_yaml(recipe))
    started = Serving(folder, tmp_path / "log")
    try:
        yield started
    finally:
        if started.process.poll() is None:
            started.process.kill()


def test_a_judge_whose_vllm_was_killed_is_started_again_and_sigterm_ends_it_quietly(serving: Serving) -> None:
    serving.wait(serving.answers, 300)
    [first] = serving.vllm()
    os.kill(first, signal.SIGKILL)
    # Three failed health checks alone took 30 s, and stopping the replica after that a while.
    serving.wait(lambda: any(pid != first for pid in serving.vllm()), 30)
    serving.wait(serving.answers, 300)
    serving.wait(lambda: "it answers again" in serving.log.read_text(), 60)
    serving.process.send_signal(signal.SIGTERM)
    assert serving.process.wait(90) == 128 + signal.SIGTERM
    said = serving.log.read_text().splitlines()
    assert [line.split()[0] for line in said] == ["▸", "vLLM", "tiny", "vLLM", "it"], said
