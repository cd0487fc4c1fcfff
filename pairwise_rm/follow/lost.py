"""Ray's pods that failed and are gone: KubeRay removes them at once, and only events still tell why."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

from pairwise_rm.follow.client import Object
from pairwise_rm.follow.containers import MANY_FAILURES, evicted, oom_killed
from pairwise_rm.follow.snapshot import Snapshot, cluster_name, created, event_time
from pairwise_rm.follow.trouble import Trouble, clipped

_RECENT_SECONDS = 3600
_DELETED = re.compile(
    r"Deleted (head|worker) Pod [^/]+/(\S+?); Pod status: (?:Failed|\w+;.*ContainerStateTerminated\{)"
    r".*?(?:ExitCode:(\d+),.*?Reason:(\w*),Message:(.*?),StartedAt|$)",
    re.DOTALL,
)
_NAME_KEPT = 50
"""Characters of `<cluster>-<pool>` that KubeRay keeps in a pod's name."""
_TAKEN = {"Evicted", "Preempted"}


@dataclass(frozen=True)
class _Loss:
    """A pod that KubeRay removed because it had failed; `times` counts those that its event stands for."""

    pod: str
    code: str | None
    reason: str
    message: str
    times: int


def lost(snapshot: Snapshot, job: Object, there: set[str]) -> Iterator[Trouble]:
    """Of the last hour, of this RayJob's time: one trouble for the head and one for each pool, the latest loss."""
    name = cluster_name(job)
    if name is None:
        return
    since = max(created(job), snapshot.now - _RECENT_SECONDS)
    recent = [event for event in sorted(snapshot.events, key=event_time) if event_time(event) >= since]
    losses: dict[str, list[_Loss]] = defaultdict(list)
    taken: dict[str, str] = {}
    for event in recent:
        involved = event.get("involvedObject", {})
        who, message = involved.get("name", ""), event.get("message", "")
        if involved.get("kind") == "RayCluster" and who == name and (found := _DELETED.search(message)):
            kind, pod, code, reason, text = found.groups(default="")
            losses["head" if kind == "head" else section(name, pod)].append(
                _Loss(pod, code, reason, text, event.get("count") or 1)
            )
        elif (
            involved.get("kind") == "Pod" and who.startswith(f"{name}-"[:_NAME_KEPT]) and event.get("reason") in _TAKEN
        ):
            taken[who] = _taken(event, section(name, who))
    yield from (Trouble(f"pod {who}", text) for who, text in taken.items() if who not in there)
    for place, found_losses in losses.items():
        last = found_losses[-1]
        times = sum(loss.times for loss in found_losses)
        if last.pod not in taken:
            yield Trouble(f"pod {last.pod}", _failed(snapshot, last, times, place), hopeless=times >= MANY_FAILURES)


def section(cluster: str, pod: str) -> str:
    """The section of the chart's values behind a pod that is known by its name alone, `<cluster>-<pool>-worker-…`."""
    prefix, worker, _ = pod.rpartition("-worker-")
    if not worker:
        return "head"
    whole = prefix.startswith(f"{cluster}-") and len(prefix) < _NAME_KEPT
    return f"pools.{prefix.removeprefix(f'{cluster}-') if whole else '<name>'}"


def _taken(event: Object, place: str) -> str:
    message = event.get("message", "")
    if event["reason"] == "Evicted":
        return evicted(message, place)
    return f"was preempted: {clipped(message)}; see priorityClass"


def _failed(snapshot: Snapshot, loss: _Loss, times: int, place: str) -> str:
    if loss.reason == "OOMKilled":
        return oom_killed("of Ray", None, place)
    warnings = [event for event in snapshot.events_of({loss.pod}) if event.get("type") == "Warning"]
    told = loss.message or (warnings[-1].get("message", "") if warnings else "") or loss.reason
    ended = f"ended with exit code {loss.code}" if loss.code else "failed"
    again = f" ({times} times within the hour)" if times > 1 else ""
    return f"{ended} and was replaced{again}: {clipped(told) or 'no reason is given'}"
