"""`pairwise-rm serve`: an exported judge over HTTP, on this machine or on the Ray cluster of RAY_ADDRESS."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def serve(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="What `export` wrote: weights and recipe.yaml.")],
    port: Annotated[int, typer.Option("--port", min=1, max=65535, help="Port to listen on.")] = 8000,
    host: Annotated[
        str, typer.Option("--host", help="Address to listen on; 0.0.0.0 for other machines too.")
    ] = "127.0.0.1",
) -> None:
    """Serve a judge until interrupted: POST /judge, and OpenAI's API under /v1."""
    from pairwise_rm.cli.console import ConsoleReporter
    from pairwise_rm.evaluate.row_verdicts import PromptMaker
    from pairwise_rm.serve.exported import Exported, ServeArguments
    from pairwise_rm.serve.run import serving

    exported = Exported.of(ServeArguments.of({"model": str(folder)}))
    # Its replicas make their prompts so; here a chat template that cannot is one line, before Ray starts.
    PromptMaker.of(exported.recipe, str(exported.folder))
    with ConsoleReporter().part("serve", str(folder)) as part:
        part.say("vLLM starts")
        with serving(exported, host, port) as wait:
            part.say(f"{exported.name} answers at http://{host}:{port}/judge and /v1; Ctrl-C ends it")
            wait(part.say)
