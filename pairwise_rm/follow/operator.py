"""Whether KubeRay's operator reaches the head: NetworkPolicies may keep it from asking the dashboard how a job stands.

A RayJob of KubeRay 1.6 does not tell: its status stays empty, as it also does while the operator waits before it asks
again. Since 1.7 it has `jobStatusCheckFailureStartTime`. The operator's own log tells in both, where it may be read.
"""

from __future__ import annotations

import dataclasses
import re

from pairwise_rm.follow.client import Cluster, Object
from pairwise_rm.follow.faults import Missing, Refused
from pairwise_rm.follow.pods import containers
from pairwise_rm.follow.present import ready_since, speaks_since, submitter_ended
from pairwise_rm.follow.snapshot import STAGE, Snapshot, cluster_name, labels, unix
from pairwise_rm.follow.trouble import Trouble, clipped

OPERATOR = "app.kubernetes.io/name=kuberay-operator"
VALUES = "networkPolicy.ingress.operator.namespace and networkPolicy.ingress.operator.podLabels"
WHO = "KubeRay's operator"
_TAIL = 2000
_NOTICED_SECONDS = 60.0
"""KubeRay asks every three seconds, so a job that it has not noticed for so long needs an explanation."""
_CERTAIN_SECONDS = 120.0
_NO_WAY = re.compile(r"dial tcp|i/o timeout|Client\.Timeout|context deadline exceeded")
_ERROR = re.compile(r'"error": ?"((?:[^"\\]|\\.)*)"')
_REQUEST = re.compile(r'^\w+ \\?"[^"]*": ')


def with_operators(cluster: Cluster, snapshot: Snapshot) -> Snapshot:
    """With the logs of the operators, where a RayJob stays unnoticed and they may be read."""
    jobs = snapshot.jobs.values()
    if not any(_overdue(snapshot, job, _NOTICED_SECONDS) for job in jobs):
        return snapshot
    logs: dict[str, list[str]] = {}
    try:
        for pod in cluster.objects("pods", OPERATOR, everywhere=True):
            space = pod["metadata"]["namespace"]
            name, container = pod["metadata"]["name"], containers(pod)[0]["name"]
            logs.setdefault(space, []).extend(cluster.log_tail(name, container, _TAIL, space))
    except (Missing, Refused):  # then it is told from the RayJob alone
        return dataclasses.replace(snapshot, operators=logs)
    return dataclasses.replace(snapshot, operators=logs)


def out_of_touch(snapshot: Snapshot, job: Object) -> Trouble | None:
    """The trouble of a RayJob whose job the operator does not get to see, though the head is ready."""
    if not _overdue(snapshot, job, _NOTICED_SECONDS):
        return None
    who, where = f"RayJob {job['metadata']['name']}", f"the dashboard of RayCluster {cluster_name(job)} (port 8265)"
    lines = _about(snapshot, job)
    space, error = _refusal(lines)
    checked = unix(job["status"].get("jobStatusCheckFailureStartTime"))
    if error or (checked and checked >= (ready_since(snapshot, job) or 0.0)):
        told = f": {clipped(error)}" if error else ""
        home = f"to namespace {space} and the labels of its pods" if space else "to its namespace and its pods' labels"
        return Trouble(
            WHO,
            f"cannot reach {where}, so that {who} tells nothing of its job{told}; set {VALUES} {home}",
            hopeless=_overdue(snapshot, job, _CERTAIN_SECONDS),
        )
    if lines or checked:
        return None  # it has been there and waits before it asks again, or Ray has lost the job with an earlier head
    return Trouble(
        WHO,
        f"has not seen the job of {who}, which was submitted: either it cannot reach {where}, for which see {VALUES}, "
        "or it waits before it asks again, 17 minutes at most",
    )


def _overdue(snapshot: Snapshot, job: Object, seconds: float) -> bool:
    since = _unnoticed_since(snapshot, job)
    return since is not None and snapshot.now - since >= seconds


def _unnoticed_since(snapshot: Snapshot, job: Object) -> float | None:
    """Since when the operator should have seen the job, or has failed to see it again; None where all is well."""
    status, ready = job.get("status", {}), ready_since(snapshot, job)
    if ready is None or status.get("jobDeploymentStatus") != "Running":
        return None
    if checked := unix(status.get("jobStatusCheckFailureStartTime")):
        return max(ready, checked)
    tail = snapshot.tails.get(labels(job).get(STAGE, ""), [])
    signs = [since for since in (speaks_since(snapshot, job, tail), submitter_ended(snapshot, job)) if since]
    return max(ready, min(signs)) if signs and not status.get("jobStatus") else None


def _about(snapshot: Snapshot, job: Object) -> list[tuple[str, str]]:
    """The operators' lines on this RayJob since its head is ready, with the operator's namespace, in their order."""
    since, name = ready_since(snapshot, job) or 0.0, job["metadata"]["name"]
    return [
        (space, line)
        for space, lines in snapshot.operators.items()
        for line in lines
        if f'"{name}"' in line and (unix(line.partition(" ")[0]) or 0.0) >= since
    ]


def _refusal(lines: list[tuple[str, str]]) -> tuple[str, str]:
    """The operator's namespace and its last error, when that is that it did not reach the head; else empty."""
    for space, line in reversed(lines):
        if error := _ERROR.search(line):
            refused = ":8265" in error[1] and _NO_WAY.search(error[1])
            return (space, _REQUEST.sub("", error[1]).replace('\\"', '"')) if refused else ("", "")
    return "", ""
