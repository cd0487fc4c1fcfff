"""verl's trainer, ended in time: what a notice of `preemption.py` does to a training.

Its own module, so that what a step measures and what ends it stay apart. A step that ends in time is saved and its
metrics, rollouts and W&B line are written as always; only the weight sync and the validation after it are left out.
Where it cannot end in time, waiting for rollouts or log-probabilities is interrupted, and the step before is saved.
"""

from __future__ import annotations

import functools
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from verl.trainer.ppo.v1 import PPOTrainerSync
from verl.utils.debug import marked_timer

from pairwise_rm.errors import Preempted
from pairwise_rm.train import preemption
from pairwise_rm.train.preemption import Interrupted, Move, Notice, Times
from pairwise_rm.train.verl_settings import TASK_KEY


class PreemptibleTrainer(PPOTrainerSync):
    """Ends with Preempted after a notice. Stands before the other trainer classes, whose save it calls."""

    global_steps: int
    total_training_steps: int
    train_dataloader: Any

    def fit(self, agent_loop_manager: Any) -> None:
        settings = self.config[TASK_KEY]
        self._folder, self._margin = Path(settings.save_and_end).parent, settings.preemption_margin
        # The step that was resumed from has a checkpoint; before the first one there is nothing to save.
        self._finished = self._saved = self.global_steps
        self._end: Preempted | None = None
        self._data_before: Any = None
        self._watch = preemption.Watch(lambda: preemption.asked(self._folder) or preemption.draining())
        with self._watch.looking():
            super().fit(agent_loop_manager)

    def step(self, metrics: dict[str, Any], timing_raw: Any) -> Any:
        self._data_before = self.train_dataloader.state_dict() if self._finished > self._saved else None
        self._began, self._whole, self._generating = time.monotonic(), True, True
        try:
            batch = self._watch.call(self._within_step, functools.partial(super().step, metrics, timing_raw))
        except Interrupted as interrupted:
            raise self._ended_within(interrupted) from None
        self._finished, self._data_before = self.global_steps, None
        if (notice := self._watch.notice) and self.global_steps < self.total_training_steps:
            if preemption.after_step(notice.left, self._margin, self._times().save, saved=False) is Move.END:
                raise self._too_late(notice)
            with marked_timer("save_checkpoint", timing_raw):
                self._save_checkpoint()
            self._end = Preempted(f"step {self.global_steps}: {notice}; saved")
        return batch

    def on_sample_end(self) -> None:
        super().on_sample_end()
        self._generating = False

    def _update_actor(self, batch: Any, metrics: dict[str, Any]) -> Any:
        self._whole = False
        return super()._update_actor(batch, metrics=metrics)

    def _save_checkpoint(self) -> None:
        if self._saved < self.global_steps:
            super()._save_checkpoint()
            self._saved = self.global_steps

    def on_step_end(self) -> None:
        if self._end is None:
            super().on_step_end()

    def _validate(self) -> Any:
        if self._end is not None:
            return {}
        self._generating = True
        try:
            return self._watch.call(self._after_step, super()._validate)
        except Interrupted as interrupted:
            raise self._ended_within(interrupted) from None

    def on_step_begin(self) -> None:
        if self._end is not None:
            self._shutdown_dump_executor()
            self.checkpoint_callback.read_back.wait(last=True)
            raise self._end
        if notice := self._watch.notice:  # it came during a save, the weight sync or the metrics
            self.global_steps, self._generating = self._finished, True
            raise self._ended_within(Interrupted(notice, self._after_step(notice)))
        super().on_step_begin()

    # ---- what is decided -------------------------------------------------------------------------

    def _times(self) -> Times:
        return preemption.learnt(Path(self.config[TASK_KEY].metrics_file))

    def _within_step(self, notice: Notice) -> Move:
        elapsed = time.monotonic() - self._began
        saved = self._saved == self._finished
        return preemption.within_step(notice.left, self._margin, self._times(), elapsed, saved, self._whole)

    def _after_step(self, notice: Notice) -> Move:
        if self._finished >= self.total_training_steps:
            return Move.GO_ON
        saved = self._saved == self._finished
        return preemption.after_step(notice.left, self._margin, self._times().save, saved)

    def _ended_within(self, interrupted: Interrupted) -> Preempted:
        """Saves the last finished step if that was decided, and says what was done."""
        running, notice = self.global_steps, interrupted.notice
        if interrupted.move is Move.SAVE:
            if self._generating:
                # vLLM has the memory that a save may need.
                self.checkpoint_manager.abort_replicas()
                self.checkpoint_manager.sleep_replicas()
            self.global_steps = self._finished
            if self._data_before is not None:
                state, self._data_before = self._data_before, None
                self.train_dataloader = SimpleNamespace(state_dict=lambda: state)
            self._save_checkpoint()
            self.checkpoint_callback.read_back.wait(last=True)
        elif self._saved < self._finished:
            return self._too_late(notice)
        if running == self._finished > 0:
            return Preempted(f"step {running}: {notice}; saved")
        kept = f"step {self._finished} is saved" if self._finished else "and no step is finished yet"
        return Preempted(f"step {running}: {notice}; this step would not end in time, {kept}")

    def _too_late(self, notice: Notice) -> Preempted:
        rest = f"training goes on after step {self._saved}" if self._saved else "there is no checkpoint yet"
        return Preempted(f"step {self.global_steps}: {notice}; a save would not end in time, {rest}")
