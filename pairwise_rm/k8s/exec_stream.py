"""A command in a pod, whose output is read as a stream: a judge's weights are larger than memory.

The kubernetes client buffers all that it reads; so only its connection is used, and the frames are read here.
The first byte of a frame is its channel: 1 is stdout, 2 stderr, 3 the command's end.
"""

from __future__ import annotations

import io
import json
from types import TracebackType
from typing import Any

from pairwise_rm.errors import StageError
from pairwise_rm.k8s.api_errors import Answer, Unavailable, explained
from pairwise_rm.k8s.client import Cluster

_STDOUT, _STDERR, _END = 1, 2, 3
_SILENCE_SECONDS = 120.0
_STDERR_KEPT = 8192


class RemoteCommand(io.RawIOBase):
    """Readable: the command's stdout. `with RemoteCommand(...) as output: output.read(10); output.finish()`."""

    def __init__(self, cluster: Cluster, pod: str, container: str, command: list[str]) -> None:
        super().__init__()
        self.pod = pod
        self._rest, self._ended = b"", False
        self._stderr, self._end = b"", b""
        with explained(cluster.target, "create", "pods/exec"):
            self._connection = _connection(cluster, pod, container, command)
        self._connection.sock.settimeout(_SILENCE_SECONDS)

    def __enter__(self) -> RemoteCommand:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connection.close()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._rest and not self._ended:
            self._receive()
        count = min(len(buffer), len(self._rest))
        buffer[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count

    @property
    def stderr(self) -> str:
        return self._stderr.decode(errors="replace").strip()

    def finish(self) -> None:
        """Reads to the end. Raises StageError unless the command succeeded."""
        while not self._ended:
            self._receive()
        if not self._end:
            raise self._broken("the connection was closed")
        status = json.loads(self._end)
        if status.get("status") != "Success":
            said = self.stderr.splitlines()
            raise StageError(f"pod {self.pod}: {said[-1] if said else status.get('message', 'the command failed')}")

    def _receive(self) -> None:
        from websocket import ABNF, WebSocketException

        try:
            code, frame = self._connection.sock.recv_data_frame(True)
        except (WebSocketException, OSError) as error:
            raise self._broken(str(error) or type(error).__name__) from error
        if code == ABNF.OPCODE_CLOSE:
            self._ended = True
        elif code in (ABNF.OPCODE_BINARY, ABNF.OPCODE_TEXT) and frame.data:
            channel, data = frame.data[0], frame.data[1:]
            if channel == _STDOUT:
                self._rest += data
            elif channel == _STDERR:
                self._stderr = (self._stderr + data)[:_STDERR_KEPT]
            elif channel == _END:
                self._end += data

    def _broken(self, why: str) -> StageError:
        return StageError(f"pod {self.pod}: the transfer broke off: {why}")


def _connection(cluster: Cluster, pod: str, container: str, command: list[str]) -> Any:
    from kubernetes.client.exceptions import ApiException
    from kubernetes.stream.ws_client import websocket_call

    query = [("command", word) for word in command]
    query += [("container", container), ("stdout", "true"), ("stderr", "true")]
    url = cluster.url(f"/api/v1/namespaces/{cluster.namespace}/pods/{pod}/exec")
    try:
        return websocket_call(
            cluster.configuration,
            "GET",
            url,
            query_params=query,
            headers=cluster.authorization,
            _preload_content=False,
        )
    except ApiException as error:
        # The client wraps any error; that of a refused handshake has the API server's answer.
        cause = error.__context__
        if code := getattr(cause, "status_code", None):
            raise Answer(code, getattr(cause, "resp_body", None) or b"") from error
        raise Unavailable(f"{cluster.target}: {error.reason}") from error
