"""A server as a child process that listens on a Unix socket of its own: started, watched and ended by its id.

`vllm serve` and its HTTP API are stable, while vLLM's Python modules change with every version. A socket in a private
folder needs no free port, and no other user can connect to it.

    server = ServerProcess(lambda socket: ["vllm", "serve", folder, "--uds", socket], environment)
    await server.start(deadline=1800)      # StageError with the server's last error when it dies
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from pairwise_rm.errors import StageError
from pairwise_rm.evaluate.engine_failure import cause_in

if TYPE_CHECKING:
    import httpx

_POLL_SECONDS = 0.5
_HEALTH_SECONDS = 20.0
_LAST_WORDS_SECONDS = 2.0
_KEPT_LINES = 500
_CHUNK = 1 << 16


class ServerProcess:
    """One child, which ends with us (see `end_with_parent`), and an HTTP client for it."""

    def __init__(self, command: Callable[[str], Sequence[str]], environment: Mapping[str, str]) -> None:
        import httpx

        self._folder = tempfile.mkdtemp(prefix="vllm-")
        socket = os.path.join(self._folder, "socket")
        self._command = [sys.executable, "-m", "pairwise_rm.serve.end_with_parent", *command(socket)]
        self._environment = dict(environment)
        self._log: deque[str] = deque(maxlen=_KEPT_LINES)
        self._process: asyncio.subprocess.Process | None = None
        self._reader: asyncio.Task[None] | None = None
        # vLLM closes a connection that was idle for 5 s; ours are closed before that.
        limits = httpx.Limits(max_connections=None, keepalive_expiry=2.0)
        self.client: httpx.AsyncClient = httpx.AsyncClient(
            transport=httpx.AsyncHTTPTransport(uds=socket, limits=limits),
            base_url="http://vllm",
            # Generation has no time limit here; the client decides when to give up.
            timeout=httpx.Timeout(None, connect=5.0),
        )

    async def start(self, deadline: float) -> None:
        """Returns when /health answers. Raises StageError when the child dies or `deadline` seconds are over."""
        self._process = await asyncio.create_subprocess_exec(
            *self._command,
            env=self._environment,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        self._reader = asyncio.create_task(self._read(self._process))
        end = time.monotonic() + deadline
        while (problem := await self._problem()) is not None:
            if self._process.returncode is not None:
                raise StageError(problem)
            if time.monotonic() >= end:
                raise StageError(f"vLLM: not ready after {deadline:.0f} s; its last line: {self._last_line()}")
            await asyncio.sleep(_POLL_SECONDS)

    async def check(self) -> None:
        """Raises StageError, with one line, unless the child lives and answers."""
        if problem := await self._problem():
            raise StageError(problem)

    async def end(self) -> str:
        """Returns when the child has ended by itself, with one line on why."""
        assert self._process is not None
        await self._process.wait()
        await self._last_words()
        return self._end()

    async def stop(self) -> None:
        """Ends the child with all that it started; does nothing the second time."""
        process, self._process = self._process, None
        await self.client.aclose()
        shutil.rmtree(self._folder, ignore_errors=True)
        if process is None:
            return
        assert process.stdin is not None
        process.stdin.close()
        await process.wait()
        await self._last_words()
        if self._reader:
            self._reader.cancel()

    async def _problem(self) -> str | None:
        import httpx

        if self._process is None:
            return "vLLM: not started"
        if self._process.returncode is not None:
            await self._last_words()
            return self._end()
        try:
            answer = await self.client.get("/health", timeout=_HEALTH_SECONDS)
        except httpx.HTTPError as error:
            return f"vLLM: no answer ({type(error).__name__}); its last line: {self._last_line()}"
        return None if answer.status_code == 200 else f"vLLM: unhealthy ({answer.status_code}): {self._last_line()}"

    async def _last_words(self) -> None:
        """Waits for the child's last output, which may still be in the pipe."""
        if self._reader:
            await asyncio.wait([self._reader], timeout=_LAST_WORDS_SECONDS)

    def _end(self) -> str:
        code = self._process.returncode if self._process else None
        cause = cause_in("\n".join(self._log))
        if code and code < 0:
            return f"vLLM: killed by {signal.Signals(-code).name}; {cause or 'a lack of memory is the usual cause'}"
        return f"vLLM: ended with exit code {code}: {cause or self._last_line()}"

    def _last_line(self) -> str:
        return next((line.strip() for line in reversed(self._log) if line.strip()), "(none)")

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        """Copies the child's output to our own log, and keeps its end."""
        assert process.stdout is not None
        rest = b""
        while chunk := await process.stdout.read(_CHUNK):
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                self._keep(line)
            if len(rest) > _CHUNK:
                self._keep(rest)
                rest = b""
        if rest:
            self._keep(rest)

    def _keep(self, line: bytes) -> None:
        text = line.decode(errors="replace")
        self._log.append(text)
        print(text, file=sys.stderr, flush=True)
