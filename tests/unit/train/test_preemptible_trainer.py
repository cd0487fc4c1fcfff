"""The order of things when a notice comes in any part of verl's loop.

verl's own parts are stood in for here; tests/train/test_preemption.py runs the real ones.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pairwise_rm.errors import Preempted
from pairwise_rm.train import preemption
from pairwise_rm.train.metrics_file import append_step
from pairwise_rm.train.preemption import Notice, Watch

pytest.importorskip("verl")
from verl.trainer.ppo.v1 import PPOTrainerSync

from pairwise_rm.train.preemptible_trainer import PreemptibleTrainer

STEP_SECONDS, SAVE_SECONDS, MARGIN = 60, 10, 5
LONG = 20  # seconds that a part waits unless it is interrupted


class Parts:
    """What stands in for verl: each part is an event, and may ask for the end, and then wait."""

    def __init__(self, train: Path, last: int, save_every: int, start: int) -> None:
        self.train, self.last, self.save_every, self.start = train, last, save_every, start
        self.events: list[str] = []
        self.during: dict[str, Callable[[], None]] = {}

    def reach(self, name: str, step: int) -> None:
        self.events.append(f"{name} {step}")
        if act := self.during.pop(f"{name} {step}", None):
            act()

    def asks(self, at: str, left: float | None, then: float = LONG) -> None:
        def act() -> None:
            preemption.ask(self.train, None if left is None else time.time() + left)
            time.sleep(then)

        self.during[at] = act


@pytest.fixture
def train(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Parts]:
    """Makes the parts of a training of four steps, which saves every hundred and resumes after `start`."""
    monkeypatch.setattr(preemption, "draining", lambda: None)
    monkeypatch.setattr(preemption, "Watch", partial(Watch, seconds=0.02))

    def make(last: int = 4, save_every: int = 100, start: int = 0) -> Parts:
        parts = Parts(tmp_path, last, save_every, start)
        for name, stand_in in _stand_ins(parts, tmp_path / "metrics.jsonl").items():
            monkeypatch.setattr(PPOTrainerSync, name, stand_in, raising=False)
        return parts

    return make


def _stand_ins(parts: Parts, metrics: Path) -> dict[str, Callable[..., Any]]:
    def step(self: Any, found: Any, timing: Any) -> str:
        self.train_dataloader.drawn += 1
        parts.reach("rollouts", self.global_steps)
        self.on_sample_end()
        self._update_actor("batch", found)
        return "batch"

    def save(self: Any) -> None:
        parts.events.append(f"save {self.global_steps} after {self.train_dataloader.state_dict()} batches")

    def fit(self: Any, _: Any) -> None:
        self.global_steps += 1
        while self.global_steps <= self.total_training_steps:
            self.on_step_begin()
            self.step({}, {})
            if self.global_steps % parts.save_every == 0 or self.global_steps == self.total_training_steps:
                self._save_checkpoint()
            self.on_step_end()
            self._validate()
            took = {"timing_s/step": float(STEP_SECONDS), "timing_s/save_checkpoint": float(SAVE_SECONDS)}
            append_step(metrics, self.global_steps, took)
            parts.reach("metrics", self.global_steps)
            self.global_steps += 1

    def event(name: str) -> Callable[..., None]:
        return lambda self, *_, **__: parts.reach(name, self.global_steps)

    return {
        "fit": fit, "step": step, "_save_checkpoint": save, "on_sample_end": event("sleep"),
        "_update_actor": event("update"), "on_step_end": event("sync"), "_validate": event("validate"),
        "on_step_begin": lambda self: None, "_shutdown_dump_executor": lambda self: parts.events.append("dumped"),
    }  # fmt: skip


class Loader:
    def __init__(self, drawn: int) -> None:
        self.drawn = drawn

    def state_dict(self) -> int:
        return self.drawn


def run(parts: Parts) -> str | None:
    """Trains, and returns what it was preempted with."""
    trainer = object.__new__(PreemptibleTrainer)
    settings = {"save_and_end": str(preemption.file_of(parts.train)), "preemption_margin": MARGIN}
    settings["metrics_file"] = str(parts.train / "metrics.jsonl")
    trainer.config = {"pairwise": SimpleNamespace(**settings)}
    trainer.global_steps, trainer.total_training_steps = parts.start, parts.last
    trainer.train_dataloader = Loader(parts.start)
    read_back = SimpleNamespace(wait=lambda last: parts.events.append("read back"))
    trainer.checkpoint_callback = SimpleNamespace(read_back=read_back)
    trainer.checkpoint_manager = SimpleNamespace(
        abort_replicas=lambda: parts.events.append("abort"), sleep_replicas=lambda: parts.events.append("sleep")
    )
    began = time.monotonic()
    try:
        trainer.fit(None)
    except Preempted as error:
        return str(error)
    finally:
        assert time.monotonic() - began < LONG, "what waits was interrupted"
    return None


STEP_1 = ["rollouts 1", "sleep 1", "update 1", "sync 1", "validate 1", "metrics 1"]
STEP_2 = ["rollouts 2", "sleep 2", "update 2", "sync 2", "validate 2", "metrics 2"]


def test_without_a_notice_nothing_changes(train: Callable[..., Parts]) -> None:
    parts = train(last=2)
    assert run(parts) is None
    assert parts.events == [*STEP_1, *STEP_2[:3], "save 2 after 2 batches", *STEP_2[3:]]


def test_the_running_step_is_saved_recorded_and_the_last(train: Callable[..., Parts]) -> None:
    parts = train()
    parts.asks("rollouts 2", None, then=0.2)
    assert run(parts) == "step 2: asked to save and end; saved"
    # No weight sync and no validation, and the step's metrics and rollouts are written.
    assert parts.events == [*STEP_1, *STEP_2[:3], "save 2 after 2 batches", "metrics 2", "dumped", "read back"]


def test_a_step_that_is_saved_anyway_is_saved_once(train: Callable[..., Parts]) -> None:
    parts = train(save_every=2)
    parts.asks("rollouts 2", 500, then=0.2)
    said = run(parts)
    assert said is not None
    assert said.startswith("step 2: asked to save and end (")
    assert [event for event in parts.events if event.startswith("save")] == ["save 2 after 2 batches"]


def test_a_step_that_would_end_too_late_is_left_and_the_one_before_it_saved(train: Callable[..., Parts]) -> None:
    parts = train()
    parts.asks("rollouts 2", 30)
    assert run(parts) == "step 2: asked to save and end (30 s left); this step would not end in time, step 1 is saved"
    # vLLM gives its memory back first; the batch of step 2 is drawn again.
    assert parts.events == [*STEP_1, "rollouts 2", "abort", "sleep", "save 1 after 1 batches", "read back"]


def test_a_step_that_would_end_too_late_is_left_at_once_when_the_one_before_it_is_saved(
    train: Callable[..., Parts],
) -> None:
    parts = train(save_every=1)
    parts.asks("rollouts 2", 30)
    said = run(parts)
    assert said == "step 2: asked to save and end (30 s left); this step would not end in time, step 1 is saved"
    assert parts.events[-1] == "rollouts 2"


def test_an_update_that_has_begun_is_waited_for_until_a_save_would_be_too_late(train: Callable[..., Parts]) -> None:
    parts = train()
    parts.asks("update 2", MARGIN + SAVE_SECONDS + 1)
    said = run(parts)
    assert said is not None
    assert said.endswith("; a save would not end in time, there is no checkpoint yet")
    assert parts.events == [*STEP_1, *STEP_2[:3]]


def test_a_step_that_ends_too_late_for_a_save_is_not_saved(train: Callable[..., Parts]) -> None:
    parts = train(start=7, last=9)
    parts.asks("metrics 8", MARGIN + SAVE_SECONDS - 1, then=0.2)
    said = run(parts)
    assert said is not None
    assert said.endswith("; a save would not end in time, training goes on after step 7")


def test_a_validation_is_left_and_its_step_saved(train: Callable[..., Parts]) -> None:
    parts = train()
    parts.asks("validate 1", 30)
    assert run(parts) == "step 1: asked to save and end (30 s left); saved"
    assert parts.events == [*STEP_1[:5], "abort", "sleep", "save 1 after 1 batches", "read back"]


@pytest.mark.parametrize("at", ["sync 1", "metrics 1"])
def test_what_cannot_be_left_ends_first_and_then_the_step_is_saved(train: Callable[..., Parts], at: str) -> None:
    parts = train()
    parts.asks(at, 30, then=0.3)
    said = run(parts)
    assert said is not None
    assert said.endswith("; saved")
    assert [event for event in parts.events if event.startswith(("save", "update"))] == [
        "update 1", "save 1 after 1 batches",
    ]  # fmt: skip


def test_the_last_step_ends_as_ever(train: Callable[..., Parts]) -> None:
    parts = train(last=1)
    parts.asks("rollouts 1", None, then=0.2)
    assert run(parts) is None
    assert parts.events[-3:] == ["sync 1", "validate 1", "metrics 1"]


def test_an_attempt_whose_first_step_would_end_too_late_says_where_it_stands(train: Callable[..., Parts]) -> None:
    for start, kept in ((0, "and no step is finished yet"), (7, "step 7 is saved")):
        parts = train(start=start, last=9)
        parts.asks(f"rollouts {start + 1}", MARGIN)
        said = run(parts)
        assert said is not None
        assert said.endswith(f"this step would not end in time, {kept}")
        preemption.forget(parts.train)


def test_a_node_that_goes_is_seen_as_what_is_asked(
    train: Callable[..., Parts], monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = train()

    def goes() -> None:
        notice = Notice("node judge-gpu-0 is going", "preemption", time.time() + 30.4)
        monkeypatch.setattr(preemption, "draining", lambda: notice)
        time.sleep(LONG)

    parts.during["rollouts 2"] = goes
    assert run(parts) == (
        "step 2: node judge-gpu-0 is going (preemption, 30 s left); this step would not end in time, step 1 is saved"
    )
