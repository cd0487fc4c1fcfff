"""Trying again what has failed: new RayJobs, made from those that are in the cluster.

The chart does the same by its value `attempt`; this is for a person who has no Helm at hand. A new RayJob runs the
same recipe in the same folders, so it goes on where the failed one ended. The failed one stays, and the new one has its
labels and annotations: Helm's next upgrade with the same values finds the new RayJob, takes it over, and removes the
failed one (`pairwise-rm.rayJobThatStands` in the chart).

Argo CD and Flux hold a release to what stands in Git, so there the new attempt has to stand in Git too.
"""

from __future__ import annotations

import copy
import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass, field

from pairwise_rm.errors import InputError
from pairwise_rm.k8s.client import Cluster
from pairwise_rm.k8s.kueue import restore_pods
from pairwise_rm.k8s.objects import ATTEMPT, CONTENT, QUEUE, RETRY, Object, annotation, cluster_name, labels
from pairwise_rm.k8s.snapshot import Snapshot
from pairwise_rm.k8s.stage_status import StageView

HELM_RELEASE = "meta.helm.sh/release-name"
_HELM = "helm"
"""Helm's own field manager: what another one has set, Helm 4 refuses to change."""
_GIT = {
    "argocd.argoproj.io/tracking-id": "Argo CD",
    "argocd.argoproj.io/instance": "Argo CD",
    "helm.toolkit.fluxcd.io/name": "Flux",
    "kustomize.toolkit.fluxcd.io/name": "Flux",
}
_KUBECTL = "kubectl.kubernetes.io/last-applied-configuration"
_STAGE = re.compile(r"(pairwise-rm stage \w+ --recipe \S+(?: --digest \S+)?)(?: --attempt \S+)?")
_DIGITS = 8
_VOLUME = "recipe"
_FLAVOR_STAYS = (
    "its Workload is gone or may not be read, so the new pods keep the node labels and tolerations of the flavor that "
    "Kueue chose for the old ones"
)


@dataclass(frozen=True)
class NewJob:
    """A RayJob to be made; `config_map`, with its recipe, for one that has a cluster of its own.

    `note`: what a person should know of it, or empty.
    """

    stage: str
    instead_of: StageView
    manifest: Object
    config_map: Object | None = field(default=None)
    note: str = ""

    @property
    def name(self) -> str:
        return str(self.manifest["metadata"]["name"])


def git_tool(snapshot: Snapshot) -> str | None:
    """Which of the tools that follow Git the release's RayJobs belong to, or None."""
    for job in snapshot.jobs.values():
        for key, tool in _GIT.items():
            if annotation(job, key) or labels(job).get(key):
                return tool
    return None


def next_attempt(snapshot: Snapshot) -> str:
    """A text for `attempt` that the release has not had: the number after its own, 2 without one."""
    given = {annotation(job, ATTEMPT) or "" for job in snapshot.jobs.values()}
    return str(max([1, *(int(text) for text in given if text.isascii() and text.isdigit())]) + 1)


def how_to_try_again(snapshot: Snapshot, views: list[StageView]) -> list[str]:
    """A sentence, and then the exact commands, or what is to stand in Git; empty where no stage has failed."""
    if not any(view.state in ("failed", "stopped") for view in views):
        return []
    value, again = next_attempt(snapshot), "to try again, once the cause is mended"
    if tool := git_tool(snapshot):
        return [f"{again}, in Git, which {tool} follows:", f'attempt: "{value}"']
    release, namespace = snapshot.release, snapshot.namespace
    return [
        f"{again}:",
        f"pairwise-rm retry {release} -n {namespace}",
        f"helm upgrade {release} CHART -n {namespace} --reuse-values --set attempt={value}",
    ]


def new_jobs(cluster: Cluster, snapshot: Snapshot, views: list[StageView]) -> list[NewJob]:
    """The RayJobs that try again the stages that have failed, in their order; nothing is made yet.

    Raises InputError for a release that follows Git, and for a RayJob that would be refused again.
    """
    failed = [view for view in views if view.state in ("failed", "stopped")]
    if tool := git_tool(snapshot):
        raise InputError(
            f"release {snapshot.release} follows Git by {tool}, which would take back what is changed here: set the "
            f'chart\'s value `attempt: "{next_attempt(snapshot)}"` there'
        )
    for view in failed:
        if snapshot.jobs[view.stage].get("status", {}).get("jobDeploymentStatus") == "ValidationFailed":
            raise InputError(f"{view.stage}: RayJob {view.job} was {view.note.removeprefix('was ')}")
    uids = sorted(str(snapshot.jobs[view.stage]["metadata"]["uid"]) for view in failed)
    # One text for all of them, by which a stage knows the failure of its own attempt. The same one if asked twice.
    retry = _hash(*uids)
    return [_new_job(cluster, snapshot, view, retry) for view in failed]


def make(cluster: Cluster, jobs: list[NewJob], say: Callable[[str], None]) -> None:
    """Makes them, in order."""
    for job in jobs:
        if job.config_map:
            cluster.apply("configmaps", job.config_map, _HELM)
        cluster.apply("rayjobs", job.manifest, _HELM)
        say(f"{job.stage}: made RayJob {job.name}")


def _new_job(cluster: Cluster, snapshot: Snapshot, view: StageView, retry: str) -> NewJob:
    old = snapshot.jobs[view.stage]
    before = old["metadata"]["name"]
    name = f"{before[:-_DIGITS]}{_hash(before, retry)}"
    spec = copy.deepcopy(old["spec"])
    spec["entrypoint"], found = _STAGE.subn(rf"\1 --attempt {retry}", spec["entrypoint"])
    if not found or not re.fullmatch(r".*-[0-9a-f]{8}", before):
        raise InputError(f"{view.stage}: RayJob {before} has no command of the chart's; make a new one of its manifest")
    metadata = {**_metadata(old, name), "ownerReferences": _owners(snapshot, old)}
    # Charts before this annotation had no attempts either, and named a RayJob by its content.
    metadata["annotations"] = {CONTENT: before[-_DIGITS:], **metadata["annotations"], RETRY: retry}
    manifest = {"apiVersion": old["apiVersion"], "kind": "RayJob", "metadata": metadata, "spec": spec}
    if "rayClusterSpec" not in spec:
        return NewJob(view.stage, view, manifest)
    note = "" if QUEUE not in labels(old) or restore_pods(snapshot, old, spec) else _FLAVOR_STAYS
    config_map = _config_map(cluster, before, name) if _renamed(spec, before, name) else None
    return NewJob(view.stage, view, manifest, config_map, note)


def _metadata(item: Object, name: str) -> Object:
    given = item["metadata"].get("annotations") or {}
    kept = {key: text for key, text in given.items() if key not in (_KUBECTL, RETRY)}
    return {"name": name, "namespace": item["metadata"]["namespace"], "labels": labels(item), "annotations": kept}


def _owners(snapshot: Snapshot, job: Object) -> list[Object]:
    """The shared cluster, so that `helm uninstall`, which does not know the new RayJob, takes it along."""
    cluster = snapshot.clusters.get(cluster_name(job) or "")
    if not cluster or "clusterSelector" not in job["spec"]:
        return []
    metadata = cluster["metadata"]
    return [{"apiVersion": "ray.io/v1", "kind": "RayCluster", "name": metadata["name"], "uid": metadata["uid"]}]


def _renamed(spec: Object, before: str, name: str) -> bool:
    """Mounts the new RayJob's own ConfigMap into the pods of its cluster; False where they mount none of that name."""
    cluster, found = spec["rayClusterSpec"], False
    for group in [cluster["headGroupSpec"], *(cluster.get("workerGroupSpecs") or [])]:
        for volume in group["template"]["spec"].get("volumes") or []:
            if volume["name"] == _VOLUME and (volume.get("configMap") or {}).get("name") == before:
                volume["configMap"]["name"], found = name, True
    return found


def _config_map(cluster: Cluster, before: str, name: str) -> Object:
    old = cluster.object("configmaps", before)
    kept: Object = {key: old[key] for key in ("data", "immutable") if key in old}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": _metadata(old, name), **kept}


def _hash(*texts: str) -> str:
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()[:_DIGITS]
