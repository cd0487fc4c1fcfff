"""The judge as a Ray Serve application: `import_path: pairwise_rm.serve.app:build`, `args: {model: <folder>}`.

Each replica holds the GPUs of one vLLM, which is its child process, and the HTTP in front of it. Replicas are equal
and know nothing of each other; how many there are is Serve's and its autoscaler's matter.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pairwise_rm.serve.asgi import application
from pairwise_rm.serve.exported import Exported, ServeArguments
from pairwise_rm.serve.judge import ServedJudge
from pairwise_rm.stages.order import Pace

if TYPE_CHECKING:
    from ray.serve import Application
    from starlette.applications import Starlette

NAME = "judge"
_POLL_SECONDS = 5.0
# vLLM takes many sequences at once; what is more than this waits in Serve, where the autoscaler sees it.
_MOST_ONGOING = 256


def build(args: dict[str, Any]) -> Application:
    """The application, for Serve. Waits for the folder: an `export` may still be on its way, and no GPU is held."""
    from ray import serve

    arguments = ServeArguments.of(args)
    await_folder(Path(arguments.model).expanduser())
    width = Exported.of(arguments).tensor_parallel
    deployment = serve.deployment(
        serve.ingress(_application)(Replica),
        name=NAME,
        ray_actor_options={"num_cpus": 1, "num_gpus": width},
        max_ongoing_requests=_MOST_ONGOING,
        health_check_period_s=10,
        health_check_timeout_s=30,
        graceful_shutdown_timeout_s=60,
        max_constructor_retry_count=3,
    )
    return deployment.bind(args)


def await_folder(folder: Path) -> None:
    """Returns when the folder is there, which `export` makes appear whole; a line a minute until then."""
    pace = Pace(lambda line: print(f"▸ serve  {line}", flush=True))
    while not folder.is_dir():
        pace.tell(f"the judge in {folder}")
        time.sleep(_POLL_SECONDS)


class Replica:
    """What Serve makes a replica of: one ServedJudge, watched and ended."""

    # Serve awaits it.
    async def __init__(self, args: Mapping[str, Any]) -> None:  # type: ignore[misc]
        self.served = await ServedJudge.start(Exported.of(ServeArguments.of(args)))

    async def check_health(self) -> None:
        await self.served.server.check()

    async def __del__(self) -> None:
        # Absent where the constructor failed.
        if served := getattr(self, "served", None):
            await served.server.stop()


def _application() -> Starlette:
    return application(_served)


def _served() -> ServedJudge:
    from ray import serve

    served: ServedJudge = serve.get_replica_context().servable_object.served
    return served
