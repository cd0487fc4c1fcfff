"""Requests a stage's GPUs from Ray's autoscaler, and withdraws the request once the stage holds them.

verl and vLLM refuse to start, or wait silently, while the GPUs are missing. So the stage requests nodes, logs a line
every minute while it waits, and then starts. A request outlives its process and would keep idle GPU nodes up, so it is
withdrawn as soon as the stage's own actors hold the GPUs, or by a guard process when the stage is killed before that.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from pairwise_rm.cluster.gpu_request_guard import Guard, withdraw
from pairwise_rm.cluster.input_wait import WaitingNotes
from pairwise_rm.errors import StageError
from pairwise_rm.progress import Waiting, clock
from pairwise_rm.ray_session import ray_session
from pairwise_rm.recipe.model import Recipe

_POLL_SECONDS = 2.0


@dataclass(frozen=True)
class Demand:
    """`groups` times `gpus` GPUs, each group on one node."""

    groups: int
    gpus: int

    @property
    def total(self) -> int:
        return self.groups * self.gpus


def demand_of(stage: str, recipe: Recipe) -> Demand | None:
    """The GPUs that a stage needs; None for a stage without GPUs."""
    if stage == "train":
        return Demand(recipe.train.nodes, recipe.train.gpus_per_node)
    if stage == "evaluate":
        return Demand(recipe.evaluate.replicas, recipe.evaluate.tensor_parallel)
    return None


class GpuRequest:
    """Nodes of the Ray cluster that RAY_ADDRESS names."""

    def __init__(self, demand: Demand, device: Literal["cuda", "cpu"]) -> None:
        self.demand, self._device = demand, device
        self._guard: Guard | None = None

    def acquire(self, timeout: float, say: Callable[[Waiting], None]) -> None:
        """Waits until the GPUs are there and free. Raises StageError after `timeout` seconds."""
        notes, began = WaitingNotes(say), time.monotonic()
        with ray_session(self._device, gpus=self.demand.total, cpus=1):
            # One that an attempt has left which never held its GPUs goes on: replaced, it would withdraw this request.
            self._guard = self._guard or Guard()
            self._request()
            while (there := self._fitting()) < self.demand.groups:
                waited = time.monotonic() - began
                if waited > timeout:
                    raise StageError(self._lack(there, waited))
                notes.tell(f"GPUs: {self.demand.total} wanted, {there * self.demand.gpus} there")
                time.sleep(_POLL_SECONDS)
                self._request()  # repeated: the guard of an earlier attempt may have replaced it

    def release(self) -> None:
        """Withdraws the request; a no-op the second time. Actors keep the GPUs that they hold."""
        if self._guard:
            withdraw()
            self._guard.dismiss()
            self._guard = None

    def _request(self) -> None:
        from ray.autoscaler.sdk import request_resources

        request_resources(bundles=[{"GPU": float(self.demand.gpus)}] * self.demand.groups)

    def _fitting(self) -> int:
        """How many of the groups fit on the free GPUs, node by node."""
        import ray

        free = ray._private.state.available_resources_per_node()
        return sum(int(node.get("GPU", 0)) // self.demand.gpus for node in free.values())

    def _lack(self, there: int, waited: float) -> str:
        import ray

        total = int(sum(node["Resources"].get("GPU", 0) for node in ray.nodes() if node["Alive"]))
        demand = self.demand
        shape = f"{demand.groups} x {demand.gpus}" if demand.groups > 1 else f"{demand.gpus}"
        return (
            f"GPUs: {shape} wanted on one node each, {there} such free after {clock(waited)} "
            f"(the Ray cluster has {total} in all); see `pairwise-rm status` for the pods that are Pending, "
            "pools.<name>.maxReplicas, and stages.<stage>.gpuTimeout for how long to wait"
        )
