"""The Ray actor of an engine: the only module that imports vLLM, on the worker's node."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from pairwise_rm.evaluate.engine_failure import EngineFailure, meaningful_line

_LOG_TAIL = 1 << 18  # bytes


class EngineWorker:
    """Loads a model into vLLM and generates. A plain class; `ray.remote` makes the actor of it."""

    def __init__(self) -> None:
        self.engine: Any = None

    def start(self, arguments: dict[str, Any]) -> None:
        """Starts vLLM. Raises EngineFailure with one line when it cannot."""
        folder = arguments["model"]
        if os.path.isabs(folder) and not os.path.isdir(folder):
            raise EngineFailure(f"{folder}: not on this node; is the volume with the model mounted on the workers?")
        from vllm import LLM

        try:
            # vLLM fails with errors of any kind; each is raised again as the one line that crosses to the driver.
            self.engine = LLM(**arguments)
        except Exception as error:
            raise EngineFailure(meaningful_line(error, _own_log())) from error

    def generate(
        self, prompts: list[list[int]], indices: list[int], sampling: tuple[int, float, int, int]
    ) -> list[tuple[list[str], list[int]]]:
        """For each prompt the texts of its samples and their numbers of tokens."""
        from vllm import SamplingParams
        from vllm.platforms import current_platform

        samples, temperature, max_tokens, seed = sampling
        # vLLM rewinds a request's own generator after a partial prefill, which CPU generators cannot do;
        # there the engine's seed alone governs, and repeats a run as long as its batches are the same.
        seeded = temperature > 0 and not current_platform.is_cpu()

        def parameters(index: int) -> Any:
            # A sample's stream is fixed by the row's index, whatever batch or replica it meets.
            own = (seed * 1_000_003 + index) * samples % (1 << 31) if seeded else None
            return SamplingParams(n=samples, temperature=temperature, max_tokens=max_tokens, seed=own)

        try:
            outputs = self.engine.generate(
                [{"prompt_token_ids": ids} for ids in prompts], [parameters(index) for index in indices], use_tqdm=False
            )
        except Exception as error:
            raise EngineFailure(meaningful_line(error, _own_log())) from error
        return [
            ([sample.text for sample in output.outputs], [len(sample.token_ids) for sample in output.outputs])
            for output in outputs
        ]


def _own_log() -> str:
    """The end of what this process and its children wrote to their standard error."""
    log = Path("/proc/self/fd/2").resolve()
    if not log.is_file():
        return ""
    with open(log, "rb") as handle:
        handle.seek(max(0, log.stat().st_size - _LOG_TAIL))
        return handle.read().decode(errors="replace")
