"""`pairwise-rm stop`: lets a training save and end."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pairwise_rm.cli.arguments import Overrides


def stop(
    run: Annotated[str, typer.Argument(metavar="RECIPE|FOLDER", help="The recipe of the run, or the run's folder.")],
    overrides: Overrides = None,
) -> None:
    """Let a training that runs save after its running step and end; the same command of training goes on later."""
    from pairwise_rm.train.stop import stop as ask

    typer.echo(ask(_train_folder(run, overrides or [])))


def _train_folder(run: str, overrides: list[str]) -> Path:
    from pairwise_rm.errors import InputError
    from pairwise_rm.recipe.load import load_recipe, shipped_recipes
    from pairwise_rm.run_folder import RunFolder

    folder = Path(run).expanduser()
    if run in shipped_recipes() or not folder.is_dir():
        return RunFolder.of(load_recipe(run, overrides)).train
    if overrides:
        raise InputError(f"{run}: is a folder, and {overrides[0]} belongs to a recipe; give one of them")
    return folder.absolute() if folder.name == "train" else folder.absolute() / "train"
