"""verl and vLLM on a CPU: what is registered with them, and what is patched in them.

Registered, through their extension points: a platform with verl (`VERL_USE_EXTERNAL_MODULES`, loaded in every process),
a platform and a worker extension with vLLM (`vllm.platform_plugins`, `worker_extension_cls`).
Patched, where they have no extension point: in `verl_platform` the backend of verl's process groups, the version of the
distribution "vllm", and FSDP's pinned memory; in `vllm_worker` that vLLM drops a layer's plain weight.
All of it only where `PAIRWISE_RM_DEVICE=cpu`, which recipes with `device: cpu` set.
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
        # Several processes share the cores; more threads in each make them slower.
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1"),
    }


def vllm_platform() -> str | None:
    """Entry point of `vllm.platform_plugins`: vLLM's own CPU platform in a CPU run, nothing elsewhere."""
    return "vllm.platforms.cpu.CpuPlatform" if os.environ.get(DEVICE_VARIABLE) == "cpu" else None
