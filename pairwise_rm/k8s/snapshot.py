"""A release's objects at one moment, as the API gives them, sorted by kind and stage."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from pairwise_rm.errors import InputError
from pairwise_rm.k8s.client import Cluster, Forbidden, NotFound
from pairwise_rm.k8s.objects import (
    INSTANCE,
    OURS,
    QUEUE,
    RAY_CLUSTER,
    STAGE,
    Object,
    cluster_name,
    created,
    event_time,
    labels,
)
from pairwise_rm.pipeline import STAGES

_JOB_NAME = "job-name"
_MADE_FOR = "ray.io/originated-from-crd"


@dataclass(frozen=True)
class Snapshot:
    """`jobs` holds the newest RayJob of each stage, in the stages' order; `pods` those of Ray and the submitters.

    `claims` and Kueue's `workloads` are None where the account may not read them or there are none of their kind;
    `tails` holds the last lines of the stages' logs, each after its timestamp, and `operators` those of KubeRay's
    operators by namespace, where they are wanted and may be read.
    """

    release: str
    namespace: str
    jobs: dict[str, Object]
    clusters: dict[str, Object] = field(default_factory=dict)
    pods: list[Object] = field(default_factory=list)
    events: list[Object] = field(default_factory=list)
    claims: dict[str, Object] | None = None
    workloads: list[Object] | None = None
    tails: dict[str, list[str]] = field(default_factory=dict)
    operators: dict[str, list[str]] = field(default_factory=dict)
    now: float = field(default_factory=time.time)

    def job(self, stage: str) -> Object:
        """The RayJob of a stage. Raises InputError that lists the existing stages."""
        if stage not in self.jobs:
            raise InputError(
                f"stage {stage!r}: release {self.release} has {', '.join(self.jobs) or 'no RayJob yet'}"
                + (f"; set stages.{stage}.enabled for it" if stage in STAGES else "")
            )
        return self.jobs[stage]

    def ray_pods(self, job: Object) -> list[Object]:
        """The pods of the RayCluster on which a RayJob runs."""
        name = cluster_name(job)
        return [pod for pod in self.pods if labels(pod).get(RAY_CLUSTER) == name]

    def submitters(self, job: Object) -> list[Object]:
        """The RayJob's submitter pods, the newest last."""
        mine = [pod for pod in self.pods if labels(pod).get(_JOB_NAME) == job["metadata"]["name"]]
        return sorted(mine, key=created)

    def head(self, job: Object) -> Object | None:
        """The head pod of a RayJob, when it runs."""
        for pod in self.ray_pods(job):
            running = pod.get("status", {}).get("phase") == "Running" and "deletionTimestamp" not in pod["metadata"]
            if running and labels(pod).get("ray.io/node-type") == "head":
                return pod
        return None

    def events_of(self, names: set[str]) -> list[Object]:
        """The events of the objects with these names, the latest last."""
        mine = [event for event in self.events if event.get("involvedObject", {}).get("name") in names]
        return sorted(mine, key=event_time)


def find_release(cluster: Cluster, wanted: str | None) -> str:
    """The release with this name, or the only one. Raises InputError that lists the existing ones."""
    there = _releases(cluster).get(cluster.namespace, set())
    if wanted in there or (wanted is None and len(there) == 1):
        return wanted or there.pop()
    if there:
        found = ", ".join(sorted(there))
        if wanted is None:
            raise InputError(f"namespace {cluster.namespace} has several releases; name one of {found}")
        raise InputError(f"release {wanted}: not in namespace {cluster.namespace}, which has {found}")
    raise InputError(
        f"{f'release {wanted}: ' if wanted else ''}no release in namespace {cluster.namespace} of "
        f"{cluster.target}{_other_namespaces(cluster)}"
    )


def _releases(cluster: Cluster, everywhere: bool = False) -> dict[str, set[str]]:
    """The names of the releases, by namespace."""
    found: dict[str, set[str]] = {}
    for item in cluster.objects("rayjobs", STAGE, everywhere) + cluster.objects("rayclusters", OURS, everywhere):
        if name := labels(item).get(INSTANCE):
            found.setdefault(item["metadata"]["namespace"], set()).add(name)
    return found


def _other_namespaces(cluster: Cluster) -> str:
    try:
        others = _releases(cluster, everywhere=True)
    except Forbidden:
        return "; another namespace is named with -n"
    if not others:
        return ", nor in any other"
    return "; with -n: " + "; ".join(f"{space} has {', '.join(sorted(names))}" for space, names in others.items())


def take(cluster: Cluster, release: str) -> Snapshot:
    """Reads the release's objects."""
    jobs = newest_jobs(cluster.objects("rayjobs", f"{STAGE},{INSTANCE}={release}"))
    clusters = {
        item["metadata"]["name"]: item
        for item in cluster.objects("rayclusters", f"{OURS},{INSTANCE}={release}")
        if labels(item).get(_MADE_FOR) != "RayService"  # serving is not a stage
    }
    ray = sorted({*clusters, *filter(None, map(cluster_name, jobs.values()))})
    pods = cluster.objects("pods", f"{RAY_CLUSTER} in ({','.join(ray)})") if ray else []
    if jobs:
        names = ",".join(job["metadata"]["name"] for job in jobs.values())
        seen = {pod["metadata"]["name"] for pod in pods}
        submitters = cluster.objects("pods", f"{_JOB_NAME} in ({names})")
        pods += [pod for pod in submitters if pod["metadata"]["name"] not in seen]
    claims = _if_allowed(cluster, "persistentvolumeclaims")
    queued = any(QUEUE in labels(job) for job in jobs.values())
    return Snapshot(
        release=release,
        namespace=cluster.namespace,
        jobs=jobs,
        clusters=clusters,
        pods=pods,
        events=_if_allowed(cluster, "events") or [],
        claims=None if claims is None else {claim["metadata"]["name"]: claim for claim in claims},
        workloads=_if_allowed(cluster, "workloads") if queued else None,
    )


def _if_allowed(cluster: Cluster, kind: str) -> list[Object] | None:
    """Events, claims and workloads only explain; an account that may not read them sees the rest."""
    try:
        return cluster.objects(kind)
    except (Forbidden, NotFound):
        return None


def newest_jobs(jobs: list[Object]) -> dict[str, Object]:
    """The newest RayJob of each stage: applied by hand, those of earlier recipes stay."""
    order = {stage: index for index, stage in enumerate(STAGES)}
    latest = {labels(job)[STAGE]: job for job in sorted(jobs, key=created)}
    return dict(sorted(latest.items(), key=lambda item: (order.get(item[0], len(order)), item[0])))
