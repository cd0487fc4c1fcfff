"""`pairwise-rm fetch`: copies the results of a release from its volume."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pairwise_rm.cli.arguments import Context, Namespace, Release

if TYPE_CHECKING:
    from pairwise_rm.k8s.fetch import Fetched


def fetch(
    release: Release = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Folder to write; default: one named after the run.")
    ] = None,
    weights: Annotated[bool, typer.Option("--weights", help="The exported judge with its weights as well.")] = False,
    namespace: Namespace = None,
    context: Context = None,
) -> None:
    """Fetch report, metrics, verdicts, model card and recipe of a run; all of it or nothing."""
    from pairwise_rm.cli.console import ConsoleReporter
    from pairwise_rm.k8s import fetch as k8s_fetch
    from pairwise_rm.k8s.snapshot import take
    from pairwise_rm.k8s.status import follower

    found = follower(context, namespace, release)
    snapshot = take(found.cluster, found.release)
    with ConsoleReporter().part("fetch", f"{k8s_fetch.run_folder_of(snapshot)[1]} of {found.release}") as part:

        def progress(came: int, total: int) -> None:
            part.live(f"{came / 1e6:,.1f} of {total / 1e6:,.1f} MB")

        fetched = k8s_fetch.fetch(found.cluster, snapshot, out, weights, part.say, progress)
        _report(fetched, weights, part.say)


def _report(fetched: Fetched, weights: bool, say: Callable[[str], None]) -> None:
    """Prints what was fetched, and where the report, card and judge are, if they exist yet."""
    from pairwise_rm.k8s.fetch import CARD, REPORT

    say(f"{len(fetched.files)} files, {fetched.size / 1e6:,.1f} MB, in {fetched.folder}")
    for what, name in (("report", REPORT), ("model card", CARD)):
        say(f"{what}: {fetched.folder / name if name in fetched.files else 'not there yet'}")
    if weights:
        judge = any(name.endswith(".safetensors") for name in fetched.files)
        say(f"judge: {fetched.folder / 'export' if judge else 'not there yet'}")
