"""The Serve application as it is built; that it runs is shown with a real vLLM, on a machine or a cluster."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("starlette")
pytest.importorskip("httpx")

from pairwise_rm.cluster.state_file import StateWriter
from pairwise_rm.errors import InputError, StageError
from pairwise_rm.progress import Line
from pairwise_rm.serve import app
from pairwise_rm.serve.exported import Exported, ServeArguments

STAND_IN = Path(__file__).with_name("vllm_stand_in.py")


def test_an_export_that_is_on_its_way_is_waited_for_with_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(app, "_POLL_SECONDS", 0.01)
    folder = tmp_path / "export"

    def export() -> None:
        time.sleep(0.2)
        folder.mkdir()

    threading.Thread(target=export).start()
    app.await_export(ServeArguments.of({"model": str(folder)}))
    line = Line.parse(capsys.readouterr().out)
    assert line is not None
    assert line.human == f"▸ serve  waiting for the judge in {folder}: no such folder (0:00:00)"


def test_an_older_export_of_the_same_run_is_not_served_where_a_newer_one_is_to_come(tmp_path: Path) -> None:
    folder, path = tmp_path / "export", tmp_path / "stages" / "export.json"
    folder.mkdir()
    assert app._lacking(folder, "b") == "export has not begun"
    with StateWriter(path, "export", "a"):
        pass
    assert app._lacking(folder, "b") == "export has not begun"
    with pytest.raises(StageError), StateWriter(path, "export", "b"):
        raise StageError("disk full")
    assert app._lacking(folder, "b") == "export is failed (disk full)"
    with StateWriter(path, "export", "b"):
        assert app._lacking(folder, "b") == "export is waiting"
    assert app._lacking(folder, "b") is None


def test_a_replica_holds_the_gpus_of_its_vllm(
    tmp_path: Path, make_recipe: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ray.serve")
    exported = Exported(tmp_path, make_recipe(), 2, {})
    monkeypatch.setattr(Exported, "of", lambda arguments: exported)
    deployment = app.build({"model": str(tmp_path)})._bound_deployment
    assert deployment.name == "judge"
    assert deployment.ray_actor_options["num_gpus"] == 2


def test_a_folder_that_is_no_judge_is_refused_when_the_application_is_built(tmp_path: Path) -> None:
    pytest.importorskip("ray.serve")
    with pytest.raises(InputError, match=r"no config\.json"):
        app.build({"model": str(tmp_path)})


# A replica in a process of its own, without Ray; `VLLM_STAND_IN` stands for vLLM. It prints the stand-in's id.
REPLICA = """
import asyncio, os, pathlib, sys
from pairwise_rm.serve import app
from pairwise_rm.serve.exported import Exported
from pairwise_rm.serve.served_judge import ServedJudge
from pairwise_rm.serve.server_process import ServerProcess

async def start(exported):
    server = ServerProcess(lambda socket: [sys.executable, os.environ["VLLM_STAND_IN"], socket], os.environ)
    await server.start(60)
    return ServedJudge(exported, server, None)

ServedJudge.__init__ = lambda self, exported, server, maker: setattr(self, "server", server)
ServedJudge.start = start
Exported.of = lambda arguments: None
app._end_actor = lambda: os._exit(1)

async def replica():
    made = app.Replica.__new__(app.Replica)
    await made.__init__({"model": "m"})
    supervisor = made.served.server._process.pid
    print(pathlib.Path(f"/proc/{supervisor}/task/{supervisor}/children").read_text().split()[0], flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    await made.__del__()
    print("stopped", flush=True)

asyncio.run(replica())
"""


@pytest.fixture
def replica(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A replica that runs; the first line of its output is the id of what stands for vLLM."""
    places = {"VLLM_STAND_IN": str(STAND_IN), "RECORD": str(tmp_path), "TMPDIR": str(tmp_path)}
    with subprocess.Popen(
        [sys.executable, "-c", REPLICA],
        env={**os.environ, **places},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        yield process
        process.kill()


def test_a_replica_ends_at_once_with_its_vllm_and_says_why(replica: subprocess.Popen[str], tmp_path: Path) -> None:
    assert replica.stdout
    assert replica.stderr
    os.kill(int(replica.stdout.readline()), signal.SIGKILL)
    assert replica.wait(timeout=15) == 1
    errors = replica.stderr.read()
    assert "vLLM: killed by SIGKILL; a lack of memory is the usual cause; its replica ends, and Serve" in errors
    assert list(tmp_path.glob("vllm-*")) == []


def test_a_replica_that_is_stopped_does_not_end_as_one_whose_vllm_did(replica: subprocess.Popen[str]) -> None:
    assert replica.stdout
    replica.stdout.readline()
    out, errors = replica.communicate("stop\n", timeout=30)
    assert (replica.returncode, out) == (0, "stopped\n")
    assert "its replica ends" not in errors
