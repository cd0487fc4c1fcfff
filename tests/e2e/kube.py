"""kubectl, helm and pairwise-rm as a user runs them, and observations of a run while it goes on."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pairwise_rm.errors import PairwiseError
from pairwise_rm.k8s.client import Cluster
from tests.paths import REPO

GPU = "nvidia.com/gpu"
STAGE = "pairwise-rm.io/stage"
ENDED = ("Complete", "Failed", "ValidationFailed")


def tool(name: str) -> str:
    """The pinned tool of `make tools`, or the one on PATH."""
    own = REPO / ".tools" / name
    found = str(own) if own.is_file() else shutil.which(name)
    assert found, f"{name} is needed; `make tools` installs it into .tools"
    return found


def run(*command: str, code: int | None = 0, timeout: int = 600, stdin: str | None = None, errors: bool = False) -> str:
    """Standard output (with `errors`, standard error too) of a command that must end with `code` (None: any)."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, input=stdin, check=False, cwd=REPO)
    said = f"{' '.join(command)}: exit {done.returncode}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    assert code is None or done.returncode == code, said
    return done.stdout + (done.stderr if errors else "")


def pairwise_rm(*arguments: str, code: int | None = 0, timeout: int = 600) -> str:
    return run(sys.executable, "-m", "pairwise_rm", *arguments, code=code, timeout=timeout)


@dataclass(frozen=True)
class Namespace:
    """One namespace, with pod security `restricted` enforced."""

    name: str

    def create(self) -> None:
        run("kubectl", "create", "namespace", self.name)
        run("kubectl", "label", "namespace", self.name, "pod-security.kubernetes.io/enforce=restricted")

    def delete(self) -> None:
        run("kubectl", "delete", "namespace", self.name, "--ignore-not-found", "--timeout=120s")

    def kubectl(self, *arguments: str, code: int | None = 0, stdin: str | None = None, errors: bool = False) -> str:
        return run("kubectl", "--namespace", self.name, *arguments, code=code, stdin=stdin, errors=errors)

    def helm(self, *arguments: str, code: int | None = 0) -> str:
        return run(tool("helm"), "--namespace", self.name, *arguments, code=code)

    def items(self, kind: str) -> list[dict[str, Any]]:
        return list(json.loads(self.kubectl("get", *kind.split(), "-o", "json"))["items"])

    def jobs(self) -> dict[str, dict[str, Any]]:
        """RayJobs by the stage they run."""
        return {job["metadata"]["labels"][STAGE]: job for job in self.items("rayjobs.ray.io")}

    def describe(self) -> str:
        """The state of the namespace, for the report of a failure."""
        parts = [self.kubectl("get", "rayjobs,rayclusters,pods", "-o", "wide", code=None)]
        for pod in self.items("pods"):
            name = pod["metadata"]["name"]
            log = self.kubectl("logs", name, "--all-containers", "--tail", "40", code=None)
            parts.append(f"--- {name}\n{log}")
        parts.append(self.kubectl("get", "events", "--sort-by", ".lastTimestamp", code=None)[-4000:])
        return "\n".join(parts)


def wait_for(done: Callable[[], bool], seconds: float, what: str, told: Callable[[], str]) -> float:
    """Seconds until `done`; fails after `seconds` with the text of `told` about the cluster."""
    began = time.monotonic()
    while not done():
        assert time.monotonic() < began + seconds, f"{what}: not after {seconds:.0f} s\n{told()}"
        time.sleep(1)
    return time.monotonic() - began


@contextmanager
def new_namespace(name: str, **labels: str) -> Iterator[Namespace]:
    """A new namespace, deleted afterwards."""
    this = Namespace(f"pairwise-rm-{name}")
    this.delete()
    try:
        this.create()
        for key, value in labels.items():
            run("kubectl", "label", "namespace", this.name, f"{key}={value}")
        yield this
    finally:
        this.delete()


def state_of(job: dict[str, Any]) -> str:
    return str(job.get("status", {}).get("jobDeploymentStatus", ""))


def succeeded(job: dict[str, Any]) -> bool:
    status = job.get("status", {})
    return (status.get("jobDeploymentStatus"), status.get("jobStatus")) == ("Complete", "SUCCEEDED")


@dataclass
class Seen:
    """One observation of the namespace: its time, whether a head runs, the state of each stage's RayJob, and the pods
    that hold or want GPUs.
    """

    at: float
    head_runs: bool
    states: dict[str, str]
    gpu_pods: dict[str, str]


@dataclass
class Watcher:
    """Observes the namespace every two seconds, in a thread, and keeps the observations.

    Over a connection of its own, since a kubectl every two seconds slows a training down that has two cores.
    """

    namespace: Namespace
    seen: list[Seen] = field(default_factory=list)
    issue: BaseException | None = None
    _end: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def __enter__(self) -> Watcher:
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        assert self._thread
        self._thread.join()

    def _watch(self) -> None:
        try:
            cluster = Cluster.connect(namespace=self.namespace.name)
            while not self._end.wait(2.0):
                jobs, pods = cluster.objects("rayjobs"), cluster.objects("pods")
                states = {job["metadata"]["labels"][STAGE]: state_of(job) for job in jobs}
                self.seen.append(Seen(time.time(), head_runs(pods), states, gpu_pods_of(pods)))
        except (AssertionError, PairwiseError) as error:
            # An error in the thread would be lost; it is raised where the observations are awaited.
            self.issue = error

    def first(self, condition: Callable[[Seen], bool]) -> float | None:
        return next((seen.at for seen in self.seen if condition(seen)), None)

    def during(self, begin: float, end: float) -> list[Seen]:
        return [seen for seen in self.seen if begin <= seen.at <= end]


def head_runs(pods: list[dict[str, Any]]) -> bool:
    heads = [pod for pod in pods if pod["metadata"].get("labels", {}).get("ray.io/node-type") == "head"]
    return any(pod["status"]["phase"] == "Running" for pod in heads)


def gpu_pods(namespace: Namespace) -> dict[str, str]:
    """Ray's workers, the only pods that may hold a GPU, and their phase."""
    return gpu_pods_of(namespace.items("pods"))


def gpu_pods_of(pods: list[dict[str, Any]]) -> dict[str, str]:
    found = {}
    for pod in pods:
        if pod["metadata"].get("labels", {}).get("ray.io/node-type") == "worker":
            ready = any(
                condition["type"] == "Ready" and condition["status"] == "True"
                for condition in pod["status"].get("conditions", [])
            )
            found[pod["metadata"]["name"]] = "Ready" if ready else pod["status"]["phase"]
        else:
            limits = [container.get("resources", {}).get("limits", {}) for container in pod["spec"]["containers"]]
            assert not any(GPU in limit for limit in limits), f"{pod['metadata']['name']} asks for a GPU"
    return found


def nodes_have_gpus() -> bool:
    """Whether pods can ask for `nvidia.com/gpu` here; the kind preset does without."""
    nodes = json.loads(run("kubectl", "get", "nodes", "-o", "json"))["items"]
    return any(int(node["status"]["capacity"].get(GPU, 0)) > 0 for node in nodes)


def has_cluster() -> bool:
    return bool(os.environ.get("KUBECONFIG")) or (Path.home() / ".kube" / "config").is_file()
