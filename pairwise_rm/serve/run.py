"""The Serve application on one machine: a local Ray for as long as it serves."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import time
from collections.abc import Callable, Iterator

from pairwise_rm.errors import StageError
from pairwise_rm.evaluate.engine import worker_environment
from pairwise_rm.evaluate.engine_failure import cause_in
from pairwise_rm.ray_session import ray_session
from pairwise_rm.serve.app import NAME, build
from pairwise_rm.serve.exported import Exported
from pairwise_rm.signals import sigterm_raises

_POLL_SECONDS = 1.0


@contextlib.contextmanager
def serving(exported: Exported, host: str, port: int) -> Iterator[Callable[[Callable[[str], None]], None]]:
    """Yields when the judge answers, with a function that tells of its ends and starts, and returns only by raising.

    Raises StageError when vLLM cannot start, and when it ended and could not be started again; SystemExit on SIGTERM.
    """
    recipe = exported.recipe
    with (
        contextlib.ExitStack() as leaving,
        ray_session(recipe.device, gpus=exported.tensor_parallel, cpus=2, env=worker_environment(recipe)),
        # Ray's own handler, which is there by now, prints its C++ stack and ends without any cleanup.
        sigterm_raises(SystemExit(128 + signal.SIGTERM)),
    ):
        from ray import serve

        # Its log repeats what the console shows.
        logging.getLogger("ray.serve").setLevel(logging.ERROR)
        try:
            serve.start(http_options={"host": host, "port": port})
            try:
                serve.run(build({"model": str(exported.folder)}), name=NAME, route_prefix="/")
            except RuntimeError as error:
                raise StageError(_cause(str(error))) from error
            yield _watch
        finally:
            # Ray warns that Serve's controller is gone, which is what was asked for.
            leaving.enter_context(contextlib.redirect_stdout(leaving.enter_context(open(os.devnull, "w"))))
            serve.shutdown()


def _watch(tell: Callable[[str], None]) -> None:
    from ray import serve

    answering = True
    while True:
        application = serve.status().applications[NAME]
        if answering != (application.status == "RUNNING"):
            answering = not answering
            tell("it answers again" if answering else "vLLM has ended or does not answer; it is started again")
        if application.status == "DEPLOY_FAILED":
            raise StageError(_cause("\n".join(judge.message for judge in application.deployments.values())))
        time.sleep(_POLL_SECONDS)


def _cause(text: str) -> str:
    """Serve's messages hold a traceback, in which the last error that is named is the cause."""
    found = cause_in(text) or " ".join(text.split())[:400]
    return found.removeprefix(f"{StageError.__module__}.{StageError.__name__}: ")
