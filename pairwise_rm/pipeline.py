"""All stages in order, as `pairwise-rm run` does them, without a word to the console.

    model and data -> evaluate (before) -> train -> merge -> evaluate (after) -> export -> report

Every stage knows whether its work is done already, so a run that was interrupted goes on where it was.
"""

from __future__ import annotations

from pathlib import Path

from pairwise_rm.errors import InputError
from pairwise_rm.model_folder import check_model_folder, model_location
from pairwise_rm.recipe.model import Recipe
from pairwise_rm.run_folder import RunFolder

BEFORE, AFTER = "before", "after"


def needs_model(recipe: Recipe) -> bool:
    """Whether the recipe names a small local model that has to be made first."""
    return recipe.model.make is not None


def base_model(recipe: Recipe) -> str:
    """What training starts from, for vLLM and transformers. Raises InputError when it is not there."""
    check_model_folder(recipe.model.path, recipe.model.revision)
    return model_location(recipe.model.path)


def pairs_to_judge(recipe: Recipe, data: Path | None = None) -> Path:
    """The pairs to judge. Raises InputError when they were not converted yet."""
    path = data.expanduser() if data else RunFolder.of(recipe).test_file
    if not path.is_file():
        hint = "" if data else f"; `pairwise-rm convert {recipe.name}` writes it"
        raise InputError(f"{path}: no such file{hint}")
    return path
