"""The smallest rows and configs that convert, and what reads an output back, for the tests of the convert stage."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pairwise_rm.contract.rows import DROPPED_FILE, MANIFEST_FILE, REJECTED_FILE, TEST_FILE, TRAIN_FILE
from pairwise_rm.recipe.model import DatasetConfig

OUTPUTS = {TRAIN_FILE, TEST_FILE, MANIFEST_FILE, REJECTED_FILE, DROPPED_FILE}
RATIO = {"split_ratio": {"train": 0.5, "test": 0.5}}


def row(number: int = 0, **changed: Any) -> dict[str, Any]:
    """One HelpSteer2 row; every fourth is a validation row."""
    plain = {
        "split": "val" if number % 4 == 3 else "train",
        "prompt": f"What is {number} and one?",
        "response_1": f"It is {number + 1}.",
        "response_2": f"I do not know {number}.",
        "preference_strength": -2,
    }
    return {key: value for key, value in {**plain, **changed}.items() if value is not ...}


def rows(count: int = 8) -> list[dict[str, Any]]:
    return [row(number) for number in range(count)]


def write_lines(path: Path, lines: Iterable[Any]) -> Path:
    """Rows as JSON lines; a string is written as it stands."""
    path.write_text("".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines))
    return path


def config(
    path: Path | str | list[str] | None = None, *, export: dict[str, Any] | None = None, **configs: Any
) -> DatasetConfig:
    """A config over local files, with the official split unless `export` says otherwise."""
    source = {"path": str(path) if isinstance(path, Path) else path, **configs}
    return DatasetConfig.model_validate({"configs": source, "export": export or {"split": "official"}})


def read(output: Path, name: str = TRAIN_FILE) -> list[dict[str, Any]]:
    import pyarrow.parquet as pq

    held: list[dict[str, Any]] = pq.read_table(output / name).to_pylist()
    return held


def all_rows(output: Path) -> list[dict[str, Any]]:
    return read(output, TRAIN_FILE) + read(output, TEST_FILE)


def manifest(output: Path) -> dict[str, Any]:
    held: dict[str, Any] = json.loads((output / MANIFEST_FILE).read_text())
    return held


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of a folder, hidden ones as well."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
