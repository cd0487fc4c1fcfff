"""A file that is to be judged: pairs that are converted already, or raw rows."""

from __future__ import annotations

from pathlib import Path

from pairwise_rm.contract.rows import is_row_file
from pairwise_rm.convert.source_rows import kind_of
from pairwise_rm.recipe.model import DatasetConfig, OutputConfig, SourceConfig


def is_raw(path: Path) -> bool:
    """Whether a file holds rows that `convert` reads; a damaged parquet is left to who reads pairs."""
    kind = kind_of(path) if path.is_file() else None
    return kind is not None and (kind != ".parquet" or not is_row_file(path))


def config_for(path: Path, recipe: SourceConfig, source: str | None) -> DatasetConfig:
    """The conversion of a file with all pairs on the test side, filtered as in the recipe.

    The recipe's field mapping is that of its own source.
    """
    place = {"type": "local", "path": str(path), "test_path": None, "repo": None, "revision": None, "sha256": None}
    changes = {**place, "limit": None}
    if source is not None and source != recipe.source:
        changes |= {"source": source, "fields": None}
    configs = recipe.model_copy(update=changes)
    return DatasetConfig(name=configs.source, configs=configs, export=OutputConfig(split="test"))
