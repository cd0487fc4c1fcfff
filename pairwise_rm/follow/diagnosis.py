"""All that is wrong with a release, or with what one of its stages needs."""

from __future__ import annotations

import re
from collections.abc import Iterator

from pairwise_rm.follow.claims import claim_names, missing, unbound
from pairwise_rm.follow.client import Object
from pairwise_rm.follow.containers import broken, evicted, oom_killed
from pairwise_rm.follow.pods import condition
from pairwise_rm.follow.scheduling import unscheduled
from pairwise_rm.follow.snapshot import Snapshot, cluster_name, created, event_time
from pairwise_rm.follow.stage import ended, state_of
from pairwise_rm.follow.trouble import Trouble, clipped, merged
from pairwise_rm.lines import duration

_TAKEN_UP_SECONDS = 60
_RECENT_SECONDS = 3600
_FORBIDDEN = ("PodSecurity", "serviceaccount", "admission webhook")


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
    found = [*_of_job(snapshot, job), *_of_cluster(snapshot, job)]
    for pod in pods:
        events = snapshot.events_of({pod["metadata"]["name"]})
        if trouble := unscheduled(pod, events):
            found.append(trouble)
        found += broken(pod, events)
    if not ended(state):
        found += _of_claims(snapshot, claim_names(pods))
    return merged(found + list(_of_lost_pods(snapshot, job, {pod["metadata"]["name"] for pod in pods})))


def _of_job(snapshot: Snapshot, job: Object) -> Iterator[Trouble]:
    name, status = job["metadata"]["name"], job.get("status", {})
    if status.get("jobDeploymentStatus") == "ValidationFailed":
        yield Trouble(
            f"RayJob {name}",
            f"is refused by KubeRay and stays so: {clipped(status.get('message', ''))}; change the values and upgrade",
            hopeless=True,
        )
    age = snapshot.now - created(job)
    if not status.get("jobDeploymentStatus") and age > _TAKEN_UP_SECONDS and not job["spec"].get("suspend"):
        yield Trouble(
            f"RayJob {name}",
            f"has not been taken up for {duration(age)}: see whether KubeRay's operator runs, and whether it watches "
            f"namespace {snapshot.namespace}",
        )
    if ended(state_of(job)):
        return
    for event in snapshot.events_of({name})[-1:]:
        if event.get("reason") == "RayClusterNotFound":
            yield Trouble(f"RayJob {name}", f"waits for RayCluster {cluster_name(job)}, which is not there")
        elif event.get("type") == "Warning" and event.get("reason") == "FailedCreate":
            yield _refused("submitter pod of " + name, event.get("message", ""))


def _of_cluster(snapshot: Snapshot, job: Object) -> Iterator[Trouble]:
    name = cluster_name(job)
    cluster = snapshot.clusters.get(name or "")
    if cluster and (failure := condition(cluster, "ReplicaFailure")) and failure.get("status") == "True":
        yield _refused(f"RayCluster {name}", failure.get("message", ""))


def _refused(subject: str, message: str) -> Trouble:
    """A pod that the API server does not let in: pod security, a quota, an account that is not there."""
    hopeless = any(word in message for word in _FORBIDDEN)
    return Trouble(subject, f"gets no pod: {clipped(message)}", hopeless)


def _of_claims(snapshot: Snapshot, names: set[str]) -> Iterator[Trouble]:
    if snapshot.claims is None:
        return
    for name in sorted(names):
        claim = snapshot.claims.get(name)
        if claim is None:
            yield missing(name)
        elif trouble := unbound(claim, snapshot.events_of({name})):
            yield trouble


def _of_lost_pods(snapshot: Snapshot, job: Object, there: set[str]) -> Iterator[Trouble]:
    """Worker pods that are gone already: only events still tell why."""
    name = cluster_name(job)
    since = max(created(job), snapshot.now - _RECENT_SECONDS)
    for event in sorted(snapshot.events, key=event_time):
        involved, message = event.get("involvedObject", {}), event.get("message", "")
        who = involved.get("name", "")
        if name is None or event_time(event) < since:
            continue
        if involved.get("kind") == "RayCluster" and who == name and "Reason:OOMKilled" in message:
            pod = re.search(r"(?:worker|head) Pod [^/\s]+/(\S+?);", message)
            group = pod[1].removeprefix(f"{name}-").partition("-worker-")[0] if pod else "<name>"
            section = "head" if "head Pod" in message else f"pools.{group}"
            yield Trouble(f"pod {pod[1] if pod else '?'}", oom_killed("of Ray", None, section))
        elif involved.get("kind") == "Pod" and who.startswith(f"{name}-") and who not in there:
            section = "head" if "-head-" in who else f"pools.{who.removeprefix(f'{name}-').partition('-worker-')[0]}"
            if event.get("reason") == "Evicted":
                yield Trouble(f"pod {who}", evicted(message, section))
            elif event.get("reason") == "Preempted":
                yield Trouble(f"pod {who}", f"was preempted: {clipped(message)}; see priorityClass")
