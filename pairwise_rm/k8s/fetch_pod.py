"""A small pod that mounts the runs' volume during a fetch, where no head pod runs.

It is admitted under pod security `restricted`, mounts the claim read-only, ends by itself after an hour even if
nobody is left to remove it, and is removed in every other case.
"""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

from pairwise_rm.errors import StageError
from pairwise_rm.k8s.api_errors import NotFound
from pairwise_rm.k8s.client import Cluster, Object
from pairwise_rm.k8s.failed_pods import broken
from pairwise_rm.k8s.issue import merged
from pairwise_rm.k8s.pending import unscheduled
from pairwise_rm.k8s.snapshot import INSTANCE, Snapshot, cluster_name, labels

CONTAINER = "fetch"
_LIFE_SECONDS = 3600
_START_SECONDS = 300.0
_USER = 1000
_RUNS = "runs"


@dataclass(frozen=True)
class RunsVolume:
    """Where the runs lie: a claim, its mount point, and the pod spec of the head that mounts it."""

    claim: str
    mount: str
    image: str
    like: Object


def runs_volume(snapshot: Snapshot, job: Object, run_folder: str) -> RunsVolume:
    """The claim that holds a run folder, as the head of this RayJob mounts it.

    Where the RayCluster is gone, the release's own claim for runs. Raises StageError when nothing tells.
    """
    cluster = snapshot.clusters.get(cluster_name(job) or "")
    spec = (cluster or {}).get("spec") or job.get("spec", {}).get("rayClusterSpec")
    if spec:
        return _of_head(spec["headGroupSpec"]["template"]["spec"], run_folder)
    submitter = (job.get("spec", {}).get("submitterPodTemplate") or {}).get("spec")
    for name, claim in (snapshot.claims or {}).items():
        if submitter and name.endswith(f"-{_RUNS}") and labels(claim).get(INSTANCE) == snapshot.release:
            return RunsVolume(name, f"/mnt/{_RUNS}", submitter["containers"][0]["image"], submitter)
    if snapshot.claims is None:
        raise StageError(
            f"RayCluster {cluster_name(job)} is gone, and to find the claim that holds {run_folder} takes permission "
            f"to list persistentvolumeclaims in namespace {snapshot.namespace}"
        )
    raise StageError(
        f"RayCluster {cluster_name(job)} is gone, and no claim of release {snapshot.release} is there to hold "
        f"{run_folder}; `helm upgrade` of the release brings them back"
    )


def _of_head(head: Object, run_folder: str) -> RunsVolume:
    container = head["containers"][0]
    claims = {
        volume["name"]: volume["persistentVolumeClaim"]["claimName"]
        for volume in head.get("volumes", [])
        if "persistentVolumeClaim" in volume
    }
    mounts = {
        mount["mountPath"]: claims[mount["name"]]
        for mount in container.get("volumeMounts", [])
        if mount["name"] in claims
    }
    for path in map(str, PurePosixPath(run_folder).parents):
        if path in mounts:
            return RunsVolume(mounts[path], path, container["image"], head)
    raise StageError(f"{run_folder}: the head mounts no claim there; it mounts {', '.join(mounts) or 'none'}")


def manifest(name: str, release: str, place: RunsVolume) -> Object:
    """The pod. It runs where the head would: some volumes can be mounted on one node only."""
    kept = ("imagePullSecrets", "nodeSelector", "tolerations", "affinity")
    pull = place.like["containers"][0].get("imagePullPolicy", "IfNotPresent")
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "labels": {
                "app.kubernetes.io/name": "pairwise-rm",
                INSTANCE: release,
                "app.kubernetes.io/component": "fetch",
                "app.kubernetes.io/managed-by": "pairwise-rm",
            },
        },
        "spec": {
            **{key: place.like[key] for key in kept if place.like.get(key)},
            "restartPolicy": "Never",
            "activeDeadlineSeconds": _LIFE_SECONDS,
            "terminationGracePeriodSeconds": 0,
            "automountServiceAccountToken": False,
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": _USER,
                "runAsGroup": _USER,
                "fsGroup": _USER,
                "fsGroupChangePolicy": "OnRootMismatch",
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [
                {
                    "name": CONTAINER,
                    "image": place.image,
                    "imagePullPolicy": pull,
                    "command": ["sleep", str(_LIFE_SECONDS)],
                    "resources": {
                        "requests": {"cpu": "50m", "memory": "128Mi"},
                        "limits": {"memory": "512Mi"},
                    },
                    "securityContext": {
                        "allowPrivilegeEscalation": False,
                        "readOnlyRootFilesystem": True,
                        "capabilities": {"drop": ["ALL"]},
                    },
                    "volumeMounts": [{"name": "runs", "mountPath": place.mount, "readOnly": True}],
                }
            ],
            "volumes": [{"name": "runs", "persistentVolumeClaim": {"claimName": place.claim}}],
        },
    }


@contextlib.contextmanager
def running_pod(cluster: Cluster, release: str, place: RunsVolume, say: Callable[[str], None]) -> Iterator[str]:
    """Yields the pod's name once it runs; the pod is gone afterwards."""
    name = f"{release[:40].rstrip('-')}-fetch-{secrets.token_hex(3)}"
    cluster.make_pod(manifest(name, release, place))
    try:
        say(f"no head pod runs, so pod {name} reads claim {place.claim}")
        _await(cluster, name)
        yield name
    finally:
        with contextlib.suppress(NotFound):
            cluster.remove_pod(name)


def _await(cluster: Cluster, name: str) -> None:
    """Returns when the pod runs. Raises StageError, with what keeps it, when it cannot or after five minutes."""
    end = time.monotonic() + _START_SECONDS
    while True:
        pod = cluster.pod(name)
        phase = pod.get("status", {}).get("phase")
        if phase == "Running":
            return
        why = None
        if phase == "Pending":
            events = [event for event in cluster.objects("events") if event["involvedObject"].get("name") == name]
            found = [*filter(None, [unscheduled(pod, events)]), *broken(pod, events)]
            why = merged(found)[0] if found else None
            if why and why.terminal:
                raise StageError(str(why))
        if phase not in ("Pending", None) or time.monotonic() > end:
            raise StageError(str(why) if why else f"pod {name} did not start (it is {phase})")
        time.sleep(1.0)
