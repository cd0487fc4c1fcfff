"""Puts the report together: figures from metrics.json, samples from verdicts.parquet, one jinja2 template."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jinja2

from pairwise_rm.evaluate.report.figures import (
    TrackRow,
    curves,
    group_rows,
    interval,
    percent,
    restarts,
    signed,
    track_row,
)
from pairwise_rm.evaluate.report.samples import KINDS, pick_samples
from pairwise_rm.evaluate.result import orders
from pairwise_rm.evaluate.verdicts_parquet import read_verdicts
from pairwise_rm.recipe.model import Recipe
from pairwise_rm.train.attempts import ATTEMPTS_FILE, read_attempts
from pairwise_rm.train.metrics_file import read_steps

if TYPE_CHECKING:
    from pairwise_rm.evaluate.result import Evaluation

_ORDERS = {"original": "as in source", "swapped": "swapped"}
_CHANCE = {
    False: "Share of rows judged right; a coin gets 50 %.",
    True: "Share of rows judged right; a tie is a label of its own.",
}
_STRENGTHS = {"0": "tie", "1": "slightly better", "2": "better", "3": "much better"}
_TILES = (
    ("both_orders_right", "Both orders right", "pairs judged right whichever response comes first"),
    ("position_consistency", "Position consistency", "pairs with the same verdict in both orders, right or wrong"),
    ("share_a", "Share of A verdicts", "among A and B; 50 % is free of position bias"),
    ("invalid", "Invalid output", "rows without a verdict that could be read"),
)


def render(
    *,
    recipe: Recipe,
    before: Evaluation | None,
    after: Evaluation,
    comparison: Mapping[str, Any] | None,
    training_metrics: Path | None,
) -> str:
    """The whole page. With one evaluation it shows that one; with two, what changed."""
    both = [one for one in (before, after) if one is not None]
    metrics = [one.metrics for one in both]
    manifest = after.metrics["manifest"]
    data = manifest["data"]
    samples, note = pick_samples(
        read_verdicts(after.folder / "verdicts.parquet"),
        read_verdicts(before.folder / "verdicts.parquet") if before is not None else None,
        Path(data["path"]),
        data["sha256"],
    )
    attempts = read_attempts(training_metrics.with_name(ATTEMPTS_FILE)) if training_metrics else []
    interrupted = restarts(attempts)
    environment = _environment()
    return environment.from_string(_resource("page.html.j2")).render(
        recipe=recipe,
        style=_resource("style.css"),
        before=before.metrics if before is not None else None,
        after=after.metrics,
        orders=orders(after.metrics),
        labels=[one.label for one in both],
        comparison=comparison,
        tiles=_TILES,
        sections=_sections(metrics),
        reasons=_reasons(metrics),
        curves=curves(read_steps(training_metrics) if training_metrics else [], interrupted),
        interrupted=interrupted,
        kinds=KINDS,
        samples=samples,
        samples_note=note,
        manifest=manifest,
        manifests=[one.metrics["manifest"] for one in both],
    )


def _sections(metrics: Sequence[Mapping[str, Any]]) -> list[tuple[str, str, list[TrackRow]]]:
    """The charts: title, explanation, lines. A chart without lines is left out."""

    def line(key: str, title: str, unit: str = "rows") -> list[TrackRow]:
        row = track_row(title, [one.get(key) for one in metrics], unit)
        return [] if row is None else [row]

    ties = any(one["labels"]["tie"] for one in metrics)
    overall = [
        *line("accuracy", "All rows"),
        *(line("binary_accuracy", "Without ties") if ties else []),
        *line("macro_accuracy", "Mean over subsets"),
        *line("both_orders_right", "Both orders right", "pairs"),
    ]
    length = [*line("preferred_shorter", "Shorter preferred"), *line("preferred_longer", "Longer preferred")]
    several = all("voting" in one for one in metrics)
    charts = [
        ("Accuracy", _CHANCE[ties], overall),
        ("By order", "Without position bias both are judged alike.", group_rows(metrics, "by_order", _ORDERS)),
        ("By length", "A judge that leans on length is better in the second line.", length),
        ("By strength", "How much better the label says it is.", group_rows(metrics, "by_strength", _STRENGTHS)),
        ("By subset", "The source's own categories.", group_rows(metrics, "by_subset")),
        ("Voting", "One of several samples, and their majority.", group_rows(metrics, "voting") if several else []),
    ]
    return [chart for chart in charts if chart[2]]


def _reasons(metrics: Sequence[Mapping[str, Any]]) -> list[tuple[str, list[tuple[int, float]]]]:
    """Reason, and for each model the count and the share of its rows in percent."""
    names = dict.fromkeys(reason for one in metrics for reason in one["invalid_by_reason"])
    found = []
    for name in names:
        counts = [(one["invalid_by_reason"].get(name, 0), one["rows"]) for one in metrics]
        found.append((name.replace("_", " "), [(count, 100 * count / rows) for count, rows in counts]))
    return found


def _environment() -> jinja2.Environment:
    # Everything that comes from data or a model is escaped; the style sheet alone is inserted as it stands.
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    environment.lstrip_blocks = True
    environment.filters |= {"percent": percent, "interval": interval, "signed": signed}
    return environment


def _resource(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")
