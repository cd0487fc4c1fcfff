"""A release as a table: a line a stage, and under it what keeps it."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from pairwise_rm.follow.overview import Overview
from pairwise_rm.follow.snapshot import RECIPE, RUN_FOLDER
from pairwise_rm.follow.stage import StageView, State
from pairwise_rm.lines import duration

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


def table(overview: Overview) -> RenderableType:
    """The whole picture of a release."""
    rows = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    rows.add_column("stage", no_wrap=True)
    rows.add_column("state", no_wrap=True)
    rows.add_column("progress", overflow="fold", ratio=1)
    rows.add_column("GPUs", overflow="fold")
    for name in ("time", "left"):
        rows.add_column(name, justify="right", no_wrap=True)
    for stage in overview.stages:
        rows.add_row(*_row(stage))
    shown: list[RenderableType] = ["", rows] if overview.stages else []
    return Group(_title(overview), *shown, *_notes(overview))


def _title(overview: Overview) -> Text:
    snapshot = overview.snapshot
    title = Text.assemble((snapshot.release, "bold"), f" in namespace {snapshot.namespace}")
    if recipe := overview.said(RECIPE):
        title.append(f" · recipe {recipe}")
    if folder := overview.said(RUN_FOLDER):
        title.append(f"\n{folder}", "dim")
    return title


def _row(stage: StageView) -> list[Text]:
    mark, style = _MARKS[stage.state]
    return [
        Text(stage.stage),
        Text(f"{mark} {stage.state}", style, no_wrap=True),
        Text(stage.note),
        Text(str(stage.gpus)),
        Text("" if stage.seconds is None else duration(stage.seconds)),
        Text("" if stage.left is None else duration(stage.left)),
    ]


def _notes(overview: Overview) -> list[Text]:
    notes = [
        Text.assemble(
            "\n", ("✗ " if trouble.hopeless else "! ", "bold red" if trouble.hopeless else "yellow"), str(trouble)
        )
        for trouble in overview.troubles
    ]
    if overview.last_event:
        notes.append(Text(f"\nlast event: {overview.last_event}", "dim"))
    if not overview.stages:
        notes.append(Text("\nno RayJob yet, so that no stage runs"))
    elif not any(str(stage.gpus) for stage in overview.stages) and str(overview.gpus):
        notes.append(Text(f"\nGPUs of its RayCluster: {overview.gpus}", "dim"))
    return notes
