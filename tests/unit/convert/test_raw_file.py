"""Files that are given to be judged: pairs as they are, raw rows by way of a conversion."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pairwise_rm import pipeline
from pairwise_rm.cli.console import ConsoleReporter
from pairwise_rm.contract.rows import arrow_schema, read_rows
from pairwise_rm.convert.raw_file import config_for, is_raw
from pairwise_rm.errors import InputError
from pairwise_rm.recipe.load import load_recipe
from tests.unit.convert.samples import row, rows, write_lines

PLAIN = {"prompt": "Why?", "response_a": "Because.", "response_b": "No.", "preferred": "A", "id": "q7"}


def judged(data: Path | None, folder: Path, source: str | None = None, *overrides: str) -> Path | None:
    """What `evaluate --data DATA --source SOURCE` judges, with a recipe for HelpSteer2's rows."""
    recipe = load_recipe("smoke", list(overrides))
    return pipeline.converted_for_judging(recipe, data, source, folder, ConsoleReporter())


def test_raw_rows_are_all_held_out_and_keep_their_id(tmp_path: Path) -> None:
    file = judged(write_lines(tmp_path / "bench.jsonl", [PLAIN]), tmp_path, "generic_pairwise")
    assert file is not None
    assert [held["source_id"] for held in read_rows([file]).rows] == ["q7", "q7"]


def test_the_recipe_says_how_raw_rows_are_read_where_nothing_else_does(tmp_path: Path) -> None:
    data = write_lines(tmp_path / "bench.jsonl", [row(split="dev"), *rows()[1:]])
    file = judged(data, tmp_path, None, "data.configs.limit=2", "data.configs.duplicates=keep")
    assert file is not None
    assert len(read_rows([file]).rows) == 16
    with pytest.raises(InputError, match=r"response_1: missing.*\(read as helpsteer2_pairwise; --source names how"):
        judged(write_lines(tmp_path / "other.jsonl", [{"prompt": "Why?", "answer": "Because."}]), tmp_path)


@pytest.mark.parametrize(
    ("raw", "source"),
    [
        (PLAIN, "generic_pairwise"),
        ({"prompt": "Why?", "chosen": "Because.", "rejected": "No."}, "generic_pairwise"),
        (row(), "helpsteer2_pairwise"),
        ({**row(), "prompt": 1}, "helpsteer2_pairwise"),
        ({"question": "Why?"}, "helpsteer2_pairwise"),
    ],
)
def test_rows_without_the_recipes_fields_are_read_under_the_plain_names(
    tmp_path: Path, raw: dict[str, Any], source: str
) -> None:
    recipe = load_recipe("smoke", [])
    for name in ("bench.jsonl", "bench.parquet"):
        if name.endswith(".jsonl"):
            write_lines(tmp_path / name, ["null", raw])
        else:
            pq.write_table(pa.Table.from_pylist([{**raw, "prompt": raw.get("prompt")}]), tmp_path / name)
        assert config_for(tmp_path / name, recipe.data.configs, None).configs.source == source
    assert config_for(tmp_path / "bench.jsonl", recipe.data.configs, "trl").configs.source == "trl"


def test_a_mapping_of_the_recipe_goes_with_the_recipes_source(tmp_path: Path) -> None:
    mapped = {"question": "Why?", "good": "Because.", "bad": "No."}
    fields = "data.configs.fields={prompt: question, chosen: good, rejected: bad}"
    recipe = ("data.configs.source=generic_pairwise", fields)
    assert judged(write_lines(tmp_path / "m.jsonl", [mapped]), tmp_path, None, *recipe)
    assert judged(write_lines(tmp_path / "h.jsonl", rows()), tmp_path, "helpsteer2_pairwise", *recipe)


def test_pairs_are_taken_as_they_are(tmp_path: Path) -> None:
    pq.write_table(arrow_schema().empty_table(), tmp_path / "pairs.parquet")
    pq.write_table(pa.table({"input": ["x"], "output": ["x"], "metadata": ["x"]}), tmp_path / "gallery.parquet")
    pq.write_table(pa.Table.from_pylist([PLAIN]), tmp_path / "raw.parquet")
    (tmp_path / "damaged.parquet").write_bytes(b"PAR1")
    found = {name: is_raw(tmp_path / f"{name}.parquet") for name in ("pairs", "gallery", "raw", "damaged", "missing")}
    assert found == {"pairs": False, "gallery": False, "raw": True, "damaged": False, "missing": False}
    assert judged(tmp_path / "pairs.parquet", tmp_path) == tmp_path / "pairs.parquet"
    assert judged(None, tmp_path) is None
    with pytest.raises(InputError, match="--source needs --data"):
        judged(None, tmp_path, "generic_pairwise")


@pytest.mark.parametrize("content", [json.dumps([PLAIN]), "{"])
def test_a_bad_raw_file_is_told_by_its_line(tmp_path: Path, content: str) -> None:
    data: Any = tmp_path / "bench.jsonl"
    data.write_text(content)
    with pytest.raises(InputError, match=r"bench\.jsonl:1: "):
        judged(data, tmp_path)
