"""A registry on this machine for as long as it is needed: Debian's `docker-registry`, over plain HTTP.

On 127.0.0.1, which Helm (`--plain-http`), Buildah, Skopeo and containerd all take without TLS; a node of a cluster
reaches it there when its containerd runs on this machine.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from release import ReleaseError

_CONFIG = """version: 0.1
log: {{level: error, accesslog: {{disabled: true}}}}
storage: {{filesystem: {{rootdirectory: {folder}}}}}
http: {{addr: "{address}"}}
"""


def is_here() -> bool:
    return shutil.which("docker-registry") is not None


@contextmanager
def registry() -> Iterator[str]:
    """Its host and port. What was pushed goes with it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "config.yaml"
        config.write_text(_CONFIG.format(folder=Path(folder) / "data", address=address), encoding="utf-8")
        log = Path(folder) / "log"
        with log.open("w") as said:
            process = subprocess.Popen(["docker-registry", "serve", str(config)], stdout=said, stderr=said)
        try:
            _wait(process, address, log)
            yield address
        finally:
            process.terminate()
            process.wait()


def _wait(process: subprocess.Popen[bytes], address: str, log: Path, seconds: float = 15.0) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end and process.poll() is None:
        try:
            urllib.request.urlopen(f"http://{address}/v2/", timeout=1).close()
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
        else:
            return
    raise ReleaseError(f"docker-registry does not answer: {log.read_text(encoding='utf-8')[-500:].strip()}")
