"""The smallest objects of a release, as the API gives them; a test adds the one thing that matters."""

from __future__ import annotations

import datetime
import json
from typing import Any

from pairwise_rm.k8s.diagnosis import issues_of
from pairwise_rm.k8s.issue import Issue
from pairwise_rm.k8s.snapshot import Snapshot, newest_jobs
from pairwise_rm.progress import Event, Line, Note, Step, Waiting

Object = dict[str, Any]
NOW = 1_760_000_000.0
STARTED = "2025-10-09T08:53:20Z"  # NOW
LONG_AGO = "2025-10-09T08:43:20Z"  # ten minutes before NOW
RELEASE = "judge"
AT = "2025-10-09T08:53:10.123456789Z"  # of a line in a log, ten seconds before NOW
STEP = Step(3, 20, 0.412, 0.5, 0.98, 0.0012, 9.1, 160.0)
WAITS = Waiting("convert (running)", 60.0)


def said(event: Event | str, stage: str = "train", /, **fields: Any) -> str:
    """The line in a stage's log."""
    line = Line(stage, None if isinstance(event, Waiting) else stage, Note(event) if isinstance(event, str) else event)
    return json.dumps({**line.as_json(), **fields})


def job(stage: str = "train", deployment: str = "Running", ray: str = "RUNNING", **status: Any) -> Object:
    """A RayJob on the shared RayCluster `judge`."""
    return {
        "metadata": {
            "name": f"judge-{stage}-0a1b2c3d",
            "uid": f"uid-{stage}",
            "creationTimestamp": STARTED,
            "labels": {
                "app.kubernetes.io/name": "pairwise-rm",
                "app.kubernetes.io/instance": RELEASE,
                "pairwise-rm.io/stage": stage,
            },
            "annotations": {
                "pairwise-rm.io/recipe": "smoke",
                "pairwise-rm.io/run-folder": "/mnt/runs/judge/smoke-1",
            },
        },
        "spec": {"submissionMode": "K8sJobMode", "clusterSelector": {"ray.io/cluster": "judge"}},
        "status": {"jobDeploymentStatus": deployment, "jobStatus": ray, "startTime": STARTED, "jobId": "j-1", **status},
    }


def ray_cluster(**status: Any) -> Object:
    labels = {"app.kubernetes.io/name": "pairwise-rm", "app.kubernetes.io/instance": RELEASE}
    metadata = {"name": "judge", "uid": "uid-judge", "creationTimestamp": STARTED, "labels": labels}
    return {"metadata": metadata, "status": status}


def worker(phase: str = "Running", gpus: int = 1, **status: Any) -> Object:
    """A worker pod of pool `a100`."""
    return {
        "metadata": {
            "name": "judge-a100-worker-x1",
            "namespace": "ml",
            "labels": {"ray.io/cluster": "judge", "ray.io/node-type": "worker", "ray.io/group": "a100"},
        },
        "spec": {
            "containers": [
                {"name": "ray-worker", "resources": {"limits": {"nvidia.com/gpu": str(gpus), "memory": "64Gi"}}}
            ]
        },
        "status": {"phase": phase, **status},
    }


def head(phase: str = "Running", **status: Any) -> Object:
    return {
        "metadata": {
            "name": "judge-head-x1",
            "namespace": "ml",
            "labels": {"ray.io/cluster": "judge", "ray.io/node-type": "head", "ray.io/group": "headgroup"},
        },
        "spec": {"containers": [{"name": "ray-head"}, {"name": "autoscaler"}]},
        "status": {"phase": phase, **status},
    }


def submitter(stage: str = "train", phase: str = "Running", name: str = "s1", **status: Any) -> Object:
    return {
        "metadata": {
            "name": f"judge-{stage}-0a1b2c3d-{name}",
            "namespace": "ml",
            "creationTimestamp": STARTED,
            "labels": {"job-name": f"judge-{stage}-0a1b2c3d"},
        },
        "spec": {"containers": [{"name": "ray-job-submitter"}]},
        "status": {"phase": phase, **status},
    }


def event(name: str, reason: str, message: str = "", kind: str = "Pod", seconds_ago: int = 10, **more: Any) -> Object:
    stamp = datetime.datetime.fromtimestamp(NOW - seconds_ago, datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {
        "metadata": {"name": f"{name}.1"},
        "involvedObject": {"kind": kind, "name": name},
        "reason": reason,
        "message": message,
        "type": "Normal" if reason.startswith("Deleted") else "Warning",
        "lastTimestamp": stamp,
        **more,
    }


def container(name: str, state: Object, last: Object | None = None, **more: Any) -> Object:
    """A container's status; `state` is {"waiting": …}, {"running": …} or {"terminated": …}."""
    return {"name": name, "image": "repo/judge:1", "state": state, "lastState": last or {}, "restartCount": 0, **more}


def found(
    *pods: Object,
    events: list[Object] | None = None,
    rayjob: Object | None = None,
    claims: dict[str, Object] | None = None,
    cluster: Object | None = None,
) -> list[Issue]:
    """The issues of stage `train` with these objects."""
    snapshot = Snapshot(
        "judge",
        "ml",
        newest_jobs([rayjob or job(deployment="Initializing", ray="")]),
        clusters={"judge": cluster or ray_cluster()},
        pods=list(pods),
        events=events or [],
        claims=claims,
        now=NOW,
    )
    return issues_of(snapshot, "train")


def unschedulable(pod: Object, message: str, reason: str = "Unschedulable") -> Object:
    pod["status"] = {
        "phase": "Pending",
        "conditions": [{"type": "PodScheduled", "status": "False", "reason": reason, "message": message}],
    }
    return pod


def waiting(reason: str, message: str = "", name: str = "ray-worker") -> Object:
    return container(name, {"waiting": {"reason": reason, "message": message}})


def ended(reason: str, code: int = 1, message: str = "") -> Object:
    return {"terminated": {"reason": reason, "exitCode": code, "message": message}}
