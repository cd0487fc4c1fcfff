"""States of stages as files, and waiting for one of them."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from pairwise_rm.atomic_io import write_json
from pairwise_rm.cluster.input_wait import EarlierStage, await_stages
from pairwise_rm.progress import Line, Step, Waiting


def put(path: Path, **changed: object) -> Path:
    """Writes the state of a train stage that runs with the recipe `d1`, but for what is changed."""
    now = time.time()
    value = {"stage": "train", "digest": "d1", "state": "running", "since": now, "heartbeat": now, **changed}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, value)
    return path


FIRST_STEP = Line("train", "train", Step(1, 2, 0.5, 0.5, 1.0, None, 9.1, 9.1))

HOUR = 3600.0


def tell(lines: list[str]) -> Callable[[Waiting], None]:
    """Appends what is told."""
    return lambda event: lines.append(str(event))


def await_stage(
    earlier: EarlierStage,
    path: Path,
    timeout: float,
    say: Callable[[Waiting], None],
    attempt: str = "",
    retry_timeout: float = 0.0,
) -> None:
    """Waits for one stage."""
    await_stages([(earlier, path)], timeout, say, attempt, retry_timeout)
