"""`pairwise-rm stage`: what a RayJob runs on the cluster's head."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

DAY, HOUR = 86400.0, 3600.0


def stage(
    name: Annotated[str, typer.Argument(metavar="STAGE", help="convert, train, evaluate or export.")],
    recipe: Annotated[Path, typer.Option("--recipe", help="The stage's recipe file.")],
    digest: Annotated[
        str | None,
        typer.Option("--digest", help="First 12 hex digits of its SHA-256; the stage waits for this content."),
    ] = None,
    attempt: Annotated[
        str,
        typer.Option("--attempt", help="Which attempt of the run this is; a failure of another one is not waited on."),
    ] = "",
    after: Annotated[
        list[str] | None,
        typer.Option(
            "--after",
            metavar="STAGE[=DIGEST]",
            help="A stage to wait for, before any GPU is requested; may be given twice.",
        ),
    ] = None,
    input_timeout: Annotated[float, typer.Option(help="Seconds to wait for those stages.")] = DAY,
    retry_timeout: Annotated[
        float, typer.Option(help="Seconds that a failure of theirs is waited over, since it may be tried again.")
    ] = 0.0,
    gpu_timeout: Annotated[float, typer.Option(help="Seconds to wait for GPUs.")] = HOUR,
    upload: Annotated[
        str | None, typer.Option("--upload", metavar="URI", help="Copy evaluation and export there when done.")
    ] = None,
) -> None:
    """Run one stage on a Ray cluster, after the stages before it; the chart's RayJobs call this. Prints JSON lines."""
    from pairwise_rm.cluster.run import Job, run_job

    awaited = tuple(after or ())
    run_job(Job(name, recipe, digest, awaited, input_timeout, gpu_timeout, upload, attempt, retry_timeout), typer.echo)
