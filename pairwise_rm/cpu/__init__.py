"""CPU as a platform of verl and vLLM: a plugin of this package, not a fork of theirs.

verl 0.9 knows nvidia, huawei and rocm; vLLM's CPU build answers to another distribution name. What is
missing is brought in through their own doors: verl loads `VERL_USE_EXTERNAL_MODULES` in every process,
vLLM asks the entry points `vllm.platform_plugins` for a platform and a worker extension for its workers.
Everything is switched by `PAIRWISE_RM_DEVICE=cpu`, which only recipes with `device: cpu` set, so on a GPU
nothing of this package's platform code is imported.
"""

from __future__ import annotations

import os

DEVICE_VARIABLE = "PAIRWISE_RM_DEVICE"
WORKER_EXTENSION = "pairwise_rm.cpu.vllm_worker.KeepWeightsWorkerExtension"


def environment() -> dict[str, str]:
    """The variables that every process of a CPU run needs: driver, Ray workers, vLLM workers."""
    return {
        DEVICE_VARIABLE: "cpu",
        "VERL_USE_EXTERNAL_MODULES": "pairwise_rm.cpu.verl_platform",
        "VERL_PLATFORM": "cpu",
        # verl registers its FSDP engines for cuda and npu; the cuda one is device-neutral torch.
        "VERL_ENGINE_DEVICE": "cuda",
        # vLLM compiles C++ at start even when it runs eagerly, unless dynamo is off.
        "TORCHDYNAMO_DISABLE": "1",
        "VLLM_CPU_KVCACHE_SPACE": os.environ.get("VLLM_CPU_KVCACHE_SPACE", "1"),
        # Several processes share the cores; threads of their own make each of them slower.
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1"),
    }


def vllm_platform() -> str | None:
    """Entry point of `vllm.platform_plugins`: vLLM's own CPU platform in a CPU run, nothing elsewhere."""
    return "vllm.platforms.cpu.CpuPlatform" if os.environ.get(DEVICE_VARIABLE) == "cpu" else None
