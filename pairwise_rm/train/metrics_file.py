"""The metrics file: one JSON line per step, with the RM-Gallery tutorial's names beside verl's.

    {"step": 12, "time": 1760000000.0, "reward/mean": 0.81, "accuracy": 0.81, "kl_loss": 0.002, "critic/...": ...}

It is appended to, also across resumes: a run that goes on after step 20 first drops the lines after step 20,
so that each step occurs once.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pairwise_rm.atomic_io import write_text
from pairwise_rm.errors import InputError

OF_CHECKPOINT = "metrics.json"
"""In a checkpoint: the metrics of its step as far as they are known when it is saved."""
TUTORIAL_NAMES = {"reward/mean": "critic/score/mean", "accuracy": "rollout/acc", "kl_loss": "actor/kl_loss"}
"""The RM-Gallery tutorial's metric names, and where verl and our trainer keep their values."""


def with_tutorial_names(metrics: Mapping[str, Any]) -> dict[str, float]:
    """The RM-Gallery tutorial's three metrics that this step has (no `kl_loss` without a reference)."""
    return {name: float(metrics[source]) for name, source in TUTORIAL_NAMES.items() if source in metrics}


def append_step(path: Path, step: int, metrics: Mapping[str, Any]) -> None:
    """Adds a line; values that are not finite numbers are left out, since JSON has no NaN."""
    line = json.dumps({"step": step, "time": round(time.time(), 3), **numbers(metrics)})
    with open(path, "a", encoding="utf-8") as handle:
        handle.write(line + "\n")


def numbers(metrics: Mapping[str, Any]) -> dict[str, float]:
    """Those of the metrics that are finite numbers."""
    return {key: float(value) for key, value in metrics.items() if _is_number(value)}


def read_steps(path: Path) -> list[dict[str, Any]]:
    """The complete lines of a metrics file, oldest first; a line that is being written is left out.

    Raises InputError, with its number, for a line that is not a JSON object with a step.
    """
    if not path.is_file():
        return []
    lines = path.read_text(encoding="utf-8").split("\n")[:-1]
    return [_step(line, path, number) for number, line in enumerate(lines, start=1)]


def _step(line: str, path: Path, number: int) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except json.JSONDecodeError as error:
        raise InputError(
            f"{path}:{number}: not JSON ({error.msg}); remove the line, or start over with --fresh"
        ) from None
    if not isinstance(found, dict) or not isinstance(found.get("step"), int):
        raise InputError(f"{path}:{number}: expected a JSON object with a step; remove the line")
    return found


def drop_after(path: Path, step: int) -> None:
    """Removes the lines of later steps than `step`, and a last line that was cut short while it was written."""
    steps = read_steps(path)
    kept = [line for line in steps if line["step"] <= step]
    cut_short = path.is_file() and not path.read_bytes().endswith(b"\n")
    if len(kept) != len(steps) or cut_short:
        write_text(path, "".join(json.dumps(line) + "\n" for line in kept))


def add_missing(path: Path, step: int, checkpoint: Path) -> None:
    """Adds the line of a checkpoint's own step, where the run ended between the save and the end of the step.

    What was known at the save is in the checkpoint; those of earlier versions have none.
    """
    known = checkpoint / OF_CHECKPOINT
    if known.is_file() and all(line["step"] != step for line in read_steps(path)):
        append_step(path, step, json.loads(known.read_text(encoding="utf-8")))


def _is_number(value: Any) -> bool:
    try:
        return math.isfinite(value)
    except TypeError:
        return False
