"""The damage itself: to pods, to a node, to the operator, to the API server and to DNS."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.e2e.kube import run
from tests.e2e_chaos.release import Release

OPERATOR = ("--namespace", "kuberay-operator")
OURS = bool(os.environ.get("PAIRWISE_RM_CLUSTER_IS_OURS"))
"""Whether parts of the cluster itself may be stopped."""


def delete_pod(release: Release, selector: str, *, notice: bool = True) -> None:
    """Until it is gone: with its grace period and its preStop hook, or at once, as when its machine is lost."""
    [name] = release.pods(selector)
    release.namespace.kubectl("delete", "pod", name, *(() if notice else ("--grace-period=0", "--force")))


@contextmanager
def without_gpu_labels() -> Iterator[None]:
    """No node says by NVIDIA's labels that it has GPUs."""
    found = [
        (node["metadata"]["name"], f"{key}={value}", key)
        for node in json.loads(run("kubectl", "get", "nodes", "-o", "json"))["items"]
        for key, value in node["metadata"]["labels"].items()
        if key.startswith("nvidia.com/")
    ]
    for node, _, key in found:
        run("kubectl", "label", "node", node, f"{key}-")
    try:
        yield
    finally:
        for node, label, _ in found:
            run("kubectl", "label", "node", node, label, "--overwrite")


@contextmanager
def cordoned(release: Release) -> Iterator[str]:
    """The node of the worker, cordoned."""
    [worker] = release.namespace.items("pods --selector=ray.io/node-type=worker")
    node = str(worker["spec"]["nodeName"])
    run("kubectl", "cordon", node)
    try:
        yield node
    finally:
        run("kubectl", "uncordon", node)


def evict(release: Release, pod: str) -> None:
    """As a drain does, which asks PodDisruptionBudgets."""
    body = {
        "apiVersion": "policy/v1",
        "kind": "Eviction",
        "metadata": {"name": pod, "namespace": release.namespace.name},
    }
    path = f"/api/v1/namespaces/{release.namespace.name}/pods/{pod}/eviction"
    run("kubectl", "create", "--raw", path, "-f", "-", stdin=json.dumps(body))


def restart_operator() -> None:
    run("kubectl", *OPERATOR, "delete", "pod", "--selector=app.kubernetes.io/name=kuberay-operator")
    run("kubectl", *OPERATOR, "rollout", "status", "deployment", "kuberay-operator", "--timeout=180s")


@contextmanager
def stopped(component: str) -> Iterator[None]:
    """A process of the cluster of ../shared that does not answer meanwhile."""
    process = int((Path(os.environ["CLUSTER"]) / "state" / f"{component}.pid").read_text())
    os.kill(process, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(process, signal.SIGCONT)


def stop_api_server(seconds: float) -> None:
    with stopped("kube-apiserver"):
        time.sleep(seconds)


def stop_dns(seconds: float) -> None:
    dns = ("kubectl", "--namespace", "kube-system", "scale", "deployment", "coredns")
    run(*dns, "--replicas=0")
    try:
        time.sleep(seconds)
    finally:
        run(*dns, "--replicas=1")


def kill_container(release: Release, pod: str, container: str) -> None:
    """SIGKILL to a container's first process, from its node: from within, process 1 is immune to it."""
    [item] = [one for one in release.namespace.items("pods") if one["metadata"]["name"] == pod]
    [status] = [one for one in item["status"]["containerStatuses"] if one["name"] == container]
    identity = status["containerID"].rpartition("/")[2]
    address = f"{os.environ['RUN']}/containerd.sock"
    for line in run("ctr", "--address", address, "--namespace", "k8s.io", "tasks", "list").splitlines():
        words = line.split()
        if words and words[0] == identity:
            os.kill(int(words[1]), signal.SIGKILL)
            return
    raise AssertionError(f"{pod}: container {container} is not on this machine")
