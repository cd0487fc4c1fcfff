"""`pairwise-rm train`: GRPO with verl and vLLM, from the recipe."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from pairwise_rm.cli.arguments import Overrides, RecipeName

if TYPE_CHECKING:
    from pairwise_rm.recipe.load import Origin
    from pairwise_rm.recipe.model import Recipe


def train(
    recipe: RecipeName,
    overrides: Overrides = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the resolved recipe and verl's overrides, checked; train nothing.")
    ] = False,
    fresh: Annotated[bool, typer.Option("--fresh", help="Throw away this run's earlier training.")] = False,
    verl: Annotated[
        list[str] | None,
        typer.Option("--verl", metavar="KEY=VALUE", help="A verl key in verl's own spelling; repeatable."),
    ] = None,
) -> None:
    """Train the judge; the same command again resumes from the newest checkpoint."""
    from pairwise_rm import pipeline
    from pairwise_rm.checks.problem import refuse
    from pairwise_rm.checks.recipe import shape_problems
    from pairwise_rm.cli.console import ConsoleReporter
    from pairwise_rm.recipe.load import load_with_origin
    from pairwise_rm.train.verl_settings import to_recipe_overrides

    loaded, origin = load_with_origin(recipe, overrides or [])
    if verl:
        loaded, origin = load_with_origin(recipe, [*(overrides or []), *to_recipe_overrides(verl, loaded)])
    if dry_run:
        _print_dry_run(loaded, origin)
    else:
        refuse(shape_problems(loaded), origin)
        pipeline.train(loaded, ConsoleReporter(), fresh)


def _print_dry_run(recipe: Recipe, origin: Origin) -> None:
    from pairwise_rm.recipe.load import recipe_yaml
    from pairwise_rm.train.dry_run import dry_run

    found = dry_run(recipe, origin)
    typer.echo(f"# recipe, resolved\n{recipe_yaml(recipe)}")
    typer.echo("\n".join(["# verl overrides", *found.overrides]))
    known = (
        "every key is known to the installed verl" if found.by_verl else "verl is not installed here: keys not checked"
    )
    typer.echo("\n# ".join([f"# {len(found.overrides)} overrides; {known}", *found.notes]))
