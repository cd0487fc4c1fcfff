"""`pairwise-rm convert`: preference pairs of a source into the parquet files of a recipe or a data config."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from pairwise_rm.cli.arguments import Overrides
from pairwise_rm.errors import InputError


def convert(
    recipe: Annotated[
        str | None, typer.Argument(metavar="[RECIPE]", help="A recipe, whose data section is used.")
    ] = None,
    overrides: Overrides = None,
    config: Annotated[
        Path | None, typer.Option("--config", help="The RM-Gallery tutorial's data_config.yaml, instead of a recipe.")
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Convert again, and replace the output that is there.")
    ] = False,
    sniffed: Annotated[
        str | None,
        typer.Option(
            "--sniff",
            metavar="FILE",
            help="Name the source that fits the rows of a file, folder or quoted pattern, or print a mapping to "
            "complete; converts nothing.",
        ),
    ] = None,
) -> None:
    """Convert preference pairs into preference_train.parquet and preference_test.parquet."""
    if sniffed is not None:
        if recipe or overrides or config or overwrite:
            raise InputError("--sniff only looks at a file; give it alone")
        from pairwise_rm.convert.sniff import sniff

        try:
            typer.echo(sniff(sniffed))
        except InputError as error:
            # There is no config here, whose keys the messages about files name.
            raise InputError(str(error).removeprefix("data.configs.path: ")) from error
        return
    from pairwise_rm import pipeline
    from pairwise_rm.checks.problem import refuse
    from pairwise_rm.checks.recipe import recipe_problems
    from pairwise_rm.cli.console import ConsoleReporter
    from pairwise_rm.recipe.load import load_data_config, load_with_origin
    from pairwise_rm.run_folder import RunFolder

    given, reporter = list(overrides or []), ConsoleReporter()
    if config is not None:
        # With --config there is no recipe: the first positional argument is an override as well.
        if recipe and "=" not in recipe:
            raise InputError(f"--config and the recipe {recipe!r} exclude each other; keep one")
        dataset = load_data_config(config, [*([recipe] if recipe else []), *given])
        if dataset.export.output_dir is None:
            raise InputError(f"{config}: dataset.export.output_dir is missing")
        try:
            pipeline.convert(dataset, Path(dataset.export.output_dir), reporter, overwrite)
        except InputError as error:
            # The stage's messages name the keys as in a recipe.
            raise InputError(re.sub(r"\bdata\.(configs|export)\b", r"dataset.\1", str(error))) from error
        return
    if recipe is None:
        raise InputError("expected a recipe, or --config with a data config")
    loaded, origin = load_with_origin(recipe, given)
    refuse(recipe_problems(loaded), origin)
    pipeline.convert(loaded.data, RunFolder.of(loaded).data, reporter, overwrite, loaded)
