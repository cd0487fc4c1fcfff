"""Why Kueue has not admitted a RayJob, by its Workload, and the value to change; what it wrote into its pods."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator

from pairwise_rm.k8s.issue import Issue, clipped
from pairwise_rm.k8s.objects import QUEUE, Object, condition, created, is_true, labels, unix
from pairwise_rm.k8s.snapshot import Snapshot

_SETTLED_SECONDS = 60.0
"""A queue that is made together with the release comes within this time."""
_UNMADE = (
    "Kueue has made no Workload for it: see whether Kueue runs, whether its integrations.frameworks names "
    "ray.io/rayjob, and whether priorityClass.name is there"
)
_OTHERS_USE_IT = "insufficient unused quota"
_MAKE = "make it (manifests/kueue)"
_REMEDIES = (
    (
        re.compile(r"LocalQueue \S+ doesn't exist"),
        f"set batch.kueue.queueName to a LocalQueue of this namespace, or {_MAKE}",
    ),
    (re.compile(r"ClusterQueue \S+ doesn't exist"), f"its LocalQueue names a ClusterQueue that is not there: {_MAKE}"),
    (
        re.compile(r"resource \S+ unavailable in ClusterQueue"),
        "the ClusterQueue must cover cpu, memory and nvidia.com/gpu, for the head's and the submitter's pod too",
    ),
    (
        re.compile(r"> maximum capacity"),
        "it can never fit: lower pools.<name>.gpus or resources, or raise the ClusterQueue's nominalQuota",
    ),
)
_UNFIT = re.compile(r"doesn't match node affinity|untolerated taint")
_WRITTEN = {"metadata": ("labels", "annotations"), "spec": ("nodeSelector", "tolerations", "schedulingGates")}
"""What Kueue may change of a pod template."""
_IDLE = re.compile(r"(?:LocalQueue|ClusterQueue) \S+ is (?:inactive|stopped)")


def workload_of(snapshot: Snapshot, job: Object) -> Object | None:
    """A RayJob's Workload; of an elastic RayJob, which has one for each size it had, the newest current one."""
    mine = _current(snapshot, job)
    return max(mine, key=lambda workload: (created(workload), workload["metadata"].get("uid", "")), default=None)


def suspension(snapshot: Snapshot, job: Object) -> str:
    """Why a RayJob is suspended, with Kueue's message unless an issue has it."""
    queue, workload = labels(job).get(QUEUE), workload_of(snapshot, job)
    if not queue:
        return "spec.suspend is true"
    if workload is None:
        return f"in queue {queue}"
    message = _message(workload)
    told = f": {clipped(message)}" if message and not _remedy(workload, message) else ""
    if not is_true(workload, "Evicted"):
        return f"in queue {queue}{told}"
    how = "preempted" if (condition(workload, "Evicted") or {}).get("reason") == "Preempted" else "evicted"
    return f"{how} in queue {queue}, goes on from its checkpoint when it is admitted again{told}"


def queue_issues(snapshot: Snapshot, job: Object, suspended: bool) -> Iterator[Issue]:
    """The issue of a RayJob that needs a change to be admitted, or that runs and waits for more GPUs."""
    queue, who = labels(job).get(QUEUE), f"RayJob {job['metadata']['name']}"
    if not queue or snapshot.workloads is None:
        return
    workload = workload_of(snapshot, job)
    if workload is None:
        if suspended and not _owned(snapshot, job) and snapshot.now - created(job) > _SETTLED_SECONDS:
            yield Issue(who, f"is suspended in queue {queue}, and {_UNMADE}")
        return
    message = _message(workload)
    remedy, runs = _remedy(workload, message), any(is_true(each, "Admitted") for each in _current(snapshot, job))
    if message and (remedy or runs):
        what = "runs, and waits for more GPUs in" if runs else "is not admitted by"
        text = f"{what} queue {queue}: {clipped(message)}{f'; {remedy}' if remedy else ''}"
        yield Issue(who, text, terminal=not runs and _terminal(snapshot, workload, message))


def restore_pods(snapshot: Snapshot, job: Object, spec: Object) -> bool:
    """Takes out of `spec`, a copy of the RayJob's, what Kueue wrote into its pods when it admitted it.

    That is a flavor's node labels and tolerations, and labels of its own. The Workload has the pods as they were, and
    Kueue itself restores them from there when it suspends a RayJob. Of several, as an elastic RayJob has, the first one
    counts. False where that record is not there, or may not be read; `spec` is then left as it is.
    """
    first = min(
        _owned(snapshot, job), key=lambda workload: (created(workload), workload["metadata"]["name"]), default={}
    )
    were = [pods.get("template") or {} for pods in first.get("spec", {}).get("podSets") or []]
    cluster = spec["rayClusterSpec"]
    groups = [cluster["headGroupSpec"], *(cluster.get("workerGroupSpecs") or [])]
    now = [group["template"] for group in groups]
    if spec.get("submissionMode", "K8sJobMode") == "K8sJobMode":
        now.append(spec.get("submitterPodTemplate") or {})
    if len(were) != len(now):
        return False
    for template, original in zip(now, were, strict=True):
        for part, keys in _WRITTEN.items():
            for key in keys if part in template else ():
                template[part].pop(key, None)
                if value := (original.get(part) or {}).get(key):
                    template[part][key] = copy.deepcopy(value)
    return True


def _message(workload: Object) -> str:
    """Kueue's message on why it is not admitted; empty if it is."""
    if is_true(workload, "Admitted"):
        return ""
    if is_true(workload, "QuotaReserved"):
        checks = workload.get("status", {}).get("admissionChecks") or []
        waited = [check for check in checks if check.get("state") != "Ready"]
        said = [f"{check['name']} is {check['state']} {check.get('message') or ''}".strip() for check in waited]
        return f"its quota is reserved, admission checks are not done: {', '.join(said)}" if said else ""
    found = condition(workload, "QuotaReserved") or condition(workload, "Evicted") or {}
    return " ".join(found.get("message", "").split())


def _remedy(workload: Object, message: str) -> str:
    if workload.get("spec", {}).get("active") is False:
        return f"set spec.active of Workload {workload['metadata']['name']} to true when the cause is gone"
    lasting = _without_others_use(message)
    for pattern, remedy in _REMEDIES:
        if pattern.search(lasting):
            return remedy
    if _UNFIT.search(lasting):
        return "the ResourceFlavor's labels and taints must fit pools.<name>.nodeSelector and pools.<name>.tolerations"
    return "an administrator lets it run, or mends what its status says" if _IDLE.search(message) else ""


def _without_others_use(message: str) -> str:
    """The part of the message on pod sets that would not fit even if all other workloads had ended."""
    return "; ".join(part for part in message.split("; couldn't ") if _OTHERS_USE_IT not in part)


def _terminal(snapshot: Snapshot, workload: Object, message: str) -> bool:
    """Whether the message has lasted for a while and the end of other workloads would not change it."""
    since = unix((condition(workload, "QuotaReserved") or {}).get("lastTransitionTime")) or created(workload)
    inactive = workload.get("spec", {}).get("active") is False
    lasting = inactive or any(pattern.search(_without_others_use(message)) for pattern, _ in _REMEDIES)
    return lasting and snapshot.now - since >= _SETTLED_SECONDS


def _current(snapshot: Snapshot, job: Object) -> list[Object]:
    """A RayJob's unfinished Workloads; of an elastic one, those that no newer one has replaced."""
    return [workload for workload in _owned(snapshot, job) if not is_true(workload, "Finished")]


def _owned(snapshot: Snapshot, job: Object) -> list[Object]:
    """All Workloads of a RayJob, by its uid: a deleted RayJob may have had the same name."""
    owner = ("RayJob", job["metadata"]["name"], job["metadata"].get("uid"))
    return [
        workload
        for workload in snapshot.workloads or []
        if any(
            (reference.get("kind"), reference.get("name"), reference.get("uid")) == owner
            for reference in workload["metadata"].get("ownerReferences") or []
        )
    ]
