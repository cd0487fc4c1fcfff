"""`pairwise-rm evaluate`: judge the test file in both orders, and write metrics, verdicts and a report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pairwise_rm.cli.arguments import Overrides, RecipeName


def evaluate(
    recipe: RecipeName,
    overrides: Overrides = None,
    model: Annotated[
        list[str] | None,
        typer.Option(
            "--model", help="A model folder or hub name instead of the run's; given twice, both are compared."
        ),
    ] = None,
    data: Annotated[
        Path | None, typer.Option("--data", help="Pairs, or raw rows; default: the run's preference_test.parquet.")
    ] = None,
    source: Annotated[
        str | None,
        typer.Option(
            "--source",
            help="How raw rows are read, as data.configs.source names it; default: the recipe's, or plain names.",
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Folder; default: the run's evaluation/.")] = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Overwrite an evaluation that had another configuration.")
    ] = False,
) -> None:
    """Evaluate the base model and, once there is a checkpoint, the trained one; or any model with --model."""
    from pairwise_rm import pipeline
    from pairwise_rm.cli.console import ConsoleReporter
    from pairwise_rm.recipe.load import load_recipe

    pipeline.evaluate(load_recipe(recipe, overrides or []), ConsoleReporter(), model, data, out, replace, source=source)
