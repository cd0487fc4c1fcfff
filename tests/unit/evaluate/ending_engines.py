"""What stands for vLLM inside the actors: it answers, its process is killed or it raises, as files say."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

from pairwise_rm.evaluate.engine import Generation, Sampling, batches_of, engines
from pairwise_rm.evaluate.engine_failure import EngineFailure
from pairwise_rm.progress import Event
from tests.unit.conftest import MakeRecipe

SAMPLING = Sampling(1, 0.0, 16, 1)
DIES, FAILS = 13, 14
"""Prompts at which the worker's process is killed, or vLLM raises, as often as the folder says."""


class Worker:
    """Answers each prompt by its first token. Files in the folder (`model`) say what goes wrong, and how often."""

    def start(self, arguments: dict[str, Any], pause: float = 0.0) -> None:
        self.folder = Path(arguments["model"])
        with open(self.folder / "starts", "a") as starts:
            starts.write(f"{os.getpid()} {pause}\n")
        time.sleep(pause)
        if self._takes("start"):
            raise EngineFailure("RuntimeError: Free memory on device is less than desired")

    def generate(self, prompts: list[list[int]], indices: list[int], _: Any) -> list[tuple[list[str], list[int]]]:
        with open(self.folder / "judged", "a") as judged:
            judged.write(f"{indices}\n")
        if any(ids == [DIES] for ids in prompts) and self._takes("kill"):
            os.kill(os.getpid(), signal.SIGKILL)
        if any(ids == [FAILS] for ids in prompts) and self._takes("fail"):
            raise EngineFailure("RuntimeError: CUDA error: an illegal memory access was encountered")
        time.sleep(0.05)
        return [([f"{ids[0]} at {index}"], [len(ids)]) for ids, index in zip(prompts, indices, strict=True)]

    def _takes(self, name: str) -> bool:
        """Whether it goes wrong this time."""
        file = self.folder / name
        left = int(file.read_text()) if file.exists() else 0
        file.write_text(str(max(0, left - 1)))
        return left > 0


class Judging:
    """One call of the pool: what it gave, and what it said."""

    def __init__(self, folder: Path, make: MakeRecipe, replicas: int = 1, **wrong: int) -> None:
        folder.mkdir()
        self.folder, self.said = folder, [""][:0]
        for name, times in wrong.items():
            (folder / name).write_text(str(times))
        self.recipe = make(model={"path": str(folder)}, evaluate={"replicas": replicas, "batch_size": 2})
        self.found: dict[int, Generation] = {}
        self.batches: list[list[int]] = []

    def run(self, tokens: list[int], failing_starts: int = 0) -> Judging:
        """`failing_starts`: so many after the first one fail."""
        prompts = [[token] for token in tokens]
        with engines(self.recipe, str(self.folder), self.say) as pool:
            (self.folder / "start").write_text(str(failing_starts))
            batches = batches_of(range(len(tokens)), 2)
            for batch, generations in pool.generate(prompts, batches, SAMPLING, lambda index: f"row {index}"):
                self.batches.append(list(batch))
                self.found |= zip(batch, generations, strict=True)
        return self

    def say(self, event: Event | str) -> None:
        self.said.append(str(event))

    def lines(self, name: str) -> list[str]:
        return (self.folder / name).read_text().splitlines()

    @property
    def texts(self) -> list[str]:
        return [self.found[index].texts[0] for index in range(len(self.found))]
