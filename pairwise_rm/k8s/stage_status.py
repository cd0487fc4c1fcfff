"""A stage's state from its RayJob's status; its submitter's log adds the progress.

Until the status shows that the job runs, the stage's own lines count; its outcome is always the RayJob's.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from pairwise_rm import __version__
from pairwise_rm.k8s.issue import clipped, shortened
from pairwise_rm.k8s.kuberay import VALUES, WHO, first_line_at, lines_since_head, submitter_ended
from pairwise_rm.k8s.kueue import suspension
from pairwise_rm.k8s.objects import Gpus, Object, cluster_name, gpus, unix
from pairwise_rm.k8s.snapshot import Snapshot
from pairwise_rm.progress import VERSION, Found, Note, Retry, Step, Waiting, duration, failure, newest, other_version

State = Literal[
    "submitted", "starting", "waiting", "running", "retrying", "suspended", "succeeded", "failed", "stopped"
]
_DEPLOYMENT: dict[str, State] = {
    "": "submitted",
    "Initializing": "starting",
    "Waiting": "starting",
    "Retrying": "retrying",
    "Suspending": "suspended",
    "Suspended": "suspended",
    "Failed": "failed",
    "ValidationFailed": "failed",
}
_GPUS = "GPUs"
_INVALID = re.compile(r"^The RayJob \w+ is invalid: ")
_UNAWARE = ("submitted", "starting")
_NOTICED_SECONDS = 30.0
_UNSEEN = ("JobStatusCheckTimeoutExceeded", "JobDeploymentStatusTransitionGracePeriodExceeded")


def state_of(job: Object) -> State:
    """The state by `.status`. A job that has ended in Ray has ended here once KubeRay's status says so."""
    status = job.get("status", {})
    deployment, ray = status.get("jobDeploymentStatus", ""), status.get("jobStatus", "")
    if deployment == "Complete":
        return "succeeded" if ray == "SUCCEEDED" else "stopped" if ray == "STOPPED" else "failed"
    if deployment == "Running":
        return "starting" if ray in ("", "PENDING") else "running"
    return _DEPLOYMENT.get(deployment, "starting")


def ended(state: State) -> bool:
    return state in ("succeeded", "failed", "stopped")


@dataclass(frozen=True)
class StageView:
    """A stage at one moment. `seconds`: how long it has run or ran; `left`: how long it will, if known; `waits_for`:
    what a waiting stage reports; `lines_version`: that of its progress lines, if it is not this pairwise-rm's.
    """

    stage: str
    job: str
    state: State
    note: str
    step: Step | None
    gpus: Gpus
    seconds: float | None
    left: float | None
    waits_for: str | None = None
    lines_version: int | None = None

    @property
    def ended(self) -> bool:
        return ended(self.state)

    def __str__(self) -> str:
        """`waiting for convert (running), 12 s`, `failed: the disk is full`."""
        if not self.note:
            return self.state
        between = " " if self.waits_for else ": " if self.ended else ", "
        return f"{self.state}{between}{self.note}"


def view(snapshot: Snapshot, stage: str, tail: list[str]) -> StageView:
    """`tail`: the last lines of the submitter pod's log, each after its timestamp."""
    job = snapshot.job(stage)
    state, status = state_of(job), job.get("status", {})
    unaware = state in _UNAWARE
    if unaware:
        tail = lines_since_head(snapshot, job, tail)
    texts = [line.partition(" ")[2] for line in tail]
    found = newest(texts) if state not in ("retrying", "suspended") else None
    event = found.event if found else None
    age = max(0.0, snapshot.now - (unix(tail[found.index].partition(" ")[0]) or snapshot.now)) if found else 0.0
    if unaware and found and submitter_ended(snapshot, job) is None:
        state = "running"
    if state == "running" and isinstance(event, Waiting):
        state = "waiting"
    if state == "running" and isinstance(event, Retry):
        state = "retrying"
    for_gpus = isinstance(event, Waiting) and event.waiting_for.startswith(_GPUS)
    working = state == "running" or for_gpus or isinstance(event, Retry)
    began = unix((status.get("rayJobInfo") or {}).get("startTime") or status.get("startTime"))
    end = unix((status.get("rayJobInfo") or {}).get("endTime") or status.get("endTime")) if ended(state) else None
    step = event if isinstance(event, Step) else None
    return StageView(
        stage=stage,
        job=job["metadata"]["name"],
        state=state,
        note=_note(snapshot, job, state, found, age, texts) + (_unnoticed(snapshot, job, tail) if unaware else ""),
        step=step,
        gpus=gpus(snapshot.ray_pods(job)) if working and not ended(state) else Gpus(),
        seconds=None if began is None else max(0.0, (end or snapshot.now) - began),
        left=max(0.0, step.left - age) if step and state == "running" else None,
        waits_for=event.waiting_for if isinstance(event, Waiting) and state == "waiting" else None,
        lines_version=other_version(texts),
    )


def other_version_note(views: Iterable[StageView]) -> str | None:
    """A sentence if stages write progress lines of another version than this pairwise-rm's."""
    versions = [view.lines_version for view in views if view.lines_version is not None]
    if not versions:
        return None
    theirs = max(versions)
    age = "newer" if theirs > VERSION else "older"
    return (
        f"the image is {age} than this pairwise-rm {__version__}: its lines have version {theirs}, known here is "
        f"{VERSION}; what is understood of them is shown. Install the pairwise-rm of the image's version"
    )


def _note(snapshot: Snapshot, job: Object, state: State, found: Found | None, age: float, texts: list[str]) -> str:
    """A stage's progress in words, or why it has none."""
    event = found.event if found else None
    if found and isinstance(event, Retry) and state == "retrying":
        at = f"; {shortened(str(found.since))}" if found.since else ""
        return f"attempt {event.attempt} after step {event.step}{at}: {clipped(event.reason)}"
    if state in ("failed", "stopped", "retrying"):
        return cause(job, texts)
    if state == "submitted":
        return "waiting for KubeRay's operator"
    if state == "starting":
        return _starting(snapshot, job, texts)
    if state == "suspended":
        return suspension(snapshot, job)
    if isinstance(event, Waiting):
        # It waits for an earlier stage since its start, and that time is shown anyway.
        since = f", {duration(event.seconds + age)}" if event.waiting_for.startswith(_GPUS) else ""
        return f"for {event.waiting_for}{since}" if state == "waiting" else ""
    if isinstance(event, Step):
        return f"step {event.step}/{event.of}  reward {event.reward:.3f}  accuracy {event.accuracy:.3f}"
    if state == "succeeded" and not (isinstance(event, Note) and event.text.startswith("accuracy ")):
        return ""
    # A result is shown whole: its figures are what is looked for.
    whole = not isinstance(event, Note) or event.text.startswith("accuracy ")
    return str(event or "") if whole else shortened(str(event))


def _starting(snapshot: Snapshot, job: Object, texts: list[str]) -> str:
    name = cluster_name(job)
    if job.get("status", {}).get("jobDeploymentStatus") == "Running":
        if submitter_ended(snapshot, job) is None:
            return "being submitted to Ray"
        return f"its submitter has ended{f' ({clipped(error)})' if (error := failure(texts)) else ''}"
    return f"the head of {name} is starting" if name else "its RayCluster is being made"


def _unnoticed(snapshot: Snapshot, job: Object, tail: list[str]) -> str:
    since = first_line_at(snapshot, job, tail) or submitter_ended(snapshot, job)
    late = since is not None and snapshot.now - since > _NOTICED_SECONDS
    return " · KubeRay has not noticed it yet" if late else ""


def cause(job: Object, texts: list[str]) -> str:
    """Why a stage failed: the command's own error line, or else what KubeRay says."""
    status = job.get("status", {})
    message = status.get("message", "")
    if status.get("jobDeploymentStatus") == "ValidationFailed":
        return f"refused by KubeRay for good: {clipped(_INVALID.sub('', message))}; change the values"
    own = failure(texts) or failure(message.splitlines())
    if own:
        return clipped(own)
    first = next((line.strip() for line in message.splitlines() if line.strip()), "")
    reason = status.get("reason") or status.get("jobStatus") or status.get("jobDeploymentStatus") or "failed"
    blind = status.get("reason") in _UNSEEN and not (status.get("rayJobInfo") or {}).get("startTime")
    never = f"; {WHO} never saw the job in Ray: see {VALUES}" if blind else ""
    return (f"{reason}: {clipped(first)}" if first else str(reason)) + never
