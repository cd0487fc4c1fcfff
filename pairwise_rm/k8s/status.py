"""A release at one moment: its stages, GPUs and issues; as data, as JSON, and as a table."""

from __future__ import annotations

import dataclasses
import math
import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.padding import Padding
from rich.text import Text

from pairwise_rm.k8s.client import Cluster, Forbidden, NotFound
from pairwise_rm.k8s.diagnosis import issues
from pairwise_rm.k8s.issue import Issue, clipped
from pairwise_rm.k8s.kuberay import check_kuberay, with_operators
from pairwise_rm.k8s.objects import (
    RECIPE,
    RUN_FOLDER,
    Gpus,
    Object,
    annotation,
    cluster_name,
    containers,
    event_time,
    gpus,
)
from pairwise_rm.k8s.retry import how_to_try_again
from pairwise_rm.k8s.snapshot import Snapshot, find_release, take
from pairwise_rm.k8s.stage_status import StageView, State, ended, other_version_note, state_of, view
from pairwise_rm.progress import duration

_TAIL = 200
_GAP = 2  # spaces between columns, and before what goes to a line of its own
_RIGHT = ("time", "left")
_MARKS: dict[State, tuple[str, str]] = {
    "submitted": ("·", "dim"),
    "starting": ("·", "yellow"),
    "waiting": ("·", "yellow"),
    "running": ("▸", "cyan"),
    "retrying": ("·", "yellow"),
    "suspended": ("·", "dim"),
    "succeeded": ("✓", "green"),
    "failed": ("✗", "bold red"),
    "stopped": ("✗", "bold red"),
}


@dataclass(frozen=True)
class Overview:
    """`last_event` is set when a stage does not start and no issue is known."""

    snapshot: Snapshot
    stages: list[StageView]
    gpus: Gpus
    issues: list[Issue]
    last_event: str | None

    @property
    def ended(self) -> bool:
        return bool(self.stages) and all(stage.ended for stage in self.stages)

    def annotation(self, key: str) -> str | None:
        """An annotation of the RayJobs."""
        return next((text for job in self.snapshot.jobs.values() if (text := annotation(job, key))), None)

    def as_json(self) -> dict[str, Any]:
        return {
            "release": self.snapshot.release,
            "namespace": self.snapshot.namespace,
            "recipe": self.annotation(RECIPE),
            "run_folder": self.annotation(RUN_FOLDER),
            "stages": [_stage_json(self.snapshot, stage) for stage in self.stages],
            "gpus": {"held": self.gpus.held, "waited": self.gpus.waited},
            "issues": [{"text": str(issue), "terminal": issue.terminal} for issue in self.issues],
            "last_event": self.last_event,
            "try_again": how_to_try_again(self.snapshot, self.stages)[1:],
        }


@dataclass
class Follower:
    """Reads a release repeatedly; the log of a stage that has ended is read once."""

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
        found = issues(snapshot)
        return Overview(
            snapshot=snapshot,
            stages=stages,
            gpus=gpus([pod for pod in snapshot.pods if "ray.io/cluster" in pod["metadata"].get("labels", {})]),
            issues=found,
            last_event=None if found else _last_event(snapshot, stages),
        )

    def stage(self, snapshot: Snapshot, stage: str) -> StageView:
        job = snapshot.job(stage)
        known = snapshot.tails.get(stage)
        return view(snapshot, stage, self._tail(snapshot, job) if known is None else known)

    def _tail(self, snapshot: Snapshot, job: Object) -> list[str]:
        """The end of the submitter's log; empty if it does not exist or may not be read."""
        name, pods = job["metadata"]["name"], snapshot.submitters(job)
        if name in self._tails:
            return self._tails[name]
        if not pods or pods[-1].get("status", {}).get("phase") in (None, "Pending"):
            return []
        try:
            lines = self.cluster.log_tail(pods[-1]["metadata"]["name"], containers(pods[-1])[0]["name"], _TAIL)
        except (NotFound, Forbidden):
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
    """The last event of a stage that does not start."""
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
        "last_step": step and step.of,
        "reward": _number(step.reward) if step else None,
        "accuracy": _number(step.accuracy) if step else None,
        "gpus": {"held": stage.gpus.held, "waited": stage.gpus.waited},
        "lines_version": stage.lines_version,
        "seconds": stage.seconds and round(stage.seconds),
        "seconds_left": stage.left and round(stage.left),
    }


def _number(value: float) -> float | None:
    """JSON has no NaN."""
    return value if math.isfinite(value) else None


def table(overview: Overview) -> RenderableType:
    """A release as a table, with its issues."""
    shown: list[RenderableType] = ["", StageTable(overview.stages)] if overview.stages else []
    return Group(_title(overview), *shown, *_notes(overview))


@dataclass(frozen=True)
class StageTable:
    """A line for each stage; what is too long for its column goes to a line of its own, where no figure is broken."""

    stages: list[StageView]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        rows, width = [_row(stage) for stage in self.stages], options.max_width
        widths = _widths(rows, width)
        yield _line({name: Text(name, "dim") for name in widths}, widths)
        for row in rows:
            below = [name for name, cell in row.items() if cell.cell_len > widths.get(name, 0)]
            yield _line({name: Text("") if name in below else row[name] for name in widths}, widths)
            for name in below:
                yield from _below(row[name].plain if name == "progress" else f"{name}: {row[name]}", width)


def _widths(rows: Sequence[Mapping[str, Text]], width: int) -> dict[str, int]:
    """The columns for which there is room, and how wide they are."""
    found = {name: max(len(name), *(row[name].cell_len for row in rows)) for name in rows[0]}
    for name in ("progress", "GPUs"):
        lacking = sum(found.values()) + _GAP * (len(found) - 1) - width
        if lacking <= 0:
            continue
        room = found[name] - lacking
        fitting = [size for row in rows if 0 < (size := row[name].cell_len) <= room]
        if fitting and room >= len(name):
            found[name] = max(len(name), *fitting)
        else:
            del found[name]
    return found


def _line(cells: Mapping[str, Text], widths: Mapping[str, int]) -> Text:
    line = Text()
    for name, cell in cells.items():
        padding = " " * (widths[name] - cell.cell_len)
        line.append_text(Text.assemble(padding, cell) if name in _RIGHT else Text.assemble(cell, padding))
        line.append(" " * _GAP)
    line.rstrip()
    return line


def _below(text: str, width: int) -> Iterator[Text]:
    """The text in lines of its own; its parts, which have two spaces between them, are kept whole where they can be."""
    line, indent = "", " " * _GAP
    for part in re.split(r" {2,}", text):
        longer = f"{line}  {part}" if line else part
        if line and cell_len(longer) > width - _GAP:
            yield Text(indent + line)
            longer = part
        *whole, line = (
            textwrap.wrap(longer, width - _GAP, break_on_hyphens=False) if len(longer) > width - _GAP else [longer]
        )
        yield from (Text(indent + piece) for piece in whole)
    yield Text(indent + line)


def _title(overview: Overview) -> Text:
    snapshot = overview.snapshot
    title = Text.assemble((snapshot.release, "bold"), f" in namespace {snapshot.namespace}")
    if recipe := overview.annotation(RECIPE):
        title.append(f" · recipe {recipe}")
    if folder := overview.annotation(RUN_FOLDER):
        title.append(f"\n{folder}", "dim")
    return title


def _row(stage: StageView) -> dict[str, Text]:
    mark, style = _MARKS[stage.state]
    return {
        "stage": Text(stage.stage),
        "state": Text(f"{mark} {stage.state}", style),
        "progress": Text(stage.note),
        "GPUs": Text(str(stage.gpus)),
        "time": Text("" if stage.seconds is None else duration(stage.seconds)),
        "left": Text("" if stage.left is None else duration(stage.left)),
    }


def _notes(overview: Overview) -> list[RenderableType]:
    notes: list[RenderableType] = [
        Text.assemble("\n", ("✗ " if issue.terminal else "! ", "bold red" if issue.terminal else "yellow"), str(issue))
        for issue in overview.issues
    ]
    if version_note := other_version_note(overview.stages):
        notes.append(Text(f"\n! {version_note}", "yellow"))
    if again := how_to_try_again(overview.snapshot, overview.stages):
        notes += [
            Text(f"\n{again[0]}"),
            *(Padding(Text(command), (0, 0, 0, _GAP), expand=False) for command in again[1:]),
        ]
    if overview.last_event:
        notes.append(Text(f"\nlast event: {overview.last_event}", "dim"))
    if not overview.stages:
        notes.append(Text("\nno RayJob yet, so that no stage runs"))
    elif not any(str(stage.gpus) for stage in overview.stages) and str(overview.gpus):
        notes.append(Text(f"\nGPUs of its RayCluster: {overview.gpus}", "dim"))
    return notes
