"""The vLLM side of a CPU training run, imported by vLLM's workers alone (`worker_extension_cls`).

vLLM packs every linear layer for oneDNN and drops the plain weight, after which verl's weight sync has
nothing to load into. Here the weight stays; verl calls `process_weights_after_loading` after each sync,
which packs the new one. Without this the rollouts use stale weights: see `train.max_probs_diff`.
"""

from __future__ import annotations

import vllm.model_executor.layers.utils as layer_utils
from verl.workers.rollout.vllm_rollout.utils import vLLMColocateWorkerExtension

_pack = layer_utils.dispatch_cpu_unquantized_gemm


def _pack_and_keep(layer: object, remove_weight: bool) -> object:
    return _pack(layer, remove_weight=False)


layer_utils.dispatch_cpu_unquantized_gemm = _pack_and_keep


class KeepWeightsWorkerExtension(vLLMColocateWorkerExtension):
    """verl's extension, in a module whose import makes vLLM keep the weights."""
