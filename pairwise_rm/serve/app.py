"""The judge as a Ray Serve application: `import_path: pairwise_rm.serve.app:build`, `args: {model: <folder>}`.

Each replica holds the GPUs of one vLLM server, which is its child process, and the HTTP API in front of it. Replicas
are independent; Serve's autoscaler decides how many there are.

A replica ends when its vLLM does. Serve would take it for unhealthy after three failed checks only, and start another
when it has left its GPUs; an actor that is gone is replaced at the next check.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pairwise_rm.cluster.input_wait import WaitingNotes
from pairwise_rm.cluster.state_file import read_state
from pairwise_rm.progress import Line
from pairwise_rm.serve.exported import Exported, ServeArguments
from pairwise_rm.serve.http_api import application
from pairwise_rm.serve.served_judge import ServedJudge

if TYPE_CHECKING:
    from ray.serve import Application
    from starlette.applications import Starlette

NAME = "judge"
_POLL_SECONDS = 5.0
_CHECK_SECONDS = 2
_LAST_ANSWERS_SECONDS = 1.0
# vLLM batches many sequences; requests above this number wait in Serve, where the autoscaler sees them.
_MOST_ONGOING = 256


def build(args: dict[str, Any]) -> Application:
    """The application, for Serve. Waits for the export, which may not exist yet; no GPU is held meanwhile.

    Raises InputError for wrong arguments, and for a folder that is no exported judge.
    """
    from ray import serve

    arguments = ServeArguments.of(args)
    await_export(arguments)
    width = Exported.of(arguments).tensor_parallel
    deployment = serve.deployment(
        serve.ingress(_application)(Replica),
        name=NAME,
        ray_actor_options={"num_cpus": 1, "num_gpus": width},
        max_ongoing_requests=_MOST_ONGOING,
        health_check_period_s=_CHECK_SECONDS,
        health_check_timeout_s=30,
        graceful_shutdown_timeout_s=60,
        max_constructor_retry_count=3,
    )
    return deployment.bind(args)


def await_export(arguments: ServeArguments) -> None:
    """Waits until the judge to serve exists, with a line every minute.

    It also waits after a failed export: the next RayJob may succeed, and there is nothing else to serve.
    """
    notes = WaitingNotes(lambda event: print(Line("serve", None, event), flush=True))
    folder = Path(arguments.model).expanduser()
    while lack := _lacking(folder, arguments.export):
        notes.tell(f"the judge in {folder}: {lack}")
        time.sleep(_POLL_SECONDS)


def _lacking(folder: Path, digest: str | None) -> str | None:
    # The folder appears as a whole, and may be of an older export of this run: the state file has the digest.
    if digest:
        state = read_state(folder.parent / "stages" / "export.json")
        if state is None or state.digest != digest:
            return "export has not begun"
        if state.state != "succeeded":
            return f"export is {state.state}{f' ({state.error})' if state.error else ''}"
    return None if folder.is_dir() else "no such folder"


class Replica:
    """The class of Serve's replicas: each starts, watches and ends one ServedJudge, and ends with it."""

    # Serve awaits it.
    async def __init__(self, args: Mapping[str, Any]) -> None:  # type: ignore[misc]
        self.served = await ServedJudge.start(Exported.of(ServeArguments.of(args)))
        self._watch = asyncio.create_task(self._end_with_vllm())

    async def check_health(self) -> None:
        await self.served.server.check()

    async def __del__(self) -> None:
        # Absent where the constructor failed.
        if watch := getattr(self, "_watch", None):
            watch.cancel()
        if served := getattr(self, "served", None):
            await served.server.stop()

    async def _end_with_vllm(self) -> None:
        print(f"{await self.served.server.end()}; its replica ends, and Serve starts another", file=sys.stderr)
        # The requests under way are answered with that reason.
        await asyncio.sleep(_LAST_ANSWERS_SECONDS)
        await self.served.server.stop()
        sys.stderr.flush()
        _end_actor()


def _end_actor() -> None:
    import ray

    # By Ray, to which a process that ends by itself is an error to speak of.
    ray.kill(ray.get_runtime_context().current_actor)


def _application() -> Starlette:
    return application(_served)


def _served() -> ServedJudge:
    from ray import serve

    served: ServedJudge = serve.get_replica_context().servable_object.served
    return served
