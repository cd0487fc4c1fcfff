"""Argo CD, Flux, Kueue and enforced NetworkPolicies: controllers that act on the chart and the manifests.

Needs a kubeconfig with a cluster that has them, and the image of the `kind` preset in it; `make e2e-gitops` sees to
both. A run here is only the convert stage, on a few pairs (pairs.py), unless a test sets otherwise.
"""

from __future__ import annotations

import os
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.e2e.kube import has_cluster, run, wait_for
from tests.e2e.phases import report
from tests.paths import shared


def pytest_configure() -> None:
    if not has_cluster():
        pytest.exit("these tests need a cluster: set KUBECONFIG (`make e2e-gitops` starts one where it can)", 1)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    report(terminalreporter)


@dataclass(frozen=True)
class Repository:
    """A Git repository that controllers can fetch, and its work tree here."""

    folder: Path
    url: str

    def commit(self, message: str) -> str:
        """Commits the whole work tree; returns the commit."""
        self._git("add", "--all")
        self._git("commit", "--quiet", "--allow-empty", "--message", message)
        self._git("push", "--quiet", "--force", "origin", "HEAD:main")
        return self._git("rev-parse", "HEAD").strip()

    def _git(self, *arguments: str) -> str:
        own = ("-c", "user.name=tests", "-c", "user.email=tests@example.com")
        return run("git", "-C", str(self.folder), *own, *arguments)


@dataclass(frozen=True)
class GitServer:
    root: Path
    work: Path
    url: str

    def repository(self, name: str) -> Repository:
        """A new one, empty."""
        run("git", "init", "--quiet", "--bare", "--initial-branch=main", str(self.root / name))
        folder = self.work / name
        run("git", "init", "--quiet", "--initial-branch=main", str(folder))
        run("git", "-C", str(folder), "remote", "add", "origin", str(self.root / name))
        return Repository(folder, f"{self.url}/{name}")


NODE = "198.18.0.1"


def free_port() -> int:
    """A free port, from a range that parallel runs of these tests do not share."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    ports = range(3080 + 20 * worker, 3100 + 20 * worker)
    found = next((port for port in ports if not answers(port)), None)
    assert found, f"ports {ports.start} to {ports.stop - 1} of the node are all taken"
    return found


def answers(port: int) -> bool:
    with socket.socket() as connection:
        return connection.connect_ex((NODE, port)) == 0


@pytest.fixture(scope="session")
def git() -> Iterator[GitServer]:
    """A Git server that the cluster's controllers reach."""
    serve = shared("cluster/git-serve")
    with tempfile.TemporaryDirectory() as folder:
        root, work = Path(folder) / "served", Path(folder) / "work"
        root.mkdir()
        work.mkdir()
        port = free_port()
        process = subprocess.Popen([str(serve), str(root), str(port)])
        try:
            wait_for(lambda: answers(port), 10, "the Git server answers", lambda: f"exit {process.poll()}")
            assert process.poll() is None, f"port {port} was taken meanwhile"
            yield GitServer(root, work, f"http://{NODE}:{port}")
        finally:
            process.terminate()
            process.wait()
