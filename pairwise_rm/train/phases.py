"""What verl's trainer does at the moment: a phase of a step, in a small file that the watchdog follows.

    <run>/train/phase.json
    {"step": 7, "phase": "rollouts", "done": 12, "of": 32}

verl's log is no sign of life: its trainer writes a line a minute while it waits for a rollout that never comes.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any, NamedTuple

PHASE_FILE = "phase.json"
_COUNT_SECONDS = 2.0


class Phase(NamedTuple):
    """`done` of `of` prompts have all their rollouts; both 0 in the other phases."""

    step: int
    name: str
    done: int = 0
    of: int = 0

    def __str__(self) -> str:
        count = f" {self.done}/{self.of}" if self.of else ""
        return f"step {self.step}, {self.name}{count}"


def read_phase(path: Path) -> Phase | None:
    """The newest phase; None where there is none yet, or it is being replaced on a network file system."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return Phase(int(found["step"]), str(found["phase"]), int(found["done"]), int(found["of"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


class ReportsPhases:
    """Goes before verl's trainer among the bases of ours, and reports as verl enters each phase."""

    config: Any
    global_steps: int
    _counted: tuple[int, float] = (0, 0.0)

    def _phase_file(self) -> Path:
        raise NotImplementedError

    def _now(self, phase: str, done: int = 0, of: int = 0) -> None:
        path, record = self._phase_file(), {"step": self.global_steps, "phase": phase, "done": done, "of": of}
        temporary = path.with_suffix(".tmp")
        try:
            # Not flushed to the disk, as other files are: it is of use for minutes, and written eight times a step.
            temporary.write_text(json.dumps(record), encoding="utf-8")
            os.replace(temporary, path)
        except OSError as error:
            # A volume that is away for a moment must not end a step.
            print(f"warning: {path}: cannot be written: {error.strerror or error}", flush=True)

    def _count_prompts(self, done: int) -> None:
        """Notes how many prompts of the step have all their rollouts, at most every two seconds."""
        done_before, at = self._counted
        if done and done != done_before and time.monotonic() - at >= _COUNT_SECONDS:
            self._counted = done, time.monotonic()
            self._now("rollouts", done, self.config.data.train_batch_size)

    def on_step_begin(self) -> None:
        self._now("rollouts")
        super().on_step_begin()  # type: ignore[misc]

    def on_sample_end(self) -> None:
        self._now("vLLM to sleep")
        super().on_sample_end()  # type: ignore[misc]

    def _compute_old_log_prob(self, batch: Any, metrics: dict[str, Any]) -> Any:
        self._now("log-probabilities")
        return super()._compute_old_log_prob(batch, metrics=metrics)  # type: ignore[misc]

    def _compute_ref_log_prob(self, batch: Any, metrics: dict[str, Any]) -> Any:
        self._now("log-probabilities of the reference")
        return super()._compute_ref_log_prob(batch, metrics=metrics)  # type: ignore[misc]

    def _update_actor(self, batch: Any, metrics: dict[str, Any]) -> Any:
        self._now("update")
        return super()._update_actor(batch, metrics=metrics)  # type: ignore[misc]

    def _save_checkpoint(self) -> None:
        self._now("checkpoint")
        super()._save_checkpoint()  # type: ignore[misc]

    def on_step_end(self) -> None:
        self._now("weight sync")
        super().on_step_end()  # type: ignore[misc]

    def on_validate_begin(self) -> None:
        self._now("validation")
        super().on_validate_begin()  # type: ignore[misc]

    def on_validate_end(self) -> None:
        super().on_validate_end()  # type: ignore[misc]
        self._now("metrics")
