"""Pods that fail (image, configuration, memory, volumes), and those that were evicted, preempted or removed.

KubeRay removes Ray's failed pods at once; only events still say why.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

from pairwise_rm.k8s.issue import Issue, clipped
from pairwise_rm.k8s.objects import (
    AUTOSCALER,
    AUTOSCALER_STANDBY,
    Object,
    cluster_name,
    created,
    event_time,
    limit_of,
    statuses,
    subject,
    value_of,
)
from pairwise_rm.k8s.pending import secret_remedy
from pairwise_rm.k8s.snapshot import Snapshot

_PULLING = ("ImagePullBackOff", "ErrImagePull", "InvalidImageName", "RegistryUnavailable", "ImageInspectError")
_CONFIGURED = ("CreateContainerConfigError", "CreateContainerError", "RunContainerError")
_LOW_ON = re.compile(r"low on resource: ([\w-]+)")
_STARTING = ("ContainerCreating", "PodInitializing")
_PULL_SECRET_EVENTS = ("FailedToRetrieveImagePullSecret",)
_PULL_SECRETS = re.compile(r"image pull secrets \(([^)]*)\)")
_VOLUME_EVENTS = ("FailedMount", "FailedAttachVolume")
MANY_FAILURES = 5
"""So often in a row, and the next start will not end better."""
_RECENT_SECONDS = 3600
_DELETED = re.compile(
    r"Deleted (head|worker) Pod [^/]+/(\S+?); Pod status: (?:Failed|\w+;.*ContainerStateTerminated\{)"
    r".*?(?:ExitCode:(\d+),.*?Reason:(\w*),Message:(.*?),StartedAt|$)",
    re.DOTALL,
)
_NAME_KEPT = 50
"""Characters of `<cluster>-<pool>` that KubeRay keeps in a pod's name."""
_TAKEN = {"Evicted", "Preempted"}


def broken(pod: Object, events: list[Object]) -> Iterator[Issue]:
    """The issues of a pod's containers. `events` are the pod's own, the latest last."""
    status, who = pod.get("status", {}), subject(pod)
    if status.get("reason") == "Evicted":
        yield Issue(who, evicted(status.get("message", ""), value_of(pod)))
    images: set[str] = set()
    for container in sorted(statuses(pod), key=_not_retried):
        waiting = container.get("state", {}).get("waiting") or {}
        reason, name = waiting.get("reason", ""), container["name"]
        if reason in _PULLING:
            # The first failure may be transient; ImagePullBackOff follows a second one.
            if container["image"] not in images:
                yield Issue(who, _image(container, waiting, events), terminal=reason != "ErrImagePull")
            images.add(container["image"])
        elif reason == "ErrImageNeverPull":
            text = f"needs image {container['image']}, which is not on its node, and may not pull it"
            yield Issue(who, f"{text}; set image.pullPolicy to IfNotPresent, or load the image", terminal=True)
        elif reason in _CONFIGURED:
            yield Issue(who, _configuration(pod, name, waiting), terminal=True)
        elif reason in _STARTING and (volume := _last(events, _VOLUME_EVENTS)):
            why = clipped(volume.get("message", ""))
            yield Issue(who, f"cannot mount its volumes: {why}; {_volume(pod, volume)}")
        else:
            yield from _stopped(pod, container)


def evicted(message: str, section: str) -> str:
    resource = found[1] if (found := _LOW_ON.search(message)) else "memory"
    return f"was evicted: {clipped(message).rstrip('. ')}; raise {section}.resources.requests.{resource}"


def oom_killed(container: str, limit: object, section: str) -> str:
    at = f" at its limit of {limit}" if limit else ""
    return f"ran out of memory: container {container} was OOMKilled{at}; raise {section}.resources.limits.memory"


def _not_retried(container: Object) -> bool:
    """A sort key: retried containers first; those of one image are in different states for a while."""
    return (container.get("state", {}).get("waiting") or {}).get("reason") == "ErrImagePull"


def _image(container: Object, waiting: Object, events: list[Object]) -> str:
    # The runtime wraps the cause several times; each wrapper ends with the image's name in quotes.
    why = clipped(waiting.get("message", "").rpartition('": ')[2]) or "no reason is given"
    what = f"cannot pull image {container['image']}: {why} ({waiting['reason']})"
    if absent := _PULL_SECRETS.search((_last(events, _PULL_SECRET_EVENTS) or {}).get("message", "")):
        return f"{what}, and has no secret {absent[1]} for it; make it, or set image.pullSecrets"
    return f"{what}; set image.repository and image.tag, or image.pullSecrets for a private registry"


def _configuration(pod: Object, name: str, waiting: Object) -> str:
    message = waiting.get("message", "")
    remedy = secret_remedy(pod, message) or f"see {value_of(pod, name)}"
    return f"cannot start container {name} ({waiting['reason']}): {clipped(message)}; {remedy}"


def _stopped(pod: Object, container: Object) -> Iterator[Issue]:
    """The issue of a container that was OOMKilled at any time, or that ended with an error and does not run."""
    name, state = container["name"], container.get("state", {})
    now, before = state.get("terminated") or {}, container.get("lastState", {}).get("terminated") or {}
    section = value_of(pod, name)
    if "OOMKilled" in (now.get("reason"), before.get("reason")):
        yield Issue(subject(pod), oom_killed(name, limit_of(pod, name, "memory"), section))
        return
    crashing = (state.get("waiting") or {}).get("reason") == "CrashLoopBackOff"
    if section == "submission" and not crashing:
        return  # its exit code is not the stage's outcome
    ended = before if crashing else now
    if crashing or now.get("exitCode"):
        if name == AUTOSCALER and _stands_in(pod):
            return  # see pairwise_rm.cluster.autoscaler_standby
        why = clipped(ended.get("message", "")) or ended.get("reason", "Error")
        previous, starts = " --previous" if crashing else "", container.get("restartCount", 0) + 1
        yield Issue(
            subject(pod),
            f"failed: container {name} ended with exit code {ended.get('exitCode', '?')} ({why}) and was started "
            f"{starts} time{'s' if starts > 1 else ''}; see "
            f"`kubectl logs -n {pod['metadata'].get('namespace')} {pod['metadata']['name']} -c {name}{previous}`",
            terminal=starts >= MANY_FAILURES,
        )


def _stands_in(pod: Object) -> bool:
    """Whether the autoscaler's standby runs, which takes over when its container has ended."""
    found = [status for status in statuses(pod) if status["name"] == AUTOSCALER_STANDBY]
    return any("running" in status.get("state", {}) for status in found)


def _volume(pod: Object, event: Object) -> str:
    message = event.get("message", "")
    if "Multi-Attach" in message:
        return "set storage.<name>.accessMode to ReadWriteMany, since pods on several nodes share it"
    if remedy := secret_remedy(pod, message):
        return remedy
    if "configmap" in message.lower():
        return "`helm upgrade` of the release makes it"
    return "see storage.data, storage.runs and storage.cache"


def _last(events: list[Object], reasons: tuple[str, ...]) -> Object | None:
    return next((event for event in reversed(events) if event.get("reason") in reasons), None)


@dataclass(frozen=True)
class _RemovedPod:
    """A pod that KubeRay removed because it had failed; `times`: how many such pods its event counts."""

    pod: str
    code: str | None
    reason: str
    message: str
    times: int


def removed_pods(snapshot: Snapshot, job: Object, there: set[str]) -> Iterator[Issue]:
    """Issues of pods removed in the last hour and during this RayJob: the latest of the head and of each pool."""
    name = cluster_name(job)
    if name is None:
        return
    since = max(created(job), snapshot.now - _RECENT_SECONDS)
    recent = [event for event in sorted(snapshot.events, key=event_time) if event_time(event) >= since]
    losses: dict[str, list[_RemovedPod]] = defaultdict(list)
    taken: dict[str, str] = {}
    for event in recent:
        involved = event.get("involvedObject", {})
        who, message = involved.get("name", ""), event.get("message", "")
        if involved.get("kind") == "RayCluster" and who == name and (found := _DELETED.search(message)):
            kind, pod, code, reason, text = found.groups(default="")
            losses["head" if kind == "head" else section_of(name, pod)].append(
                _RemovedPod(pod, code, reason, text, event.get("count") or 1)
            )
        elif (
            involved.get("kind") == "Pod" and who.startswith(f"{name}-"[:_NAME_KEPT]) and event.get("reason") in _TAKEN
        ):
            taken[who] = _taken(event, section_of(name, who))
    yield from (Issue(f"pod {who}", text) for who, text in taken.items() if who not in there)
    for section, found_losses in losses.items():
        last = found_losses[-1]
        times = sum(loss.times for loss in found_losses)
        if last.pod not in taken:
            yield Issue(f"pod {last.pod}", _failed(snapshot, last, times, section), terminal=times >= MANY_FAILURES)


def section_of(cluster: str, pod: str) -> str:
    """The section of the chart's values for a pod of which only the name is known, `<cluster>-<pool>-worker-…`."""
    prefix, worker, _ = pod.rpartition("-worker-")
    if not worker:
        return "head"
    whole = prefix.startswith(f"{cluster}-") and len(prefix) < _NAME_KEPT
    return f"pools.{prefix.removeprefix(f'{cluster}-') if whole else '<name>'}"


def _taken(event: Object, section: str) -> str:
    message = event.get("message", "")
    if event["reason"] == "Evicted":
        return evicted(message, section)
    return f"was preempted: {clipped(message)}; see priorityClass"


def _failed(snapshot: Snapshot, loss: _RemovedPod, times: int, section: str) -> str:
    if loss.reason == "OOMKilled":
        return oom_killed("of Ray", None, section)
    warnings = [event for event in snapshot.events_of({loss.pod}) if event.get("type") == "Warning"]
    told = loss.message or (warnings[-1].get("message", "") if warnings else "") or loss.reason
    ended = f"ended with exit code {loss.code}" if loss.code else "failed"
    again = f" ({times} times within the hour)" if times > 1 else ""
    return f"{ended} and was replaced{again}: {clipped(told) or 'no reason is given'}"
