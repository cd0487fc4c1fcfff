"""A server as a child process: started, watched, ended. Real processes; vLLM has a stand-in."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

pytest.importorskip("httpx")

from pairwise_rm.errors import StageError
from pairwise_rm.serve.server_process import ServerProcess
from tests.unit.processes import alive, gone

STAND_IN = Path(__file__).with_name("vllm_stand_in.py")


def scenario(
    code: str, tmp_path: Path, then: Callable[[ServerProcess], Awaitable[None]], deadline: float = 60
) -> ServerProcess:
    """Starts `python -c code SOCKET`, does `then`, and ends it."""

    async def run() -> ServerProcess:
        server = ServerProcess(
            lambda socket: [sys.executable, "-c", code, socket], {**os.environ, "RECORD": str(tmp_path)}
        )
        try:
            await server.start(deadline)
            await then(server)
        finally:
            await server.stop()
        return server

    return asyncio.run(run())


async def nothing(server: ServerProcess) -> None: ...


STAND_IN_CODE = f"import runpy; runpy.run_path({str(STAND_IN)!r}, run_name='__main__')"


def test_it_is_up_when_health_answers_and_leaves_no_folder(tmp_path: Path) -> None:
    folders: list[Path] = []

    async def check(server: ServerProcess) -> None:
        await server.check()
        folders.append(Path(server._folder))
        assert folders[0].is_dir()

    scenario(STAND_IN_CODE, tmp_path, check)
    assert not folders[0].exists()


@pytest.mark.parametrize(
    ("code", "sentence"),
    [
        ("raise ValueError('no such model')", "vLLM: ended with exit code 1: ValueError: no such model"),
        (
            "import sys; print('OSError: disk full'); sys.exit('RuntimeError: Engine core initialization failed.')",
            "vLLM: ended with exit code 1: OSError: disk full",
        ),
        ("import sys; sys.exit('api_server: error: what?')", "vLLM: ended with exit code 1: api_server: error: what?"),
    ],
)
def test_a_child_that_dies_while_it_starts_is_told_with_its_own_last_word(
    code: str, sentence: str, tmp_path: Path
) -> None:
    with pytest.raises(StageError) as caught:
        scenario(code, tmp_path, nothing)
    assert str(caught.value) == sentence


def test_a_child_that_never_answers_is_given_up(tmp_path: Path) -> None:
    with pytest.raises(StageError, match="not ready after 1 s; its last line: loading"):
        scenario("import time; print('loading', flush=True); time.sleep(600)", tmp_path, nothing, deadline=1)


def test_a_child_that_was_killed_fails_the_check(tmp_path: Path) -> None:
    async def kill(server: ServerProcess) -> None:
        assert server._process
        supervisor = server._process.pid
        os.kill(int(Path(f"/proc/{supervisor}/task/{supervisor}/children").read_text()), signal.SIGKILL)
        await server._process.wait()
        with pytest.raises(StageError, match="vLLM: killed by SIGKILL"):
            await server.check()

    scenario(STAND_IN_CODE, tmp_path, kill)


# A server whose helper outlives it, as vLLM's engine does, and that says who the helper is.
WITH_HELPER = (
    "import pathlib, os, subprocess, sys\n"
    "helper = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
    "pathlib.Path(os.environ['RECORD'], 'pid').write_text(str(helper.pid))\n"
)


def test_stopping_ends_what_the_child_has_started_and_can_be_done_twice(tmp_path: Path) -> None:
    server = scenario(WITH_HELPER + STAND_IN_CODE, tmp_path, nothing)
    asyncio.run(server.stop())
    assert gone(int((tmp_path / "pid").read_text()))


def test_a_child_that_was_killed_takes_along_what_it_has_started(tmp_path: Path) -> None:
    with pytest.raises(StageError, match="vLLM: killed by SIGKILL; a lack of memory is the usual cause"):
        scenario(WITH_HELPER + "os.kill(os.getpid(), 9)", tmp_path, nothing)
    assert gone(int((tmp_path / "pid").read_text()))


def test_a_child_that_is_still_starting_ends_with_its_parent_even_when_that_is_killed(tmp_path: Path) -> None:
    code = (
        "import asyncio, os, sys\n"
        "from pairwise_rm.serve.server_process import ServerProcess\n"
        f"command = [sys.executable, '-c', {WITH_HELPER + 'import time; time.sleep(600)'!r}]\n"
        "asyncio.run(ServerProcess(lambda socket: command, os.environ).start(600))"
    )

    async def run() -> int:
        parent = await asyncio.create_subprocess_exec(
            sys.executable, "-c", code, env={**os.environ, "RECORD": str(tmp_path), "TMPDIR": str(tmp_path)}
        )
        for _ in range(600):
            if (tmp_path / "pid").is_file() and (tmp_path / "pid").read_text():
                break
            await asyncio.sleep(0.1)
        helper = int((tmp_path / "pid").read_text())
        assert alive(helper)
        parent.send_signal(signal.SIGKILL)
        await parent.wait()
        return helper

    assert gone(asyncio.run(run()))
