"""`pairwise-rm retry`: starts the failed stages of a release again."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from pairwise_rm.cli.arguments import Context, Namespace, Release
from pairwise_rm.errors import InputError


def retry(
    release: Release = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Start them without asking.")] = False,
    namespace: Namespace = None,
    context: Context = None,
) -> None:
    """Try the failed stages of a release again, as the chart's value `attempt` does. Says what it starts, and asks."""
    from pairwise_rm.k8s.objects import annotation
    from pairwise_rm.k8s.retry import HELM_RELEASE, make, new_jobs
    from pairwise_rm.k8s.status import follower

    found = follower(context, namespace, release)
    overview = found.look()
    jobs = new_jobs(found.cluster, overview.snapshot, overview.stages)
    others = [f"{view.stage} {view.state}" for view in overview.stages if view.stage not in {job.stage for job in jobs}]
    if not jobs:
        typer.echo(f"release {found.release} has nothing to try again: {', '.join(others) or 'no RayJob yet'}")
        return
    where = f"release {found.release} in namespace {found.cluster.namespace}"
    typer.echo(f"{where}: to be tried again, from where {'it' if len(jobs) == 1 else 'they'} ended")
    for job in jobs:
        typer.echo(f"  {job.stage:<9} {job.instead_of}\n{'':<12}{job.instead_of.job} → {job.name}")
        if job.note:
            typer.echo(f"{'':<12}{job.note}")
    if others:
        typer.echo(f"left alone: {', '.join(others)}")
    if not yes:
        if not sys.stdin.isatty():
            raise InputError("nobody to ask here, and nothing is started; give --yes")
        if not typer.confirm("start?"):
            raise InputError("nothing is started")
    make(found.cluster, jobs, typer.echo)
    if any(annotation(job, HELM_RELEASE) for job in overview.snapshot.jobs.values()):
        typer.echo("`helm upgrade` with the same values takes them over, and removes the failed ones")
    typer.echo(f"follow: pairwise-rm status {found.release} -n {found.cluster.namespace}")
