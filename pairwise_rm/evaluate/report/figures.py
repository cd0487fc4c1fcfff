"""The rows of the report's charts: labels, and positions in percent of the track they are drawn on.

A chart is a table whose last column is a track with dots and whiskers placed in percent, so it stays sharp
and readable at every width and on paper.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pairwise_rm.train.attempts import Attempt

MODELS = ("before", "after")


@dataclass(frozen=True)
class Dot:
    """One model's estimate on a track: percent from the left, and the text beside it."""

    model: str
    at: float
    low: float | None
    high: float | None
    text: str
    title: str


@dataclass(frozen=True)
class TrackRow:
    """One line of a chart: what is measured, over how many, and a dot per model."""

    label: str
    count: str
    dots: list[Dot]


def percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f} %"


def interval(figure: Mapping[str, Any]) -> str:
    if figure["value"] is None:
        return "nothing to count"
    if figure["low"] is None:
        return "no interval"
    return f"{100 * figure['low']:.1f} – {100 * figure['high']:.1f} %"


def signed(value: float | None) -> str:
    """A difference in percentage points, with its sign (a true minus)."""
    if value is None:
        return "–"
    return f"{100 * value:+.1f}".replace("-", "−")


def track_row(label: str, figures: Sequence[Mapping[str, Any] | None], unit: str = "rows") -> TrackRow | None:
    """A chart line from one figure per model (the last is `after`); None if none has a value."""
    names = MODELS[-len(figures) :]
    named = zip(names, figures, strict=True)
    known = [(name, figure) for name, figure in named if figure and figure["value"] is not None]
    if not known:
        return None
    dots = [
        Dot(
            model=name,
            at=100 * figure["value"],
            low=None if figure["low"] is None else 100 * figure["low"],
            high=None if figure["high"] is None else 100 * figure["high"],
            text=f"{100 * figure['value']:.1f}",
            title=f"{name}: {percent(figure['value'])} ({interval(figure)}), {figure['n']} {unit}",
        )
        for name, figure in known
    ]
    return TrackRow(label, f"{known[-1][1]['n']} {unit}", dots)


def group_rows(
    metrics: Sequence[Mapping[str, Any]], group: str, names: Mapping[str, str] | None = None
) -> list[TrackRow]:
    """Chart lines for a group of metrics.json (`by_subset`, say), in the order of its keys."""
    keys = dict.fromkeys(key for one in metrics for key in one[group])
    rows = [track_row((names or {}).get(key, key), [one[group].get(key) for one in metrics]) for key in keys]
    return [row for row in rows if row is not None]


@dataclass(frozen=True)
class Curve:
    """A training curve in a 100 x 100 box: the raw points, their running mean, and the axes' texts."""

    title: str
    note: str
    raw: str
    smooth: str
    ticks: list[tuple[float, str]]
    first: str
    last: str
    end: str
    marks: list[tuple[float, str]]


@dataclass(frozen=True)
class Restart:
    """Training went on after this step, `count` times in a row; `reasons`: why the attempts before had ended."""

    step: int
    count: int
    reasons: str

    def __str__(self) -> str:
        times = f" ({self.count} times)" if self.count > 1 else ""
        return f"after step {self.step}{times}: {self.reasons}"


def restarts(attempts: Sequence[Attempt]) -> list[Restart]:
    """Where training was interrupted, in the order of its attempts."""
    found: list[Restart] = []
    for before, attempt in itertools.pairwise(attempts):
        reason = before.reason or before.outcome
        if found and found[-1].step == attempt.after:
            last = found.pop()
            reasons = last.reasons if reason in last.reasons.split("; ") else f"{last.reasons}; {reason}"
            found.append(Restart(attempt.after, last.count + 1, reasons))
        else:
            found.append(Restart(attempt.after, 1, reason))
    return found


_CURVES = (
    ("accuracy", "Accuracy", "of a step's rollouts"),
    ("reward/mean", "Reward", "mean of a step's rollouts"),
    ("kl_loss", "KL loss", "against the reference model"),
)
_WINDOW = 5


def curves(records: Sequence[Mapping[str, Any]], interrupted: Sequence[Restart] = ()) -> list[Curve]:
    """A curve for each of the RM-Gallery tutorial's three metrics that the records hold, marked where training went on
    after an interruption."""
    found = []
    for key, title, note in _CURVES:
        pairs = [(r["step"], r[key]) for r in records if _number(r.get("step")) and _number(r.get(key))]
        if len(pairs) > 1:
            found.append(_curve(title, note, sorted(pairs), key == "accuracy", interrupted))
    return found


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and value == value and abs(value) < 1e12


def _curve(
    title: str, note: str, pairs: list[tuple[float, float]], share: bool, interrupted: Sequence[Restart]
) -> Curve:
    steps, values = [step for step, _ in pairs], [value for _, value in pairs]
    bottom, top = (0.0, 1.0) if share else (min(0.0, *values), max(values))
    top = top if top > bottom else bottom + 1
    smooth = [_mean(values[max(0, at - _WINDOW + 1) : at + 1]) for at in range(len(values))]

    span = steps[-1] - steps[0] or 1

    def line(heights: Sequence[float]) -> str:
        spots = [
            (100 * (step - steps[0]) / span, 100 - 100 * (height - bottom) / (top - bottom))
            for step, height in zip(steps, heights, strict=True)
        ]
        return " ".join(f"{x:.2f},{y:.2f}" for x, y in spots)

    ticks = [(100 - 25.0 * quarter, f"{bottom + (top - bottom) * quarter / 4:.3g}") for quarter in (0, 2, 4)]
    marks = [(100 * (one.step - steps[0]) / span, str(one)) for one in interrupted if one.step >= steps[0]]
    ends = f"{steps[0]:g}", f"{steps[-1]:g}", f"{smooth[-1]:.3g}"
    return Curve(title, note, line(values), line(smooth), ticks, *ends, marks)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
