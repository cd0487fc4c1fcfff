"""A finished evaluation, read from its folder."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pairwise_rm.errors import InputError

METRICS, VERDICTS, COMPARISON, REPORT = "metrics.json", "verdicts.parquet", "comparison.json", "report.html"


@dataclass(frozen=True)
class Evaluation:
    """A finished evaluation. `skipped`: it existed already. `comparison`: with another one, if asked for."""

    label: str
    folder: Path
    metrics: dict[str, Any]
    comparison: dict[str, Any] | None = None
    skipped: bool = False

    @property
    def accuracy(self) -> float:
        """Over all rows, that is over both orders."""
        return float(self.metrics["accuracy"]["value"])

    @classmethod
    def read(cls, folder: Path) -> Evaluation:
        """An evaluation from its folder. Raises InputError when there is none."""
        metrics = read_json(folder / METRICS)
        if metrics is None:
            raise InputError(f"{folder / METRICS}: no such file; `pairwise-rm evaluate` writes it")
        return cls(folder.name, folder, metrics, read_json(folder / COMPARISON))


def read_json(path: Path) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{path}: damaged: {error}; remove its folder to evaluate again") from error
    if not isinstance(value, dict):
        raise InputError(f"{path}: expected a JSON object; remove its folder to evaluate again")
    return value


def headline(evaluation: Evaluation) -> str:
    """The main figures in one line."""
    metrics = evaluation.metrics
    return (
        f"accuracy {figure(metrics['accuracy'])}  both orders right {figure(metrics['both_orders_right'])}  "
        f"invalid {figure(metrics['invalid'])}  ({metrics['pairs']} pairs, both orders)"
    )


def figure(estimate: dict[str, Any] | None) -> str:
    """`0.973 [0.948, 0.988]`, or `-` where nothing was counted."""
    if estimate is None or estimate["value"] is None:
        return "-"
    return f"{estimate['value']:.3f} [{estimate['low']:.3f}, {estimate['high']:.3f}]"
