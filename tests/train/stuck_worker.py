"""A fault for the tests: vLLM's worker takes the weights of the first two syncs and drops all later ones."""

from __future__ import annotations

from typing import Any

from pairwise_rm.cpu.vllm_worker import KeepWeightsWorkerExtension


class StuckWorkerExtension(KeepWeightsWorkerExtension):
    """The first sync comes before the first step and the second after it: from the second step on they do nothing."""

    syncs = 0

    def update_weights_from_ipc(self, *args: Any, **kwargs: Any) -> None:
        self.syncs += 1
        super().update_weights_from_ipc(*args, **kwargs)

    def _update_weights(self, *args: Any, **kwargs: Any) -> None:
        if self.syncs <= 2:
            super()._update_weights(*args, **kwargs)
