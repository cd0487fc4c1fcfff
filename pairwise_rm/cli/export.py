"""`pairwise-rm export`: the trained judge as a plain Hugging Face folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pairwise_rm.cli.arguments import Overrides, RecipeName


def export(
    recipe: RecipeName,
    overrides: Overrides = None,
    checkpoint: Annotated[
        Path | None, typer.Option("--checkpoint", help="A global_step_N folder; default: the run's newest.")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Folder to write; default: the run's export/.")] = None,
) -> None:
    """Merge the newest checkpoint into a Hugging Face folder with tokenizer and model card."""
    from pairwise_rm import pipeline
    from pairwise_rm.cli.console import ConsoleReporter
    from pairwise_rm.recipe.load import load_recipe

    pipeline.export(load_recipe(recipe, overrides or []), ConsoleReporter(), checkpoint, out)
