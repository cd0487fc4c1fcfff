"""KubeRay: whether the cluster has its CRDs, and whether its operator sees the jobs that run.

NetworkPolicies may keep the operator from asking the head's dashboard for a job's status. A RayJob of KubeRay 1.6 does
not show that: its status stays empty, as it does while the operator backs off, up to minutes, between two requests.
Since 1.7 it has `jobStatusCheckFailureStartTime`. The operator's log shows it in both versions, if the account may read
it.

The stage's own lines, in its submitter's log, appear at once. Only lines newer than the current head count: older ones
are of an attempt whose head was lost.
"""

from __future__ import annotations

import contextlib
import dataclasses
import re

from pairwise_rm.errors import StageError
from pairwise_rm.k8s.client import Cluster, Forbidden, NotFound
from pairwise_rm.k8s.issue import Issue, clipped
from pairwise_rm.k8s.objects import STAGE, Object, cluster_name, condition, containers, created, labels, statuses, unix
from pairwise_rm.k8s.snapshot import Snapshot
from pairwise_rm.progress import begun

_HELP = "KubeRay 1.6 or later is needed: its CRDs (`kubectl apply --server-side -k` of config/crd) and its operator"
_SINCE_1_6 = "preRunningDeadlineSeconds"
OPERATOR = "app.kubernetes.io/name=kuberay-operator"
VALUES = "networkPolicy.ingress.operator.namespace and networkPolicy.ingress.operator.podLabels"
WHO = "KubeRay's operator"
_TAIL = 2000
_NOTICED_SECONDS = 60.0
"""KubeRay asks every three seconds, so a job that it has not noticed for so long needs an explanation."""
_CERTAIN_SECONDS = 120.0
_NO_WAY = re.compile(r"dial tcp|i/o timeout|Client\.Timeout|context deadline exceeded")
_ERROR = re.compile(r'"error": ?"((?:[^"\\]|\\.)*)"')
_HEAD = "ray-head"
_REQUEST = re.compile(r'^\w+ \\?"[^"]*": ')


def check_kuberay(cluster: Cluster) -> None:
    """Raises StageError when ray.io/v1 is absent or older than KubeRay 1.6.

    Every account may list the API's kinds, and RayCronJob came with 1.6. Only if that kind is absent, the definition of
    RayJob is read, which has `preRunningDeadlineSeconds` since 1.6; if the account may not read it, the check passes.
    """
    try:
        kinds = cluster.ray_resources()
    except NotFound:
        kinds = set()
    absent = {"rayjobs", "rayclusters"} - kinds
    if absent:
        what = "ray.io/v1" if len(absent) == 2 else f"ray.io/v1 {absent.pop()}"
        raise StageError(f"{cluster.target}: the cluster does not know {what}; {_HELP}")
    if "raycronjobs" in kinds:
        return
    try:
        definition = cluster.definition("rayjobs.ray.io")
    except Forbidden:
        return
    if not is_1_6(definition):
        raise StageError(
            f"{cluster.target}: the RayJob CRD is older than KubeRay 1.6 (no spec.{_SINCE_1_6}); {_HELP}. "
            "Helm leaves CRDs that are there as they are, so upgrade them by hand"
        )


def is_1_6(definition: Object) -> bool:
    """Whether this definition of RayJob is that of KubeRay 1.6 or later."""
    for version in definition["spec"]["versions"]:
        if version["name"] == "v1":
            spec = version["schema"]["openAPIV3Schema"]["properties"]["spec"]
            return _SINCE_1_6 in spec.get("properties", {})
    return False


def with_operators(cluster: Cluster, snapshot: Snapshot) -> Snapshot:
    """Adds the operators' logs, if a RayJob's job stays unnoticed and the account may read them."""
    jobs = snapshot.jobs.values()
    if not any(_overdue(snapshot, job, _NOTICED_SECONDS) for job in jobs):
        return snapshot
    logs: dict[str, list[str]] = {}
    with contextlib.suppress(NotFound, Forbidden):  # without them the RayJob alone has to do
        for pod in cluster.objects("pods", OPERATOR, everywhere=True):
            space = pod["metadata"]["namespace"]
            name, container = pod["metadata"]["name"], containers(pod)[0]["name"]
            logs.setdefault(space, []).extend(cluster.log_tail(name, container, _TAIL, space))
    return dataclasses.replace(snapshot, operators=logs)


def unseen_job(snapshot: Snapshot, job: Object) -> Issue | None:
    """The issue of a RayJob whose job the operator cannot see, though the head is ready."""
    if not _overdue(snapshot, job, _NOTICED_SECONDS):
        return None
    who, where = f"RayJob {job['metadata']['name']}", f"the dashboard of RayCluster {cluster_name(job)} (port 8265)"
    lines = _about(snapshot, job)
    space, error = _refusal(lines)
    checked = unix(job["status"].get("jobStatusCheckFailureStartTime"))
    if error or (checked and checked >= (ready_since(snapshot, job) or 0.0)):
        told = f": {clipped(error)}" if error else ""
        home = f"to namespace {space} and the labels of its pods" if space else "to its namespace and its pods' labels"
        return Issue(
            WHO,
            f"cannot reach {where}, so that {who} tells nothing of its job{told}; set {VALUES} {home}",
            terminal=_overdue(snapshot, job, _CERTAIN_SECONDS),
        )
    if lines or checked:
        return None  # it reached the head and backs off, or Ray lost the job with an earlier head
    return Issue(
        WHO,
        f"has not seen the job of {who}, which was submitted: either it cannot reach {where}, for which see {VALUES}, "
        "or it waits before it asks again, 17 minutes at most",
    )


def _overdue(snapshot: Snapshot, job: Object, seconds: float) -> bool:
    since = _unnoticed_since(snapshot, job)
    return since is not None and snapshot.now - since >= seconds


def _unnoticed_since(snapshot: Snapshot, job: Object) -> float | None:
    """Since when the operator should have seen the job, or has failed to see it again; None if it sees it."""
    status, ready = job.get("status", {}), ready_since(snapshot, job)
    if ready is None or status.get("jobDeploymentStatus") != "Running":
        return None
    if checked := unix(status.get("jobStatusCheckFailureStartTime")):
        return max(ready, checked)
    tail = snapshot.tails.get(labels(job).get(STAGE, ""), [])
    signs = [since for since in (first_line_at(snapshot, job, tail), submitter_ended(snapshot, job)) if since]
    return max(ready, min(signs)) if signs and not status.get("jobStatus") else None


def _about(snapshot: Snapshot, job: Object) -> list[tuple[str, str]]:
    """The operators' log lines about this RayJob since its head was ready, in order, with the operator's namespace."""
    since, name = ready_since(snapshot, job) or 0.0, job["metadata"]["name"]
    return [
        (space, line)
        for space, lines in snapshot.operators.items()
        for line in lines
        if f'"{name}"' in line and _time(line) >= since
    ]


def _refusal(lines: list[tuple[str, str]]) -> tuple[str, str]:
    """The operator's namespace and its last error, if it did not reach the head; else empty."""
    for space, line in reversed(lines):
        if error := _ERROR.search(line):
            refused = ":8265" in error[1] and _NO_WAY.search(error[1])
            return (space, _REQUEST.sub("", error[1]).replace('\\"', '"')) if refused else ("", "")
    return "", ""


def head_since(snapshot: Snapshot, job: Object) -> float | None:
    """Since when the stage's head runs; None if none runs."""
    head = snapshot.head(job)
    if head is None:
        return None
    starts = [
        unix((status.get("state", {}).get("running") or {}).get("startedAt"))
        for status in statuses(head)
        if status["name"] == _HEAD
    ]
    return next(filter(None, [*starts, unix(head.get("status", {}).get("startTime"))]), created(head))


def ready_since(snapshot: Snapshot, job: Object) -> float | None:
    """Since when the running head is ready, its dashboard included; None if it is not."""
    head = snapshot.head(job)
    ready = condition(head, "Ready") if head else None
    if head is None or ready is None or ready.get("status") != "True":
        return None
    return unix(ready.get("lastTransitionTime")) or head_since(snapshot, job)


def lines_since_head(snapshot: Snapshot, job: Object, tail: list[str]) -> list[str]:
    """The lines written since the head started; `tail`: a log's last lines, each after its timestamp."""
    since = head_since(snapshot, job)
    return [] if since is None else [line for line in tail if _time(line) >= since]


def first_line_at(snapshot: Snapshot, job: Object, tail: list[str]) -> float | None:
    """When the stage wrote its first line on this head, as far back as `tail` reaches."""
    lines = lines_since_head(snapshot, job, tail)
    return _time(lines[0]) if begun(line.partition(" ")[2] for line in lines) else None


def submitter_ended(snapshot: Snapshot, job: Object) -> float | None:
    """When the submitter pod ended; None until then."""
    pod = next(iter(snapshot.submitters(job)[-1:]), {})
    if pod.get("status", {}).get("phase") not in ("Succeeded", "Failed"):
        return None
    ends = [unix((status.get("state", {}).get("terminated") or {}).get("finishedAt")) for status in statuses(pod)]
    return max(filter(None, ends), default=created(pod))


def _time(line: str) -> float:
    return unix(line.partition(" ")[0]) or 0.0
