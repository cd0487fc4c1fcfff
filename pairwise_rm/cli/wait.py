"""`pairwise-rm wait`: waits until a stage has ended, for CI; the exit code tells the outcome."""

from __future__ import annotations

import re
from typing import Annotated

import typer

from pairwise_rm.cli.arguments import Context, Namespace, Release
from pairwise_rm.errors import InputError

_DURATION = re.compile(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?")


def wait(
    stage: Annotated[str, typer.Option("--for", metavar="STAGE", help="convert, train, evaluate or export.")],
    release: Release = None,
    timeout: Annotated[str, typer.Option("--timeout", metavar="TIME", help="90s, 30m, 2h, 1h30m.")] = "2h",
    namespace: Namespace = None,
    context: Context = None,
) -> None:
    """Wait for a stage. Exit code 0: it succeeded; 1, with the cause: it failed, cannot go on, or timed out."""
    from pairwise_rm.k8s.status import follower
    from pairwise_rm.k8s.wait import wait_for

    seconds = seconds_from(timeout)
    wait_for(follower(context, namespace, release), stage, seconds, typer.echo)


def seconds_from(text: str) -> float:
    """Seconds of `90s`, `30m`, `2h`, `1h30m`. Raises InputError for anything else."""
    found = _DURATION.fullmatch(text.strip())
    if not found or not any(found.groups()):
        raise InputError(f"--timeout {text}: expected a time such as 90s, 30m, 2h or 1h30m")
    hours, minutes, seconds = (int(part or 0) for part in found.groups())
    return float(hours * 3600 + minutes * 60 + seconds)
