"""What the files tell: the source that is converted, and the pairs that were converted already."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pairwise_rm.checks.problem import Problem
from pairwise_rm.errors import InputError, StageError
from pairwise_rm.recipe.model import DatasetConfig, Recipe
from pairwise_rm.run_folder import RunFolder


def files_problems(recipe: Recipe, *, download: bool) -> list[Problem]:
    """All of this layer. `download`: fetch a hub dataset's file, as convert would, to see that it is there."""
    given = recipe.data.files
    folder = RunFolder.of(recipe)
    pairs = {"train": folder.train_file, "test": folder.test_file}
    if given:
        return [problem for side, path in pairs.items() for problem in _pairs_problems(path, f"data.files.{side}: ")]
    converted = [problem for path in pairs.values() if path.exists() for problem in _pairs_problems(path)]
    if made_with_the_model(recipe.data, recipe) and not Path(recipe.model.path).expanduser().exists():
        path = recipe.data.configs.path
        return [Problem(f"data.configs.path: {path} is made with the model, by convert", absent=True), *converted]
    return [*source_file_problems(recipe.data, download=download), *converted]


def made_with_the_model(config: DatasetConfig, recipe: Recipe) -> bool:
    """Whether the source lies in the folder of the recipe's own small model, and comes with it."""
    if not recipe.model.make or config.configs.type != "local" or config.configs.path is None:
        return False
    model, path = (Path(name).expanduser().absolute() for name in (recipe.model.path, config.configs.path))
    return model in path.parents


def _pairs_problems(path: Path, key: str = "") -> Iterator[Problem]:
    from pairwise_rm.contract.rows import read_rows

    try:
        read_rows([path])
    except InputError as error:
        yield Problem(f"{key}{error}", () if key else ("data.export", "data"), absent=not path.exists())


def source_file_problems(data: DatasetConfig, *, download: bool) -> Iterator[Problem]:
    """Whether the source file is there and can be read. `download`: as in `files_problems`."""
    from pairwise_rm.convert.converters import get_converter
    from pairwise_rm.convert.source_file import locate

    configs = data.configs
    keys = ("data.configs.path", "data.configs.repo", "data.configs")
    if configs.type == "huggingface" and not download:
        yield Problem("data.configs: the hub's file is downloaded by convert", keys, absent=True)
        return
    try:
        locate(configs, get_converter(configs.source).hub)
    except InputError as error:
        there = configs.type != "local" or not configs.path or Path(configs.path).expanduser().exists()
        yield Problem(str(error), keys, absent=not there)
    except StageError as error:
        yield Problem(str(error), keys, absent=True)
