"""The vLLM side of a CPU training run, imported by vLLM's workers alone (`worker_extension_cls`).

vLLM packs every linear layer for oneDNN and drops the plain weight, after which verl's weight sync has
nothing to load into. Here the weight stays; verl calls `process_weights_after_loading` after each sync,
which packs the new one. Without this the rollouts use stale weights: see `train.max_probs_diff`.
"""

from __future__ import annotations

import torch
import vllm.model_executor.layers.utils as layer_utils

from pairwise_rm.train.vllm_worker import WeightSumsExtension

_pack = layer_utils.dispatch_cpu_unquantized_gemm


def _pack_and_keep(layer: object, remove_weight: bool) -> object:
    return _pack(layer, remove_weight=False)


layer_utils.dispatch_cpu_unquantized_gemm = _pack_and_keep


class KeepWeightsWorkerExtension(WeightSumsExtension):
    """Our extension, in a module whose import makes vLLM keep the weights."""

    def in_use(self, module: torch.nn.Module, weight: torch.Tensor) -> torch.Tensor:
        """The plain weight, with three columns as the packed copy has them, which is what the forward pass reads."""
        packed = getattr(module, "cpu_linear", None)
        if packed is None or weight is not module.weight or not weight.numel():
            return weight
        columns = torch.tensor([0, weight.shape[1] // 2, weight.shape[1] - 1])
        one_hot = torch.nn.functional.one_hot(columns, weight.shape[1]).to(weight.dtype)
        read, plain = packed(one_hot, weight, None).T, weight[:, columns]
        if torch.equal(read, plain):
            return weight
        as_read = weight.detach().clone()
        as_read[:, columns] = read
        return as_read
