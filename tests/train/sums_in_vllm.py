"""vLLM on a CPU in this process, given weights as verl gives them; prints what the comparison says as JSON.

python -m tests.train.sums_in_vllm MODEL DTYPE
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from typing import Any

from pairwise_rm import cpu

os.environ.update({**cpu.environment(), "VLLM_ENABLE_V1_MULTIPROCESSING": "0"})

import peft
import torch
import transformers

import pairwise_rm.cpu.verl_platform  # noqa: F401  as VERL_USE_EXTERNAL_MODULES does
from pairwise_rm.errors import StageError
from pairwise_rm.train.weight_sums import compare, shards, sums_of

RANK, ALPHA = 4, 6


def main(model: str, dtype: str) -> None:
    import vllm

    adapters: dict[str, Any] = {"enable_lora": True, "max_loras": 1, "max_lora_rank": 8}
    trained = transformers.AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    for name, options in (("full", {}), ("adapter", adapters)):
        engine = vllm.LLM(
            model, dtype=dtype, enforce_eager=True, max_model_len=64, disable_log_stats=True,
            worker_extension_cls=cpu.WORKER_EXTENSION, **options,
        )  # fmt: skip
        says = _full(engine, trained) if name == "full" else _adapter(engine, trained)
        print(json.dumps({name: says}), flush=True)
        del engine


def _full(engine: Any, trained: Any) -> dict[str, Any]:
    said = {"loaded from the files": _compared(engine, trained)}
    _change(trained.parameters())
    said["after an update"] = _compared(engine, trained)
    weights = [(name, parameter.detach().clone()) for name, parameter in trained.named_parameters()]
    engine.collective_rpc(_load(weights, peft_config=None))
    said["loaded and not packed"] = _compared(engine, trained)
    engine.collective_rpc(_pack)
    said["after a whole sync"] = _compared(engine, trained)
    return said


def _adapter(engine: Any, base: Any) -> dict[str, Any]:
    config = peft.LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules="all-linear", task_type="CAUSAL_LM")
    trained = peft.get_peft_model(transformers.AutoModelForCausalLM.from_pretrained(base.name_or_path), config)
    _change(parameter for name, parameter in trained.named_parameters() if "lora_" in name)
    said = {"without an adapter": _compared(engine, trained)}
    for moment in ("after a sync", "after the next sync"):
        said[moment] = _synced(engine, trained, config)
        _change(parameter for name, parameter in trained.named_parameters() if "lora_" in name)
        said[f"an update {moment}"] = _compared(engine, trained)
    return said


def _synced(engine: Any, trained: Any, config: Any) -> Any:
    weights = [(name, tensor.clone()) for name, tensor in peft.get_peft_model_state_dict(trained).items()]
    engine.collective_rpc("remove_lora", args=(123,))
    engine.collective_rpc(_load(weights, peft_config=config.to_dict()))
    return _compared(engine, trained)


def _change(parameters: Any) -> None:
    with torch.no_grad():
        for parameter in parameters:
            parameter.add_(torch.randn_like(parameter) * 0.01)


def _load(weights: list[tuple[str, torch.Tensor]], peft_config: Any) -> Callable[[Any], None]:
    return lambda worker: worker._update_weights(weights, peft_config=peft_config, base_sync_done=True)


def _pack(worker: Any) -> None:
    from vllm.model_executor.model_loader.utils import process_weights_after_loading

    runner = worker.model_runner
    process_weights_after_loading(runner.get_model(), runner.vllm_config.model_config, torch.device("cpu"))


def _compared(engine: Any, trained: Any) -> Any:
    """The number of parameters, or the error."""
    held = engine.collective_rpc("weight_sums")
    dtypes = {name: dtype for rank in held for name, (dtype, _) in rank.items()}
    try:
        return compare(1, sums_of(shards(trained, dtypes, first=True)), [held])
    except StageError as error:
        return str(error)


if __name__ == "__main__":
    main(*sys.argv[1:])
