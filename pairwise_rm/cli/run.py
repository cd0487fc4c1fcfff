"""`pairwise-rm run`: all stages in order, and what they changed in one table."""

from __future__ import annotations

from typing import Annotated

import typer

from pairwise_rm.cli.arguments import Overrides, RecipeName


def register(app: typer.Typer) -> None:
    app.command("run")(run)


def run(
    recipe: RecipeName,
    overrides: Overrides = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Throw away this run's earlier training.")] = False,
) -> None:
    """Convert, evaluate, train, evaluate again, export and report. Finished stages are not done twice."""
    from pairwise_rm.cli.steps import run_steps
    from pairwise_rm.recipe.load import load_recipe

    run_steps(load_recipe(recipe, overrides or []), fresh)
