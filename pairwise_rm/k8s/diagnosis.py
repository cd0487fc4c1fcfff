"""The issues of a release, or of one of its stages."""

from __future__ import annotations

import re
from collections.abc import Iterator

from pairwise_rm.k8s.failed_pods import broken, removed_pods, section_of
from pairwise_rm.k8s.issue import Issue, merged
from pairwise_rm.k8s.kuberay import unseen_job
from pairwise_rm.k8s.kueue import queue_issues
from pairwise_rm.k8s.objects import Object, cluster_name, condition, created
from pairwise_rm.k8s.pending import about_volumes, claims_of, gated, missing_claim, refused, unbound, unscheduled
from pairwise_rm.k8s.snapshot import Snapshot
from pairwise_rm.k8s.stage_status import ended, state_of
from pairwise_rm.progress import duration

_TAKEN_UP_SECONDS = 60
_REFUSED = {"FailedToCreateRayCluster": "RayCluster", "FailedToCreateRayJobSubmitter": "submitter"}
_POD = re.compile(r'pods "([^"]+)"|head Pod [^/]+/([^,\s]+)')


def issues(snapshot: Snapshot) -> list[Issue]:
    """Of all stages that have not succeeded."""
    found = [issue for stage in snapshot.jobs for issue in issues_of(snapshot, stage)]
    return merged(found)


def issues_of(snapshot: Snapshot, stage: str) -> list[Issue]:
    """Of one stage: its RayJob, its RayCluster, and the pods and claims of both."""
    job = snapshot.jobs[stage]
    state = state_of(job)
    if state == "succeeded":
        return []
    pods = [*snapshot.ray_pods(job), *snapshot.submitters(job)[-1:]]
    queued = [] if ended(state) else list(queue_issues(snapshot, job, state == "suspended"))
    found = [*queued, *_of_job(snapshot, job), *_of_cluster(snapshot, job)]
    claims = [] if ended(state) else list(_of_claims(snapshot, claims_of(pods)))
    for pod in pods:
        events = snapshot.events_of({pod["metadata"]["name"]})
        issue = unscheduled(pod, events)
        if issue and not (claims and about_volumes(issue.text)) and not (queued and gated(pod)):
            found.append(issue)
        found += broken(pod, events)
    return merged([*found, *claims, *removed_pods(snapshot, job, {pod["metadata"]["name"] for pod in pods})])


def _of_job(snapshot: Snapshot, job: Object) -> Iterator[Issue]:
    name, status = job["metadata"]["name"], job.get("status", {})
    age = snapshot.now - created(job)
    if not status.get("jobDeploymentStatus") and age > _TAKEN_UP_SECONDS and not job["spec"].get("suspend"):
        yield Issue(
            f"RayJob {name}",
            f"has not been taken up for {duration(age)}: see whether KubeRay's operator runs, and whether it watches "
            f"namespace {snapshot.namespace}",
        )
    if ended(state_of(job)):
        return
    if unheard := unseen_job(snapshot, job):
        yield unheard
    for event in snapshot.events_of({name})[-1:]:
        if event.get("reason") == "RayClusterNotFound":
            yield Issue(f"RayJob {name}", f"waits for RayCluster {cluster_name(job)}, which is not there")
        elif event.get("type") == "Warning" and event.get("reason") == "FailedCreate":
            yield refused(f"submitter pod of {name}", event.get("message", ""), "submission")
        elif event.get("reason") in _REFUSED:
            yield refused(f"RayJob {name}", event.get("message", ""), "submission", _REFUSED[event["reason"]])


def _of_cluster(snapshot: Snapshot, job: Object) -> Iterator[Issue]:
    name = cluster_name(job)
    cluster = snapshot.clusters.get(name or "")
    if cluster and (failure := condition(cluster, "ReplicaFailure")) and failure.get("status") == "True":
        yield _podless(str(name), failure.get("message", ""))
    elif name and not snapshot.ray_pods(job) and not ended(state_of(job)):
        for event in snapshot.events_of({name})[-1:]:
            if event.get("type") == "Warning":
                yield _podless(name, event.get("message", ""))


def _podless(cluster: str, message: str) -> Issue:
    pod = _POD.search(message)
    section = section_of(cluster, pod[1] or pod[2]) if pod else "head"
    return refused(f"RayCluster {cluster}", message, section)


def _of_claims(snapshot: Snapshot, names: dict[str, str]) -> Iterator[Issue]:
    if snapshot.claims is None:
        return
    for name, value in sorted(names.items()):
        claim = snapshot.claims.get(name)
        if claim is None:
            yield missing_claim(name, value)
        elif issue := unbound(claim, value, snapshot.events_of({name})):
            yield issue
