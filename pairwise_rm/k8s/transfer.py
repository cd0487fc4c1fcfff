"""Files from a pod: a command's output as a stream, and the tar in it unpacked, with nothing outside of its folder.

A judge's weights are larger than memory, and the kubernetes client buffers all that it reads; so only its connection
is used, and the frames are read here. The first byte of a frame is its channel: 1 is stdout, 2 stderr, 3 the command's
end.
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import IO, Any

from pairwise_rm.errors import StageError
from pairwise_rm.k8s.client import Answer, Cluster, Unavailable, explained

_STDOUT, _STDERR, _END = 1, 2, 3
_SILENCE_SECONDS = 120.0
_STDERR_KEPT = 8192
_BLOCK = 1 << 20

Progress = Callable[[int], None]


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

    def __exit__(self, *_: object) -> None:
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


def unpack(stream: IO[bytes], folder: Path, progress: Progress) -> list[dict[str, Any]]:
    """Writes the regular files of a tar stream; returns name, size and SHA-256 of each.

    Raises StageError for a stream that is cut short, and for a name that leads out of the folder.
    """
    files = []
    try:
        with tarfile.open(fileobj=stream, mode="r|", bufsize=_BLOCK) as archive:
            for member in archive:
                name = safe_name(member)
                content = archive.extractfile(member)
                assert content is not None  # a regular file has content
                path = folder / name
                path.parent.mkdir(parents=True, exist_ok=True)
                files.append({"name": name, "size": member.size, "sha256": _write(content, path, progress)})
                if path.stat().st_size != member.size:
                    raise StageError(f"{name}: the transfer broke off in this file")
    except tarfile.TarError as error:
        raise StageError(f"the transfer broke off: {error}") from error
    return files


def safe_name(member: tarfile.TarInfo) -> str:
    """The member's name. Raises StageError unless it is a regular file at a relative path that stays inside."""
    path = PurePosixPath(member.name)
    if not member.isreg() or path.is_absolute() or ".." in path.parts or "\\" in member.name or not path.parts:
        raise StageError(f"refused {member.name!r} from the pod: expected a regular file inside the run folder")
    return str(path)


def _write(content: IO[bytes], path: Path, progress: Progress) -> str:
    digest = hashlib.sha256()
    with open(path, "wb") as handle:
        while block := content.read(_BLOCK):
            handle.write(block)
            digest.update(block)
            progress(len(block))
    return digest.hexdigest()
