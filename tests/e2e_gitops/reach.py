"""Which connections enforced NetworkPolicies allow: a table of source, destination, port, result.

    python -m tests.e2e_gitops.reach NAMESPACE RELEASE     with kubectl, and a release that has a head and a worker

Connections are tried from pods: the release's head and worker, a pod with the release's labels as its submitters have
them, a pod beside it without, and two in another namespace, one of which has the labels of KubeRay's operator.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from tests.e2e.kube import Namespace, run

STRANGERS = "pairwise-rm-e2e-strangers"
PAUSE_SECONDS = 3.0
"""A pod's network is open until the enforcer knows its address."""
HEAD_PORTS = {
    8265: "dashboard",
    6379: "GCS",
    10001: "Ray client",
    8080: "metrics",
    8000: "Serve",
    44217: "autoscaler metrics",
    44227: "dashboard metrics",
    52365: "agent",
}
STRANGER_PORTS = (53, 443, 6443)
LISTEN = """
import json, socket, sys, time
kept = [socket.create_server(("", port)) for port in json.loads(sys.argv[1])]
print("listening", flush=True)
time.sleep(3600)
"""
CONNECT = """
import json, socket, sys
from concurrent.futures import ThreadPoolExecutor

def seen(place):
    try:
        socket.create_connection(tuple(place), timeout=3).close()
    except ConnectionRefusedError:
        return "refused"
    except OSError:
        return "no answer"
    return "open"

def name(host):
    try:
        return "open" if socket.getaddrinfo(host, 443) else "no answer"
    except OSError:
        return "no answer"

def look(place):
    host, port = place
    return name(host) if port == "name" else seen(place)

with ThreadPoolExecutor(32) as pool:
    print(json.dumps(list(pool.map(look, json.loads(sys.argv[1])))))
"""


@dataclass(frozen=True)
class Place:
    """The destination of a connection."""

    to: str
    host: str
    port: int | str


@dataclass(frozen=True)
class Pod:
    """The source of a connection."""

    what: str
    namespace: Namespace
    name: str
    container: str

    def sees(self, places: list[Place]) -> list[str]:
        asked = json.dumps([[place.host, place.port] for place in places])
        command = ("exec", self.name, "--container", self.container, "--", "python3", "-c", CONNECT, asked)
        found: list[str] = json.loads(self.namespace.kubectl(*command))
        return found


Row = tuple[str, str, str, str]


def rows(namespace: Namespace, release: str, image: str) -> list[Row]:
    """(from, to, port, result) of every pair that is of interest."""
    head, worker = ray_pod(namespace, release, "head"), ray_pod(namespace, release, "worker")
    with strangers(namespace, release, image) as (inside, outside):
        own = [
            Pod("head", namespace, name_of(head), "ray-head"),
            Pod("worker", namespace, name_of(worker), "ray-worker"),
            inside[0],
        ]
        into = [Place(f"head {what}", address(head), port) for port, what in HEAD_PORTS.items()] + [
            Place("worker metrics", address(worker), 8080),
            Place("worker agent", address(worker), 52365),
        ]
        out_of = [Place(f"head {HEAD_PORTS[port]}", address(head), port) for port in (8265, 6379, 10001)]
        out_of += outward(address_of(outside[0]))
        found: list[Row] = []
        for pod, places in [(pod, into) for pod in (*outside, inside[1])] + [(pod, out_of) for pod in own]:
            for place, seen in zip(places, pod.sees(places), strict=True):
                found.append((pod.what, place.to, str(place.port), seen))
        return found


def outward(stranger: str) -> Iterator[Place]:
    """Destinations that the release's pods need not reach, except DNS and, from the head, the Kubernetes API."""
    service = json.loads(run("kubectl", "--namespace", "default", "get", "service", "kubernetes", "-o", "json"))
    slices = json.loads(run("kubectl", "--namespace", "default", "get", "endpointslices", "kubernetes", "-o", "json"))
    node = json.loads(run("kubectl", "get", "nodes", "-o", "json"))["items"][0]["status"]["addresses"][0]["address"]
    yield Place("a name of the cluster", "kubernetes.default.svc", "name")
    yield Place("Kubernetes API, its service", service["spec"]["clusterIP"], 443)
    yield Place("Kubernetes API, its address", slices["endpoints"][0]["addresses"][0], slices["ports"][0]["port"])
    yield Place("kubelet", node, 10250)
    yield Place("metadata address", "169.254.169.254", 80)
    for port in STRANGER_PORTS:
        yield Place("pod of another namespace", stranger, port)


def ray_pod(namespace: Namespace, release: str, kind: str) -> dict[str, Any]:
    selector = f"app.kubernetes.io/instance={release},ray.io/node-type={kind}"
    found: dict[str, Any] = namespace.items(f"pods --selector={selector}")[0]
    return found


def name_of(pod: dict[str, Any]) -> str:
    return str(pod["metadata"]["name"])


def address(pod: dict[str, Any]) -> str:
    return str(pod["status"]["podIP"])


def address_of(pod: Pod) -> str:
    return pod.namespace.kubectl("get", "pod", pod.name, "-o", "jsonpath={.status.podIP}")


@contextmanager
def strangers(namespace: Namespace, release: str, image: str) -> Iterator[tuple[list[Pod], list[Pod]]]:
    """Pods in the release's namespace (one with its labels, one without), and in another one (the second with the
    labels of KubeRay's operator).
    """
    elsewhere = Namespace(STRANGERS)
    elsewhere.delete()
    run("kubectl", "create", "namespace", elsewhere.name)
    ours = {"app.kubernetes.io/instance": release, "app.kubernetes.io/part-of": "pairwise-rm"}
    operator = {"app.kubernetes.io/name": "kuberay-operator"}
    inside = [
        Pod("pod with the submitters' labels", namespace, "reach-ours", "reach"),
        Pod("other pod of the namespace", namespace, "reach-other", "reach"),
    ]
    outside = [
        Pod("pod of another namespace", elsewhere, "reach-stranger", "reach"),
        Pod("the same, with the operator's labels", elsewhere, "reach-operator", "reach"),
    ]
    try:
        for pod, labels in zip((*inside, *outside), (ours, {}, {}, operator), strict=True):
            pod.namespace.kubectl("delete", "pod", pod.name, "--ignore-not-found", "--grace-period=0", "--force")
            root = pod in outside
            made = prober(pod.name, labels, image, listens=STRANGER_PORTS if root else (), root=root)
            pod.namespace.kubectl("apply", "-f", "-", stdin=json.dumps(made))
        for pod in (*inside, *outside):
            pod.namespace.kubectl("wait", "--for=condition=Ready", f"pod/{pod.name}", "--timeout=120s")
        time.sleep(PAUSE_SECONDS)
        yield inside, outside
    finally:
        for pod in inside:
            namespace.kubectl("delete", "pod", pod.name, "--ignore-not-found", "--grace-period=0", "--force")
        elsewhere.delete()


def prober(
    name: str, labels: dict[str, str], image: str, listens: Sequence[int] = (), root: bool = False
) -> dict[str, Any]:
    """A pod that listens on these ports; those below 1024 need root."""
    restricted = {
        "allowPrivilegeEscalation": False,
        "runAsNonRoot": True,
        "runAsUser": 1000,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    container = {
        "name": "reach",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["python3", "-c", LISTEN, json.dumps(listens)],
        "securityContext": {"runAsUser": 0} if root else restricted,
    }
    spec = {"containers": [container], "terminationGracePeriodSeconds": 0, "automountServiceAccountToken": False}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": labels}, "spec": spec}


def table(found: list[Row]) -> str:
    """The table as text, one line per row."""
    lines = [("from", "to", "port", "seen"), *found]
    wide = [max(len(line[at]) for line in lines) for at in range(4)]
    return "\n".join("  ".join(cell.ljust(wide[at]) for at, cell in enumerate(line)).rstrip() for line in lines)


def main(namespace: str, release: str) -> None:
    space = Namespace(namespace)
    image = ray_pod(space, release, "head")["spec"]["containers"][0]["image"]
    print(table(rows(space, release, image)))


if __name__ == "__main__":
    main(*sys.argv[1:])
