"""What stands for the pool of vLLM replicas, and for a full disk."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
from collections.abc import Callable, Iterator

from pairwise_rm.errors import StageError
from pairwise_rm.evaluate.engine import Generation, Sampling
from pairwise_rm.recipe.model import Recipe

GOOD = "<think>One helps more.</think><preference>{}</preference>"


class Answers:
    """The seam: answers each prompt by a function of its text, and remembers what it was asked."""

    def __init__(self, answer: Callable[[str], str]) -> None:
        self.answer = answer
        self.asked: list[str] = []
        self.starts = self.batch_size = 0

    @contextlib.contextmanager
    def engines(self, recipe: Recipe, model: str, say: object) -> Iterator[Answers]:
        self.starts += 1
        self.batch_size = recipe.evaluate.batch_size
        self.asked = []
        yield self

    def generate(
        self,
        prompts: list[list[int]],
        batches: list[list[int]],
        sampling: Sampling,
        name: Callable[[int], str],
        stop_at: Callable[[], float | None],
    ) -> Iterator[tuple[list[int], list[Generation]]]:
        for batch in batches:
            if stop_at() is not None:
                return
            texts = [bytes_of(prompts[index]) for index in batch]
            self.asked += texts
            samples = sampling.samples
            yield batch, [Generation([self.answer(text)] * samples, [3] * samples) for text in texts]


def bytes_of(ids: list[int]) -> str:
    from tokenizers import pre_tokenizers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    return "".join(alphabet[at - 1] for at in ids).replace("Ġ", " ").replace("Ċ", "\n")


def prefers_yes(prompt: str) -> str:
    return GOOD.format("A" if "# Response A\nyes" in prompt else "B")


def stops_after(batches: int, answers: Answers, answer: Callable[[str], str] = prefers_yes) -> None:
    """The engine answers this many batches of two rows, and then fails."""
    left = [2 * batches]

    def answered(prompt: str) -> str:
        left[0] -= 1
        if left[0] < 0:
            raise StageError("vLLM: no GPU left")
        return answer(prompt)

    answers.answer = answered


def terminates_itself(answers: Answers, times: int = 1) -> None:
    """This process gets SIGTERM so often with the first row that is asked."""
    left = [times]

    def answered(prompt: str) -> str:
        while left[0]:
            left[0] -= 1
            os.kill(os.getpid(), signal.SIGTERM)
        return prefers_yes(prompt)

    answers.answer = answered


@contextlib.contextmanager
def disk_full_at(size: int) -> Iterator[None]:
    """A limit on file sizes stands for the full disk: the write itself fails."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
