"""What the files tell: the source that is converted, and the pairs that were converted already."""

from __future__ import annotations

import glob
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from pairwise_rm.checks.problem import Problem
from pairwise_rm.contract.rows import is_without_rows
from pairwise_rm.errors import InputError, StageError
from pairwise_rm.recipe.model import PACKAGED, DatasetConfig, Recipe, SourceConfig
from pairwise_rm.run_folder import RunFolder

if TYPE_CHECKING:
    from pairwise_rm.convert.converters import Converter
    from pairwise_rm.convert.source import Source

_ROWS_LOOKED_AT = 20
"""Rows at the start of a source; convert reads all."""


def files_problems(recipe: Recipe, *, download: bool) -> list[Problem]:
    """All of this layer. `download`: fetch a hub dataset's file, as convert would, to see that it is there."""
    return [*input_problems(recipe, download), *_converted_problems(recipe), *reward_problems(recipe)]


def input_problems(recipe: Recipe, download: bool) -> Iterator[Problem]:
    """Those of `data`: the source, or pairs that are given instead."""
    if recipe.data.files:
        folder = RunFolder.of(recipe)
        yield from _parquet_problems(folder.train_file, "data.files.train: ")
        yield from _parquet_problems(folder.test_file, "data.files.test: ")
    elif made_with_the_model(recipe.data, recipe) and not Path(recipe.model.path).expanduser().exists():
        yield Problem(f"data.configs.path: {recipe.data.configs.path} is made with the model, by convert", absent=True)
    else:
        yield from source_file_problems(recipe.data, download=download)


def _converted_problems(recipe: Recipe) -> Iterator[Problem]:
    folder = RunFolder.of(recipe)
    for path in [] if recipe.data.files else [folder.train_file, folder.test_file]:
        # A side that the split leaves without rows is there, and no mistake.
        if path.exists() and not is_without_rows(path):
            yield from _parquet_problems(path)


def made_with_the_model(config: DatasetConfig, recipe: Recipe) -> bool:
    """Whether the source lies in the folder of the recipe's own small model, and comes with it."""
    if not recipe.model.make or config.configs.type != "local" or config.configs.path is None:
        return False
    model = Path(recipe.model.path).expanduser().absolute()
    return any(model in Path(place).expanduser().absolute().parents for place in _places(config.configs))


def _places(configs: SourceConfig) -> list[str]:
    """What `path` and `test_path` name: files, folders or patterns."""
    given = (configs.path or [], configs.test_path or [])
    return [place for one in given for place in ([one] if isinstance(one, str) else one)]


def reward_problems(recipe: Recipe) -> Iterator[Problem]:
    """Whether the recipe's own reward is there and gives a score."""
    from pairwise_rm.train.reward_check import check_reward_function

    try:
        check_reward_function(recipe)
    except InputError as error:
        path = recipe.reward.function.path if recipe.reward.function else PACKAGED
        absent = not path.startswith(PACKAGED) and not Path(path).expanduser().exists()
        yield Problem(str(error), ("reward.function.path", "reward.function"), absent=absent)


def _parquet_problems(path: Path, key: str = "") -> Iterator[Problem]:
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
        converter = get_converter(configs.source, configs.fields, configs.pairs_per_prompt)
        source = locate(configs, converter.hub, data.export.is_official)
        yield from _row_problems(data, converter, source)
    except InputError as error:
        there = configs.type != "local" or all(_exists(place) for place in _places(configs))
        yield Problem(str(error), keys, absent=not there)
    except StageError as error:
        yield Problem(str(error), keys, absent=True)


def _exists(place: str) -> bool:
    path = str(Path(place).expanduser())
    return Path(path).exists() or bool(glob.glob(path, recursive=True))


def _row_problems(data: DatasetConfig, converter: Converter, source: Source) -> Iterator[Problem]:
    """Whether the first rows are pairs for this converter, and say which are held out where they have to."""
    from pairwise_rm.convert.converters import SeveralPairs
    from pairwise_rm.convert.fields import RowError
    from pairwise_rm.convert.source_rows import open_rows

    first = source.files[0].path
    reader = open_rows(first, converter.columns)
    refused = None
    for number, item in itertools.islice(reader, _ROWS_LOOKED_AT):
        try:
            found = converter.convert(reader.parse(item))
        except RowError as error:
            refused = refused or f"{first}:{number}: {error}"
            continue
        pairs = found.pairs if isinstance(found, SeveralPairs) else [found]
        said_by_file = not data.export.is_official or any(file.side for file in source.files)
        if pairs and pairs[0].split is None and not said_by_file:
            yield Problem(
                f"data.export.split: official, but the rows of {source.shown} name no split; "
                "give data.configs.test_path, or set it to null and data.export.split_ratio",
                ("data.export.split", "data.export", "data.configs.path", "data.configs"),
            )
        return
    if refused:
        yield Problem(
            f"data.configs: none of the first rows is a pair for {data.configs.source}: {refused}",
            ("data.configs.fields", "data.configs.source", "data.configs"),
        )
