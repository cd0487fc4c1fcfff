"""verl's vLLM server and replica, which give the weight sums of their ranks; verl's own drops what workers return."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import ray
from verl.workers.rollout.replica import RolloutReplicaRegistry
from verl.workers.rollout.vllm_rollout.vllm_async_server import vLLMHttpServer, vLLMReplica

EXTENSION = "pairwise_rm.train.vllm_worker.WeightSumsExtension"


class JudgeServer(vLLMHttpServer):
    """verl's server, whose workers can say what weights they hold."""

    def _get_worker_extension_cls(self) -> str:
        return EXTENSION

    async def weight_sums(self, names: Collection[str] | None = None) -> Any:
        """Of each rank, in order."""
        return await self.engine.collective_rpc("weight_sums", args=(names,))


class JudgeReplica(vLLMReplica):
    """verl's replica with that server."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.server_class = ray.remote(JudgeServer)


def register() -> None:
    """Makes verl start these where it starts vLLM."""
    RolloutReplicaRegistry.register("vllm", lambda: JudgeReplica)
