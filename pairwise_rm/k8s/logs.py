"""A stage's log: its submitter pod prints what the stage prints on the head."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NoReturn

from pairwise_rm.errors import StageError
from pairwise_rm.k8s.client import Cluster, NotFound, Unavailable, with_retries
from pairwise_rm.k8s.objects import RUN_FOLDER, Object, annotation, containers
from pairwise_rm.k8s.snapshot import Snapshot, take
from pairwise_rm.k8s.stage_status import ended, state_of
from pairwise_rm.k8s.status import Follower
from pairwise_rm.progress import Failure, Line

_QUIET_SECONDS = 20.0
_PAUSE_SECONDS = 2.0
_OVERLAP_SECONDS = 60

Say = Callable[[str], None]


def print_log(follower: Follower, stage: str, follow: bool, write: Say, say: Say) -> None:
    """Writes the log's lines: those that exist or, with `follow`, all until the job has ended."""
    snapshot = take(follower.cluster, follower.release)
    job = snapshot.job(stage)
    _check_mode(snapshot, job)
    if follow:
        _follow(follower, stage, write, say)
        return
    pods = snapshot.submitters(job)
    if not pods:
        _no_pod(snapshot, job, follower, stage)
    reading = _Reading(follower.cluster, write)
    try:
        reading.read(pods[-1], follow=False)
    except NotFound as error:
        raise StageError(f"{stage} has no log yet ({error}); -f waits for it") from error


class _Reading:
    """The position in one pod's log, so that reading goes on without a gap after the connection is lost."""

    def __init__(self, cluster: Cluster, write: Say) -> None:
        self.cluster, self.write = cluster, write
        self.pod = ""
        self._last, self._read_at = "", 0.0

    def read(self, pod: Object, follow: bool) -> None:
        """Writes the lines that are new. Raises NotFound where the container has not started."""
        name = pod["metadata"]["name"]
        if name != self.pod:
            self.pod, self._last = name, ""
        # By this machine's own clock, since the node's may differ; repeated lines are recognised by their timestamps.
        since = int(time.monotonic() - self._read_at) + _OVERLAP_SECONDS if self._last else None
        known = self._last
        for line in self.cluster.log(name, containers(pod)[0]["name"], follow, since, _QUIET_SECONDS):
            stamp, _, text = line.partition(" ")
            if known and stamp <= known:
                continue
            known = ""
            said = Line.parse(text)
            if said is None or not isinstance(said.event, Failure):  # the command prints its error itself
                self.write(said.human if said else text)
            self._last, self._read_at = stamp, time.monotonic()


def _follow(follower: Follower, stage: str, write: Say, say: Say) -> None:
    reading, told = _Reading(follower.cluster, write), ""
    while True:
        snapshot = with_retries(lambda: take(follower.cluster, follower.release), say)
        if stage not in snapshot.jobs:
            raise StageError(f"{stage}: its RayJob is gone")
        job = snapshot.job(stage)
        over, pods = ended(state_of(job)), snapshot.submitters(job)
        try:
            if pods:
                reading.read(pods[-1], follow=True)
            elif over and not reading.pod:
                _no_pod(snapshot, job, follower, stage)
        except NotFound:
            pods = []
        except Unavailable:
            continue  # no line for a while, or the connection is lost: check the job's state, and go on
        if over:
            view = follower.stage(snapshot, stage)
            say(f"{stage} {view if view.state != 'succeeded' else view.state}")
            return
        view = follower.stage(snapshot, stage)
        waits = f"waiting for the log of {stage} ({view})"
        if not pods and waits != told:
            say(waits)
            told = waits
        time.sleep(_PAUSE_SECONDS)


def _check_mode(snapshot: Snapshot, job: Object) -> None:
    mode = job.get("spec", {}).get("submissionMode", "K8sJobMode")
    if mode != "K8sJobMode":
        raise StageError(
            f"RayJob {job['metadata']['name']} has no submitter pod, since submission.mode is {mode}; "
            + _other_logs(snapshot, job)
        )


def _no_pod(snapshot: Snapshot, job: Object, follower: Follower, stage: str) -> NoReturn:
    view = follower.stage(snapshot, stage)
    if not view.ended:
        raise StageError(f"{stage} has no log yet ({view}); -f waits for it")
    if not job.get("status", {}).get("jobId"):
        raise StageError(f"{stage} has no log, since it was never submitted ({view})")
    raise StageError(f"the submitter pod of {stage} is gone, and its log with it; {_other_logs(snapshot, job)}")


def _other_logs(snapshot: Snapshot, job: Object) -> str:
    """Where else a stage's output is: in Ray's logs on the head, and training's in the run folder."""
    head, ray_id = snapshot.head(job), job.get("status", {}).get("jobId")
    if head and ray_id:
        name, container = head["metadata"]["name"], containers(head)[0]["name"]
        return f"`kubectl exec -n {snapshot.namespace} {name} -c {container} -- ray job logs {ray_id}` shows it"
    folder = annotation(job, RUN_FOLDER)
    return f"its RayCluster is gone too; the run folder {folder or 'in the volume'} keeps train/train.log"
