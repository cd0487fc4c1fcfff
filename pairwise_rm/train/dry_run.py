"""`train --dry-run`: verl's overrides, and all checks that this machine can make.

What is wrong in the recipe, in a file or in the model's config is an error. What is not on this machine says nothing
about the machine that will train, and is only told.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from typing import NamedTuple

from pairwise_rm.checks.files import files_problems
from pairwise_rm.checks.model import look_at_model, model_problems
from pairwise_rm.checks.problem import Problem, refuse
from pairwise_rm.checks.recipe import recipe_problems, training_problems
from pairwise_rm.errors import PairwiseError
from pairwise_rm.recipe.load import Origin
from pairwise_rm.recipe.model import Recipe
from pairwise_rm.run_folder import RunFolder
from pairwise_rm.train.preflight import check_cluster, check_installed, data_facts, install_problems, room_problems
from pairwise_rm.train.verl_arguments import dry_run as verl_overrides


class DryRun(NamedTuple):
    """`by_verl`: whether verl is installed and knows every key; `notes`: what was checked here, and what was not."""

    overrides: list[str]
    by_verl: bool
    notes: list[str]


def dry_run(recipe: Recipe, origin: Origin) -> DryRun:
    """Raises InputError with a line for each problem of the recipe, of a file that is here, or of the model."""
    refuse([*recipe_problems(recipe), *training_problems(recipe)], origin)
    overrides, by_verl = verl_overrides(recipe)
    files, model = files_problems(recipe, download=False), model_problems(recipe)
    refuse((problem for problem in (*files, *model) if not problem.absent), origin)
    notes = ["checked: the recipe", _told("the files", files), _told("the model's config and chat template", model)]
    folder = RunFolder.of(recipe)
    if folder.train_file.is_file() and folder.test_file.is_file() and not model:
        facts = data_facts(recipe, folder, look_at_model(recipe).tokenizer)
        notes.append(f"checked: the prompts of {facts.train_rows} training rows; {facts.steps} steps")
        notes += [f"warning: {facts.warning}"] if facts.warning else []
    machine = list(_machine(recipe, folder))
    notes += [f"this machine could not train it: {line}" for line in machine] or ["checked: this machine"]
    return DryRun(overrides, by_verl, notes)


def _told(what: str, absent: list[Problem]) -> str:
    if not absent:
        return f"checked: {what}"
    return f"not checked here: {what} ({'; '.join(problem.text for problem in absent)})"


def _machine(recipe: Recipe, folder: RunFolder) -> Iterator[str]:
    yield from (problem.text for problem in (*install_problems(recipe), *room_problems(recipe, folder)))
    try:
        check_installed(recipe)
        if importlib.util.find_spec("torch"):
            check_cluster(recipe)
    except PairwiseError as error:
        yield from str(error).splitlines()
