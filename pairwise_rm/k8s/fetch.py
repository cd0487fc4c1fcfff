"""Fetches a run's results from the volume: through the head pod where one runs, else through a pod of its own."""

from __future__ import annotations

import contextlib
import importlib.resources
import io
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, cast

from pairwise_rm.atomic_io import atomic_folder, write_json
from pairwise_rm.errors import StageError
from pairwise_rm.k8s import fetch_pod
from pairwise_rm.k8s.client import Cluster, Object
from pairwise_rm.k8s.exec_stream import RemoteCommand
from pairwise_rm.k8s.pods import containers
from pairwise_rm.k8s.snapshot import RUN_FOLDER, Snapshot, annotation
from pairwise_rm.k8s.tar_stream import MARK, check_target, free_space, unpack
from pairwise_rm.signals import sigterm_raises

REPORT = "evaluation/report.html"
CARD = "export/README.md"


@dataclass(frozen=True)
class Fetched:
    """What came: the folder and the names of its files."""

    folder: Path
    files: list[str]
    size: int


def run_folder_of(snapshot: Snapshot) -> tuple[Object, str]:
    """The RayJob that tells where the run lies, and where that is: the last stage's, since convert has no run."""
    for job in reversed(list(snapshot.jobs.values())):
        if folder := annotation(job, RUN_FOLDER):
            return job, folder
    raise StageError(f"release {snapshot.release}: no RayJob tells its run folder (annotation {RUN_FOLDER})")


def fetch(
    cluster: Cluster,
    snapshot: Snapshot,
    out: Path | None,
    weights: bool,
    say: Callable[[str], None],
    progress: Callable[[int, int], None],
) -> Fetched:
    """Copies the run's results, and with `weights` the judge, to `out` or a folder named for the run.

    `progress` gets the bytes that have come and those that will. Raises InputError for a folder that holds
    something else, StageError when the transfer fails; then `out` is as it was.
    """
    job, run_folder = run_folder_of(snapshot)
    target = out or Path(PurePosixPath(run_folder).name)
    check_target(target, run_folder, weights)
    command = ["python", "-c", _program(), run_folder, *(["weights"] if weights else [])]
    with (
        sigterm_raises(SystemExit(128 + signal.SIGTERM)),
        _source(cluster, snapshot, job, run_folder, say) as (pod, container),
        atomic_folder(target) as temporary,
    ):
        came = 0

        def count(size: int) -> None:
            nonlocal came
            came += size
            progress(came, total)

        with RemoteCommand(cluster, pod, container, command) as output:
            stream = io.BufferedReader(cast(Any, output))
            first = stream.readline()
            if not first:
                output.finish()
            total = int(first)
            free_space(temporary, total)
            files = unpack(stream, temporary, count)
            output.finish()
        if not files:
            raise StageError(f"{run_folder}: has no results yet; `pairwise-rm status` tells how its stages stand")
        write_json(
            temporary / MARK,
            {
                "release": snapshot.release,
                "namespace": snapshot.namespace,
                "run_folder": run_folder,
                "weights": weights,
                "files": files,
            },
        )
    return Fetched(target, [file["name"] for file in files], came)


@contextlib.contextmanager
def _source(
    cluster: Cluster, snapshot: Snapshot, job: Object, run_folder: str, say: Callable[[str], None]
) -> Iterator[tuple[str, str]]:
    """Pod and container in which the run folder is mounted."""
    heads = [head for other in (job, *snapshot.jobs.values()) if (head := snapshot.head(other))]
    if heads:
        yield heads[0]["metadata"]["name"], containers(heads[0])[0]["name"]
        return
    place = fetch_pod.runs_volume(snapshot, job, run_folder)
    with fetch_pod.running_pod(cluster, snapshot.release, place, say) as pod:
        yield pod, fetch_pod.CONTAINER


def _program() -> str:
    return importlib.resources.files("pairwise_rm.k8s").joinpath("run_folder_tar.py").read_text(encoding="utf-8")
