"""`pairwise-rm stage`: what a RayJob runs on the cluster's head.

The stages themselves are those of the other commands; around them stands what only a cluster needs: the recipe
from a ConfigMap, the order, the GPUs, and a state file for the stages after it.
"""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pairwise_rm.errors import InputError

if TYPE_CHECKING:
    from pairwise_rm.cluster.gpu_request import Capacity
    from pairwise_rm.recipe.model import Recipe

DAY, HOUR = 86400.0, 3600.0


def register(app: typer.Typer) -> None:
    app.command("stage")(stage)


def stage(
    name: Annotated[str, typer.Argument(metavar="STAGE", help="convert, train, evaluate or export.")],
    recipe: Annotated[Path, typer.Option("--recipe", help="The stage's recipe file.")],
    digest: Annotated[
        str | None, typer.Option("--digest", help="First 12 hex digits of its SHA-256; it is waited for.")
    ] = None,
    after: Annotated[
        str | None, typer.Option("--after", metavar="STAGE[=DIGEST]", help="The stage to wait for, on the head alone.")
    ] = None,
    input_timeout: Annotated[float, typer.Option(help="Seconds to wait for that stage.")] = DAY,
    gpu_timeout: Annotated[float, typer.Option(help="Seconds to wait for GPUs.")] = HOUR,
    upload: Annotated[
        str | None, typer.Option("--upload", metavar="URI", help="Copy evaluation and export there when done.")
    ] = None,
) -> None:
    """Run one stage on a Ray cluster, in its order; what a RayJob of the chart starts."""
    from pairwise_rm.cli.console import console, observed
    from pairwise_rm.cluster import STAGES
    from pairwise_rm.cluster.input_wait import Earlier, await_stage
    from pairwise_rm.cluster.recipe_mount import await_recipe, digest_of
    from pairwise_rm.cluster.state_file import Reporter, read_state, state_file
    from pairwise_rm.recipe.load import load_recipe

    if name not in STAGES:
        raise InputError(f"stage {name!r}: expected one of {', '.join(STAGES)}")
    earlier = Earlier.parse(after, name) if after else None

    def say(text: str) -> None:
        console.print(f"[bold cyan]▸ {name}[/]  {text}")

    if digest:
        await_recipe(recipe, digest, say)
    loaded = load_recipe(str(recipe))
    path = state_file(loaded, name)
    this = digest or digest_of(recipe.read_bytes())
    if (state := read_state(path)) and state.state == "succeeded" and state.digest == this:
        say(f"already done with this recipe ({path}), nothing to do")
        return
    with _terminable(), Reporter(path, name, this) as reporter:

        def tell(text: str) -> None:
            say(text)
            reporter.now("waiting", text)

        if upload:
            from pairwise_rm.cluster.upload import check_target

            check_target(upload)
        if earlier:
            await_stage(earlier, state_file(loaded, earlier.stage), input_timeout, tell)
        with _gpus(name, loaded, gpu_timeout, tell) as capacity, observed(reporter.say):
            reporter.now("running")
            _work(name, loaded, capacity)
        if upload:
            _upload(name, loaded, upload, say)


@contextlib.contextmanager
def _terminable() -> Iterator[None]:
    """Stopping a Ray job sends SIGTERM; as KeyboardInterrupt it lets the stage write that it was stopped."""

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    previous = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


@contextlib.contextmanager
def _gpus(name: str, recipe: Recipe, timeout: float, tell: Callable[[str], None]) -> Iterator[Capacity | None]:
    from pairwise_rm.cluster.gpu_request import Capacity, demand_of
    from pairwise_rm.ray_session import cluster_address

    demand = demand_of(name, recipe)
    if demand is None or cluster_address() is None:
        yield None
        return
    capacity = Capacity(demand, recipe.device)
    try:
        capacity.acquire(timeout, tell)
        yield capacity
    finally:
        capacity.release()


def _work(name: str, recipe: Recipe, capacity: Capacity | None) -> None:
    from pairwise_rm.cli import steps
    from pairwise_rm.run_folder import RunFolder

    if name == "convert":
        steps.convert_step(recipe.data, RunFolder.of(recipe).data, False, recipe)
    elif name == "train":
        steps.train_step(recipe, holding=capacity.release if capacity else None)
    elif name == "evaluate":
        steps.evaluate_step(recipe, [], None, None, True)
        steps.card_step(recipe)
    else:
        steps.export_step(recipe)


def _upload(name: str, recipe: Recipe, uri: str, say: Callable[[str], None]) -> None:
    from pairwise_rm.cluster.upload import upload
    from pairwise_rm.run_folder import RunFolder

    folder = RunFolder.of(recipe)
    if finished := {"evaluate": folder.evaluation, "export": folder.export}.get(name):
        say(f"uploaded to {upload(finished, uri)}")
