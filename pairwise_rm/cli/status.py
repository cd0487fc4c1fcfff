"""`pairwise-rm status`: the state of a release on Kubernetes, once or as a live table."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Annotated

import typer

from pairwise_rm.cli.arguments import Context, Namespace, Release
from pairwise_rm.errors import InputError

if TYPE_CHECKING:
    from pairwise_rm.k8s.status import Follower

_REFRESH_SECONDS = 2.0


def status(
    release: Release = None,
    namespace: Namespace = None,
    context: Context = None,
    watch: Annotated[
        bool, typer.Option("--watch", "-w", help="On a terminal: a live table, until all stages have ended.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Show the stages of a release: state, progress, GPUs, time, and what blocks them."""
    from pairwise_rm.cli.console import console
    from pairwise_rm.k8s.status import follower, table

    if watch and as_json:
        raise InputError("--watch and --json exclude each other; keep one")
    found = follower(context, namespace, release)
    if as_json:
        import json

        typer.echo(json.dumps(found.look().as_json(), indent=2, ensure_ascii=False))
    elif watch and console.is_terminal:
        _watch(found)
    else:
        console.print(table(found.look()), soft_wrap=False)


def _watch(found: Follower) -> None:
    from rich.live import Live
    from rich.text import Text

    from pairwise_rm.cli.console import console
    from pairwise_rm.k8s.client import with_retries
    from pairwise_rm.k8s.status import table

    with (
        contextlib.suppress(KeyboardInterrupt),  # Ctrl-C leaves the live table
        Live(Text(""), console=console, auto_refresh=False, vertical_overflow="visible") as live,
    ):
        while True:
            overview = with_retries(found.look, lambda text: live.console.print(text, markup=False, style="yellow"))
            live.update(table(overview), refresh=True)
            if overview.ended:
                return
            time.sleep(_REFRESH_SECONDS)
