"""Fetches a run's results from the volume: through the head pod where one runs, else through a pod of its own."""

from __future__ import annotations

import contextlib
import importlib.resources
import io
import json
import secrets
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, cast

from pairwise_rm.atomic_io import atomic_folder, write_json
from pairwise_rm.errors import InputError, StageError
from pairwise_rm.k8s.client import Cluster, NotFound
from pairwise_rm.k8s.failed_pods import broken
from pairwise_rm.k8s.issue import merged
from pairwise_rm.k8s.objects import INSTANCE, RUN_FOLDER, Object, annotation, cluster_name, containers, labels
from pairwise_rm.k8s.pending import unscheduled
from pairwise_rm.k8s.snapshot import Snapshot
from pairwise_rm.k8s.transfer import RemoteCommand, unpack
from pairwise_rm.signals import sigterm_raises

MARK = "fetched.json"
"""In the folder that is written: what was fetched."""
REPORT = "evaluation/report.html"
CARD = "export/README.md"
CONTAINER = "fetch"
_LIFE_SECONDS = 3600
_START_SECONDS = 300.0
_USER = 1000
_RUNS = "runs"


@dataclass(frozen=True)
class Fetched:
    """The result of a fetch: the folder and the names of its files."""

    folder: Path
    files: list[str]
    size: int


@dataclass(frozen=True)
class RunsVolume:
    """The runs' volume: a claim, its mount point, and the pod spec of the head that mounts it."""

    claim: str
    mount: str
    image: str
    like: Object


def run_folder_of(snapshot: Snapshot) -> tuple[Object, str]:
    """The RayJob that names the run folder, and that folder: the last stage's, since convert has none."""
    for job in reversed(list(snapshot.jobs.values())):
        if folder := annotation(job, RUN_FOLDER):
            return job, folder
    raise StageError(f"release {snapshot.release}: no RayJob tells its run folder (annotation {RUN_FOLDER})")


def fetch(
    cluster: Cluster,
    snapshot: Snapshot,
    out: Path | None,
    weights: bool,
    say: Callable[[str], None],
    progress: Callable[[int, int], None],
) -> Fetched:
    """Copies the run's results, and with `weights` the judge, to `out` or a folder named for the run.

    `progress` is called with the bytes received and the bytes in all. Raises InputError for a folder that holds
    something else, StageError when the transfer fails; `out` is then unchanged.
    """
    job, run_folder = run_folder_of(snapshot)
    target = out or Path(PurePosixPath(run_folder).name)
    check_target(target, run_folder, weights)
    command = ["python", "-c", _program(), run_folder, *(["weights"] if weights else [])]
    with (
        sigterm_raises(SystemExit(128 + signal.SIGTERM)),
        _source(cluster, snapshot, job, run_folder, say) as (pod, container),
        atomic_folder(target) as temporary,
    ):
        came = 0

        def count(size: int) -> None:
            nonlocal came
            came += size
            progress(came, total)

        with RemoteCommand(cluster, pod, container, command) as output:
            stream = io.BufferedReader(cast(Any, output))
            first = stream.readline()
            if not first:
                output.finish()
            total = int(first)
            free_space(temporary, total)
            files = unpack(stream, temporary, count)
            output.finish()
        if not files:
            raise StageError(f"{run_folder}: has no results yet; `pairwise-rm status` tells how its stages stand")
        write_json(
            temporary / MARK,
            {
                "release": snapshot.release,
                "namespace": snapshot.namespace,
                "run_folder": run_folder,
                "weights": weights,
                "files": files,
            },
        )
    return Fetched(target, [file["name"] for file in files], came)


@contextlib.contextmanager
def _source(
    cluster: Cluster, snapshot: Snapshot, job: Object, run_folder: str, say: Callable[[str], None]
) -> Iterator[tuple[str, str]]:
    """Pod and container in which the run folder is mounted."""
    heads = [head for other in (job, *snapshot.jobs.values()) if (head := snapshot.head(other))]
    if heads:
        yield heads[0]["metadata"]["name"], containers(heads[0])[0]["name"]
        return
    volume = runs_volume(snapshot, job, run_folder)
    with running_pod(cluster, snapshot.release, volume, say) as pod:
        yield pod, CONTAINER


def _program() -> str:
    return importlib.resources.files("pairwise_rm.k8s").joinpath("run_folder_tar.py").read_text(encoding="utf-8")


def check_target(target: Path, run_folder: str, weights: bool) -> None:
    """Raises InputError unless `target` is absent, empty, or an earlier fetch that this one may replace."""
    if not target.exists():
        return
    if not target.is_dir():
        raise InputError(f"--out {target}: is a file, expected a folder")
    if not any(target.iterdir()):
        return
    if not (target / MARK).is_file():
        raise InputError(f"--out {target}: holds other files; expected a new folder or an earlier fetch")
    earlier = json.loads((target / MARK).read_text(encoding="utf-8"))
    if earlier.get("run_folder") != run_folder:
        raise InputError(f"--out {target}: holds another run, {earlier.get('run_folder')}; give another folder")
    if earlier.get("weights") and not weights:
        raise InputError(f"--out {target}: holds the weights too, which would go; add --weights or another folder")


def free_space(folder: Path, needed: int) -> None:
    """Raises StageError when the file system of `folder` cannot take that many bytes."""
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise StageError(f"{folder}: {needed / 1e9:.1f} GB are to come, {free / 1e9:.1f} GB are free")


def runs_volume(snapshot: Snapshot, job: Object, run_folder: str) -> RunsVolume:
    """The claim that holds a run folder, as the head of this RayJob mounts it.

    If the RayCluster is gone, the release's own claim for runs. Raises StageError when neither exists.
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


def pod_manifest(name: str, release: str, volume: RunsVolume) -> Object:
    """The pod's manifest. It is scheduled as the head: some volumes can be mounted on one node only."""
    kept = ("imagePullSecrets", "nodeSelector", "tolerations", "affinity")
    pull = volume.like["containers"][0].get("imagePullPolicy", "IfNotPresent")
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
            **{key: volume.like[key] for key in kept if volume.like.get(key)},
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
                    "image": volume.image,
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
                    "volumeMounts": [{"name": "runs", "mountPath": volume.mount, "readOnly": True}],
                }
            ],
            "volumes": [{"name": "runs", "persistentVolumeClaim": {"claimName": volume.claim}}],
        },
    }


@contextlib.contextmanager
def running_pod(cluster: Cluster, release: str, volume: RunsVolume, say: Callable[[str], None]) -> Iterator[str]:
    """Yields the pod's name once it runs; the pod is gone afterwards."""
    name = f"{release[:40].rstrip('-')}-fetch-{secrets.token_hex(3)}"
    cluster.make_pod(pod_manifest(name, release, volume))
    try:
        say(f"no head pod runs, so pod {name} reads claim {volume.claim}")
        _await(cluster, name)
        yield name
    finally:
        with contextlib.suppress(NotFound):
            cluster.remove_pod(name)


def _await(cluster: Cluster, name: str) -> None:
    """Waits until the pod runs. Raises StageError, with the cause, when it cannot or after five minutes."""
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
