"""verl's replay buffer with a short polling interval: steps of a tiny model take less than its two seconds."""

from __future__ import annotations

from typing import Any

from verl.trainer.ppo.v1.replay_buffer import ReplayBuffer


class PromptReplayBuffer(ReplayBuffer):
    """`ReplayBuffer` with a poll interval of 50 ms."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs, poll_interval=0.05)
