"""What is added to vLLM's workers: the sums of the weights that a rank holds. vLLM alone imports it."""

from __future__ import annotations

from collections.abc import Collection, Iterator

import torch
from verl.workers.rollout.vllm_rollout.utils import VLLM_LORA_INT_ID, vLLMColocateWorkerExtension

from pairwise_rm.train.weight_sums import dtype_name, is_compared, plain_name, sums_of


class WeightSumsExtension(vLLMColocateWorkerExtension):
    """verl's extension of vLLM's worker, which can also say what weights it holds."""

    def weight_sums(self, names: Collection[str] | None = None) -> dict[str, tuple[str, list[int]]]:
        """This rank's parameters, and its adapter's: dtype and sums. Of those of `names` alone where it is given."""
        all_held = ((plain_name(name), tensor) for name, tensor in (*self._weights(), *self._adapter()))
        held = [(name, tensor) for name, tensor in all_held if names is None or name in names]
        dtypes = {name: dtype_name(tensor.dtype) for name, tensor in held}
        sums = sums_of((name, tensor, dtypes[name]) for name, tensor in held)
        return {name: (dtypes[name], list(found)) for name, found in sums.items()}

    def in_use(self, module: torch.nn.Module, weight: torch.Tensor) -> torch.Tensor:
        """The weight of a module as the forward pass reads it."""
        return weight

    def _weights(self) -> Iterator[tuple[str, torch.Tensor]]:
        for prefix, module in self.model_runner.get_model().named_modules():
            for name, parameter in module.named_parameters(prefix, recurse=False):
                if is_compared(name, parameter.dtype):
                    yield name, self.in_use(module, parameter)

    def _adapter(self) -> Iterator[tuple[str, torch.Tensor]]:
        """The slots that layers read the synced adapter from; without it they are empty, which no adapter is."""
        manager = getattr(self.model_runner, "lora_manager", None)
        if manager is None:
            return
        adapters = manager._adapter_manager
        slot, rank = 0, 0
        if VLLM_LORA_INT_ID in adapters.lora_index_to_id:
            slot = adapters.lora_index_to_id.index(VLLM_LORA_INT_ID)
            rank = adapters.get_adapter(VLLM_LORA_INT_ID).rank
        for name, module in self.model_runner.get_model().named_modules():
            # q, k and v are one layer with three slices.
            parts = adapters.packed_modules.get(name, [name])
            if getattr(module, "n_slices", 0) == len(parts):
                for part, a, b in zip(parts, module.lora_a_stacked, module.lora_b_stacked, strict=True):
                    yield f"{part}.lora_A.weight", a[slot, 0, :rank]
                    yield f"{part}.lora_B.weight", b[slot, 0, :, :rank]
