"""A release at one moment, as a person wants to know it: its stages, its GPUs, what keeps it."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from typing import Any

from pairwise_rm.follow.client import Cluster, Object
from pairwise_rm.follow.crds import check_kuberay
from pairwise_rm.follow.diagnosis import troubles
from pairwise_rm.follow.faults import Missing, Refused
from pairwise_rm.follow.operator import with_operators
from pairwise_rm.follow.pods import Gpus, containers, gpus
from pairwise_rm.follow.snapshot import (
    RECIPE,
    RUN_FOLDER,
    Snapshot,
    annotation,
    cluster_name,
    event_time,
    find_release,
    take,
)
from pairwise_rm.follow.stage import StageView, ended, state_of, view
from pairwise_rm.follow.trouble import Trouble, clipped
from pairwise_rm.lines import duration

_TAIL = 200


@dataclass(frozen=True)
class Overview:
    """`last_event` is there when a stage does not start and no trouble is known."""

    snapshot: Snapshot
    stages: list[StageView]
    gpus: Gpus
    troubles: list[Trouble]
    last_event: str | None

    @property
    def ended(self) -> bool:
        return bool(self.stages) and all(stage.ended for stage in self.stages)

    def said(self, key: str) -> str | None:
        """An annotation of the RayJobs."""
        return next((text for job in self.snapshot.jobs.values() if (text := annotation(job, key))), None)

    def as_json(self) -> dict[str, Any]:
        return {
            "release": self.snapshot.release,
            "namespace": self.snapshot.namespace,
            "recipe": self.said(RECIPE),
            "run_folder": self.said(RUN_FOLDER),
            "stages": [_stage_json(self.snapshot, stage) for stage in self.stages],
            "gpus": {"held": self.gpus.held, "waited": self.gpus.waited},
            "troubles": [{"text": str(trouble), "hopeless": trouble.hopeless} for trouble in self.troubles],
            "last_event": self.last_event,
        }


@dataclass
class Follower:
    """Looks at a release again and again; the log of a stage that has ended is read once."""

    cluster: Cluster
    release: str
    _tails: dict[str, list[str]] = field(default_factory=dict)

    def snapshot(self, only: str | None = None) -> Snapshot:
        """The release now, with the ends of its logs, or of one stage's."""
        found = take(self.cluster, self.release)
        jobs = {stage: job for stage, job in found.jobs.items() if only in (None, stage)}
        tails = {stage: self._tail(found, job) for stage, job in jobs.items()}
        return with_operators(self.cluster, dataclasses.replace(found, tails=tails))

    def look(self) -> Overview:
        snapshot = self.snapshot()
        stages = [self.stage(snapshot, stage) for stage in snapshot.jobs]
        found = troubles(snapshot)
        return Overview(
            snapshot=snapshot,
            stages=stages,
            gpus=gpus([pod for pod in snapshot.pods if "ray.io/cluster" in pod["metadata"].get("labels", {})]),
            troubles=found,
            last_event=None if found else _last_event(snapshot, stages),
        )

    def stage(self, snapshot: Snapshot, stage: str) -> StageView:
        job = snapshot.job(stage)
        known = snapshot.tails.get(stage)
        return view(snapshot, stage, self._tail(snapshot, job) if known is None else known)

    def _tail(self, snapshot: Snapshot, job: Object) -> list[str]:
        """The end of the submitter's log; nothing where there is none, or where it may not be read."""
        name, pods = job["metadata"]["name"], snapshot.submitters(job)
        if name in self._tails:
            return self._tails[name]
        if not pods or pods[-1].get("status", {}).get("phase") in (None, "Pending"):
            return []
        try:
            lines = self.cluster.log_tail(pods[-1]["metadata"]["name"], containers(pods[-1])[0]["name"], _TAIL)
        except (Missing, Refused):
            return []
        if ended(state_of(job)):
            self._tails[name] = lines
        return lines


def follower(context: str | None, namespace: str | None, release: str | None) -> Follower:
    """The release that the user named, or the only one. Raises InputError and StageError, with a sentence."""
    cluster = Cluster.connect(context, namespace)
    check_kuberay(cluster)
    return Follower(cluster, find_release(cluster, release))


def _last_event(snapshot: Snapshot, stages: list[StageView]) -> str | None:
    """The last thing that happened to a stage that does not start."""
    names: set[str] = set()
    for stage in stages:
        job = snapshot.jobs[stage.stage]
        if stage.state in ("submitted", "starting", "retrying"):
            names |= {job["metadata"]["name"], cluster_name(job) or ""}
            names |= {pod["metadata"]["name"] for pod in snapshot.ray_pods(job) + snapshot.submitters(job)}
    events = snapshot.events_of(names)
    if not events:
        return None
    last = events[-1]
    involved = last.get("involvedObject", {})
    ago = duration(max(0.0, snapshot.now - event_time(last)))
    return f"{ago} ago, {involved.get('kind')} {involved.get('name')}: {clipped(last.get('message', ''))}"


def _stage_json(snapshot: Snapshot, stage: StageView) -> dict[str, Any]:
    status = snapshot.jobs[stage.stage].get("status", {})
    step = stage.step
    return {
        "stage": stage.stage,
        "state": stage.state,
        "rayjob": stage.job,
        "job_status": status.get("jobStatus"),
        "deployment_status": status.get("jobDeploymentStatus"),
        "note": stage.note,
        "step": step and step.step,
        "last_step": step and step.last,
        "reward": _number(step.reward) if step else None,
        "accuracy": _number(step.accuracy) if step else None,
        "gpus": {"held": stage.gpus.held, "waited": stage.gpus.waited},
        "seconds": stage.seconds and round(stage.seconds),
        "seconds_left": stage.left and round(stage.left),
    }


def _number(value: float) -> float | None:
    """JSON has no NaN."""
    return value if math.isfinite(value) else None
