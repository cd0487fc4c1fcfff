"""What a stage says itself while its RayJob's status does not know of it yet.

KubeRay asks Ray how a job stands, and after some failures it asks minutes apart. The submitter's log is there at once.
Only lines that are younger than the head that runs now count: those of an attempt whose head was lost are not news.
"""

from __future__ import annotations

from pairwise_rm.follow.client import Object
from pairwise_rm.follow.pods import condition, statuses
from pairwise_rm.follow.snapshot import Snapshot, created, unix
from pairwise_rm.lines import Found, NoteLine, newest, plain

_HEAD = "ray-head"


def head_since(snapshot: Snapshot, job: Object) -> float | None:
    """Since when the head runs that the stage is on; None where none runs."""
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
    """Since when the running head is ready, its dashboard included; None where it is not."""
    head = snapshot.head(job)
    ready = condition(head, "Ready") if head else None
    if head is None or ready is None or ready.get("status") != "True":
        return None
    return unix(ready.get("lastTransitionTime")) or head_since(snapshot, job)


def present(snapshot: Snapshot, job: Object, tail: list[str]) -> list[str]:
    """The lines that were written since the head runs; `tail` are a log's last lines, each behind its time."""
    since = head_since(snapshot, job)
    return [] if since is None else [line for line in tail if _time(line) >= since]


def speaks_since(snapshot: Snapshot, job: Object, tail: list[str]) -> float | None:
    """Since when the stage has been telling of itself on this head, as far back as the lines reach."""
    lines = present(snapshot, job, tail)
    return _time(lines[0]) if own_word([line.partition(" ")[2] for line in lines]) else None


def own_word(texts: list[str]) -> Found | None:
    """The stage's newest line. What `ray job submit` prints before it is indented as the stage's notes are."""
    found = newest(texts)
    begun = any(plain(text).startswith("▸ ") for text in texts)
    return found if found and (begun or not isinstance(found.line, NoteLine)) else None


def submitter_ended(snapshot: Snapshot, job: Object) -> float | None:
    """When the submitter's pod has ended; None while it has not."""
    pod = next(iter(snapshot.submitters(job)[-1:]), {})
    if pod.get("status", {}).get("phase") not in ("Succeeded", "Failed"):
        return None
    ends = [unix((status.get("state", {}).get("terminated") or {}).get("finishedAt")) for status in statuses(pod)]
    return max(filter(None, ends), default=created(pod))


def _time(line: str) -> float:
    return unix(line.partition(" ")[0]) or 0.0
