"""`pairwise-rm validate`: checks a recipe, a data config, or rendered manifests."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from pairwise_rm.cli.arguments import Overrides
from pairwise_rm.errors import InputError


def validate(
    file: Annotated[
        str | None, typer.Argument(metavar="[RECIPE|CONFIG]", help="A recipe, by name or file, or a data_config.yaml.")
    ] = None,
    overrides: Overrides = None,
    files: Annotated[
        bool,
        typer.Option(
            "--files", help="Check source files, converted pairs and reward.function too; downloads a hub's file."
        ),
    ] = False,
    model: Annotated[
        bool, typer.Option("--model", help="Check the model's config, tokenizer and chat template too.")
    ] = False,
    show: Annotated[bool, typer.Option("--show", help="Print the resolved recipe as YAML.")] = False,
    names: Annotated[bool, typer.Option("--list", help="List the shipped recipes.")] = False,
    manifests: Annotated[
        str | None,
        typer.Option(
            "--manifests", metavar="FILE", help="Check that rendered manifests agree on their recipes; - reads stdin."
        ),
    ] = None,
) -> None:
    """Check a recipe, a data config or rendered manifests; needs neither verl nor a GPU."""
    if manifests is not None:
        _validate_manifests(manifests, file)
        return
    from pairwise_rm.checks.problem import refuse
    from pairwise_rm.checks.recipe import recipe_problems
    from pairwise_rm.recipe.load import find_recipe, load_recipe, load_with_origin, recipe_yaml, shipped_recipes
    from pairwise_rm.recipe.yaml_file import read_yaml

    if names:
        for name in shipped_recipes():
            typer.echo(f"{name:<22} {load_recipe(name).description}")
        return
    if file is None:
        raise InputError("expected a recipe or a data config, or --list")
    path = find_recipe(file)
    if "dataset" in read_yaml(path)[0]:
        _validate_data_config(path, overrides or [], files, model)
        return
    recipe, origin = load_with_origin(file, overrides or [])
    refuse(recipe_problems(recipe), origin)
    problems = []
    if files:
        from pairwise_rm.checks.files import files_problems

        problems += files_problems(recipe, download=True)
    if model:
        from pairwise_rm.checks.model import model_problems

        problems += model_problems(recipe)
    refuse(problems, origin)
    if show:
        typer.echo(recipe_yaml(recipe), nl=False)
    else:
        gpus = recipe.train.nodes * recipe.train.gpus_per_node
        where = f"{gpus} GPU{'s' if gpus > 1 else ''}" if recipe.device == "cuda" else "CPU"
        also = [name for name, wanted in (("files", files), ("model", model)) if wanted]
        seen = f"; {' and '.join(also)} checked" if also else ""
        typer.echo(f"{path}: a valid recipe ({recipe.name}: {recipe.model.path} on {where}{seen})")


def _validate_data_config(path: Path, overrides: list[str], files: bool, model: bool) -> None:
    from pairwise_rm.checks.files import source_file_problems
    from pairwise_rm.checks.problem import refuse
    from pairwise_rm.checks.recipe import source_problems
    from pairwise_rm.recipe.load import load_data_config_with_origin

    if model:
        raise InputError(f"--model and {path}: a data config names no model")
    config, origin = load_data_config_with_origin(path, overrides)
    refuse((problem.of_data_config() for problem in source_problems(config)), origin)
    if files:
        refuse((problem.of_data_config() for problem in source_file_problems(config, download=True)), origin)
    typer.echo(f"{path}: a valid data config ({config.configs.source} from {config.configs.path})")


def _validate_manifests(source: str, recipe: str | None) -> None:
    from pairwise_rm.k8s.manifest_digests import check_digests
    from pairwise_rm.recipe.yaml_file import read_text

    if recipe is not None:
        raise InputError(f"--manifests and {recipe}: expected one of them")
    name = "stdin" if source == "-" else source
    checked = check_digests(sys.stdin.read() if source == "-" else read_text(Path(source)), name)
    if checked.wrong:
        raise InputError("\n".join(f"{name}: {line}" for line in checked.wrong))
    jobs = f"{checked.jobs} RayJob{'s' if checked.jobs > 1 else ''}"
    unseen = f" ({', '.join(checked.missing)}, which is waited for, is not among them)" if checked.missing else ""
    typer.echo(f"{name}: {jobs}, each digest is that of its recipe{unseen}")
