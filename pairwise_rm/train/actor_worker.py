"""verl's actor worker, which can also sum the weights that it trains."""

from __future__ import annotations

from collections.abc import Mapping

from verl.single_controller.base.decorator import Dispatch, register
from verl.utils.device import get_device_id
from verl.workers.engine_workers import ActorRolloutRefWorker

from pairwise_rm.train.weight_sums import Sums, shards, sums_of


class JudgeActorWorker(ActorRolloutRefWorker):
    """`ActorRolloutRefWorker` with the sums of its shards."""

    @register(dispatch_mode=Dispatch.ONE_TO_ALL)
    def weight_sums(self, dtypes: Mapping[str, str]) -> dict[str, Sums]:
        """Of this rank's shards of the named parameters, each in the dtype in which vLLM has it.

        Empty where what is sent is not what is trained: an adapter that is merged on the way, and quantization.
        """
        engine = self.actor.engine
        if self.peft_merge or getattr(engine, "_qat_enabled", False):
            return {}
        return sums_of(shards(engine.module, dtypes, first=self.rank == 0), get_device_id())
