"""A file that is to be judged: pairs that are converted already, or raw rows.

How raw rows are read: as `--source` says; else as the recipe's `data.configs` says, where a row has the fields that
are named there; else under the generic converter's names.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pairwise_rm.contract.rows import is_row_file
from pairwise_rm.convert.converters import Converter, GenericPairwiseConverter, get_converter
from pairwise_rm.convert.fields import RowError
from pairwise_rm.convert.source_rows import kind_of, open_rows
from pairwise_rm.recipe.model import DatasetConfig, OutputConfig, SourceConfig


def is_raw(path: Path) -> bool:
    """Whether a file holds rows that `convert` reads; a damaged parquet is left to who reads pairs."""
    kind = kind_of(path) if path.is_file() else None
    return kind is not None and (kind != ".parquet" or not is_row_file(path))


def config_for(path: Path, recipe: SourceConfig, source: str | None) -> DatasetConfig:
    """The conversion of a file with all pairs on the test side, filtered as in the recipe.

    Without `source` the first row decides how all are read.
    """
    ways = ways_to_read(recipe, source)
    converters = [converter_of(configs) for configs in ways]
    configs = ways[0] if len(ways) == 1 else ways[fitting(_first_row(path, columns_of(converters)), converters)]
    place = {"type": "local", "path": str(path), "test_path": None, "repo": None, "revision": None, "sha256": None}
    configs = configs.model_copy(update={**place, "limit": None})
    return DatasetConfig(name=configs.source, configs=configs, export=OutputConfig(split="test"))


def ways_to_read(recipe: SourceConfig, source: str | None) -> list[SourceConfig]:
    """How rows may be read, the preferred way first. The recipe's field mapping is that of its own source."""
    if source is not None:
        return [recipe if source == recipe.source else recipe.model_copy(update={"source": source, "fields": None})]
    if recipe.source == GenericPairwiseConverter.name and recipe.fields is None:
        return [recipe]
    return [recipe, recipe.model_copy(update={"source": GenericPairwiseConverter.name, "fields": None})]


def converter_of(configs: SourceConfig, *, labelled: bool = True) -> Converter:
    return get_converter(configs.source, configs.fields, configs.pairs_per_prompt, labelled=labelled)


def columns_of(converters: Sequence[Converter]) -> frozenset[str] | None:
    """All columns that one of these may read; None: any."""
    columns: frozenset[str] = frozenset()
    for converter in converters:
        if converter.columns is None:
            return None
        columns |= converter.columns
    return columns


def fitting(row: Mapping[str, Any], converters: Sequence[Converter]) -> int:
    """Which is the first converter that finds its fields in a row; 0 where none does."""
    return next((at for at, converter in enumerate(converters) if _finds_fields(converter, row)), 0)


def _finds_fields(converter: Converter, row: Mapping[str, Any]) -> bool:
    try:
        converter.convert(row)
    except RowError as error:
        return error.reason != "missing_field"
    return True


def _first_row(path: Path, columns: frozenset[str] | None) -> Mapping[str, Any]:
    """The first sound row of a file; a file without one fails when it is converted."""
    reader = open_rows(path, columns)
    for _, item in reader:
        try:
            return reader.parse(item)
        except RowError:
            continue
    return {}
