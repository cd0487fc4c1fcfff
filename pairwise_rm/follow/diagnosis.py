"""All that is wrong with a release, or with what one of its stages needs."""

from __future__ import annotations

import re
from collections.abc import Iterator

from pairwise_rm.follow.claims import claims_of, missing, unbound
from pairwise_rm.follow.client import Object
from pairwise_rm.follow.containers import broken
from pairwise_rm.follow.lost import lost, section
from pairwise_rm.follow.operator import out_of_touch
from pairwise_rm.follow.pods import condition
from pairwise_rm.follow.queue import held_back
from pairwise_rm.follow.refusals import refused
from pairwise_rm.follow.scheduling import about_volumes, gated, unscheduled
from pairwise_rm.follow.snapshot import Snapshot, cluster_name, created
from pairwise_rm.follow.stage import ended, state_of
from pairwise_rm.follow.trouble import Trouble, merged
from pairwise_rm.lines import duration

_TAKEN_UP_SECONDS = 60
_REFUSED = {"FailedToCreateRayCluster": "RayCluster", "FailedToCreateRayJobSubmitter": "submitter"}
_POD = re.compile(r'pods "([^"]+)"|head Pod [^/]+/([^,\s]+)')


def troubles(snapshot: Snapshot) -> list[Trouble]:
    """Of all stages that have not succeeded."""
    found = [trouble for stage in snapshot.jobs for trouble in troubles_of(snapshot, stage)]
    return merged(found)


def troubles_of(snapshot: Snapshot, stage: str) -> list[Trouble]:
    """Of one stage: its RayJob, its RayCluster, and the pods and claims of both."""
    job = snapshot.jobs[stage]
    state = state_of(job)
    if state == "succeeded":
        return []
    pods = [*snapshot.ray_pods(job), *snapshot.submitters(job)[-1:]]
    queued = [] if ended(state) else list(held_back(snapshot, job, state == "suspended"))
    found = [*queued, *_of_job(snapshot, job), *_of_cluster(snapshot, job)]
    claims = [] if ended(state) else list(_of_claims(snapshot, claims_of(pods)))
    for pod in pods:
        events = snapshot.events_of({pod["metadata"]["name"]})
        trouble = unscheduled(pod, events)
        if trouble and not (claims and about_volumes(trouble.text)) and not (queued and gated(pod)):
            found.append(trouble)
        found += broken(pod, events)
    return merged([*found, *claims, *lost(snapshot, job, {pod["metadata"]["name"] for pod in pods})])


def _of_job(snapshot: Snapshot, job: Object) -> Iterator[Trouble]:
    name, status = job["metadata"]["name"], job.get("status", {})
    age = snapshot.now - created(job)
    if not status.get("jobDeploymentStatus") and age > _TAKEN_UP_SECONDS and not job["spec"].get("suspend"):
        yield Trouble(
            f"RayJob {name}",
            f"has not been taken up for {duration(age)}: see whether KubeRay's operator runs, and whether it watches "
            f"namespace {snapshot.namespace}",
        )
    if ended(state_of(job)):
        return
    if unheard := out_of_touch(snapshot, job):
        yield unheard
    for event in snapshot.events_of({name})[-1:]:
        if event.get("reason") == "RayClusterNotFound":
            yield Trouble(f"RayJob {name}", f"waits for RayCluster {cluster_name(job)}, which is not there")
        elif event.get("type") == "Warning" and event.get("reason") == "FailedCreate":
            yield refused(f"submitter pod of {name}", event.get("message", ""), "submission")
        elif event.get("reason") in _REFUSED:
            yield refused(f"RayJob {name}", event.get("message", ""), "submission", _REFUSED[event["reason"]])


def _of_cluster(snapshot: Snapshot, job: Object) -> Iterator[Trouble]:
    name = cluster_name(job)
    cluster = snapshot.clusters.get(name or "")
    if cluster and (failure := condition(cluster, "ReplicaFailure")) and failure.get("status") == "True":
        yield _podless(str(name), failure.get("message", ""))
    elif name and not snapshot.ray_pods(job) and not ended(state_of(job)):
        for event in snapshot.events_of({name})[-1:]:
            if event.get("type") == "Warning":
                yield _podless(name, event.get("message", ""))


def _podless(cluster: str, message: str) -> Trouble:
    pod = _POD.search(message)
    place = section(cluster, pod[1] or pod[2]) if pod else "head"
    return refused(f"RayCluster {cluster}", message, place)


def _of_claims(snapshot: Snapshot, names: dict[str, str]) -> Iterator[Trouble]:
    if snapshot.claims is None:
        return
    for name, value in sorted(names.items()):
        claim = snapshot.claims.get(name)
        if claim is None:
            yield missing(name, value)
        elif trouble := unbound(claim, value, snapshot.events_of({name})):
            yield trouble
