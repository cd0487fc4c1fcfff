"""`pairwise-rm logs`: what a stage prints."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from pairwise_rm.cli.arguments import Context, Namespace, Release


def logs(
    stage: Annotated[str, typer.Argument(metavar="STAGE", help="convert, train, evaluate or export.")],
    release: Release = None,
    namespace: Namespace = None,
    context: Context = None,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Follow until the stage has ended, and wait for it to begin.")
    ] = False,
) -> None:
    """Print the log of a stage."""
    from pairwise_rm.k8s.logs import print_log
    from pairwise_rm.k8s.status import follower

    def write(line: str) -> None:
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()

    print_log(follower(context, namespace, release), stage, follow, write, lambda text: print(text, file=sys.stderr))
