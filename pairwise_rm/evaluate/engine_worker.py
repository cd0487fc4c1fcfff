"""The Ray actor of an engine: the only module that imports vLLM, on the worker's node."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from pairwise_rm.evaluate.engine_failure import EngineFailure, meaningful_line

_LOG_TAIL = 1 << 18  # bytes


class EngineWorker:
    """Loads a model into vLLM and generates. A plain class; `ray.remote` makes the actor of it."""

    def __init__(self) -> None:
        self.engine: Any = None

    def start(self, arguments: dict[str, Any], pause: float = 0.0) -> None:
        """Starts vLLM after `pause` seconds. Raises EngineFailure with one line when it cannot."""
        time.sleep(pause)
        folder = arguments["model"]
        if os.path.isabs(folder) and not os.path.isdir(folder):
            raise EngineFailure(f"{folder}: not on this node; is the volume with the model mounted on the workers?")
        from vllm import LLM

        try:
            # vLLM raises errors of any type; each is raised again as the one line that the driver reports.
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
        # vLLM rewinds a request's own generator after a partial prefill, which CPU generators cannot do. There the
        # process's generator is set for each batch, so that an answer depends on the rows of its batch alone.
        on_cpu = current_platform.is_cpu()

        def own_seed(index: int) -> int:
            return (seed * 1_000_003 + index) * samples % (1 << 31)

        def parameters(index: int) -> Any:
            # A sample's random numbers depend on the row's index, not on the batch or the replica.
            own = own_seed(index) if temperature > 0 and not on_cpu else None
            return SamplingParams(n=samples, temperature=temperature, max_tokens=max_tokens, seed=own)

        try:
            if temperature > 0 and on_cpu:
                import torch

                torch.manual_seed(own_seed(indices[0]))
            # What earlier batches left in the cache changes the last bits of the numbers, and with them some answers. A
            # batch is then judged alike by an engine that has just been started. Within a batch prefixes are shared.
            self.engine.reset_prefix_cache()
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
