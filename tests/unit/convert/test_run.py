"""The convert stage on sound input: rows, splits, counts, filters, skipping, and what it leaves alone."""

from __future__ import annotations

import gzip
import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pairwise_rm.contract.prompt_identity import normalised_prompt
from pairwise_rm.contract.rows import TEST_FILE, TRAIN_FILE, Message, Pair, Row, arrow_schema, both_orders, pair_id
from pairwise_rm.convert import row_writer
from pairwise_rm.convert.counts import DROP_REASONS
from pairwise_rm.convert.run import convert
from pairwise_rm.convert.summary import describe
from pairwise_rm.errors import InputError
from tests.paths import shared
from tests.unit.convert.samples import (
    OUTPUTS,
    RATIO,
    all_rows,
    config,
    contents,
    manifest,
    read,
    row,
    rows,
    write_lines,
)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_lines(tmp_path / "pairs.jsonl", rows())


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "out"


def test_the_files_hold_the_row_contract_in_both_orders(source: Path, output: Path) -> None:
    convert(config(source), output)
    expected: list[Row] = []
    for raw in rows():
        if raw["split"] == "train":
            prompt: list[Message] = [{"role": "user", "content": raw["prompt"]}]
            responses = (raw["response_1"], raw["response_2"])
            expected += both_orders(Pair(prompt, responses, "A", 2, "helpsteer2_pairwise"))
    assert read(output) == expected
    assert pq.read_schema(output / TRAIN_FILE).equals(arrow_schema())


def test_the_official_split_puts_the_validation_rows_into_the_test_file(source: Path, output: Path) -> None:
    result = convert(config(source), output)
    assert {line["messages"][0]["content"] for line in read(output, TEST_FILE)} == {
        "What is 3 and one?",
        "What is 7 and one?",
    }
    assert (result.counts.train.pairs, result.counts.test.pairs) == (6, 2)


def test_a_split_by_ratio_is_seeded_and_keeps_a_prompt_on_one_side(tmp_path: Path, output: Path) -> None:
    spellings = ["Why {}?", "why  {}?", "WHY\n{}? ", "Why\u00a0{}?"]
    lines = [row(prompt=text.format(n), response_2=f"{text}{n}") for n in range(60) for text in spellings]
    source = write_lines(tmp_path / "pairs.jsonl", lines)
    convert(config(source, export=RATIO), output)
    sides = [{normalised_prompt(line["messages"]) for line in read(output, name)} for name in (TRAIN_FILE, TEST_FILE)]
    assert not sides[0] & sides[1]
    assert len(sides[0]) + len(sides[1]) == 60
    assert 15 <= len(sides[0]) <= 45
    convert(config(source, export={**RATIO, "split_seed": 43}), tmp_path / "other")
    assert {normalised_prompt(line["messages"]) for line in read(tmp_path / "other")} != sides[0]


@pytest.mark.parametrize("suffix", [".jsonl.gz", ".parquet"])
def test_every_kind_of_file_gives_the_same_rows(source: Path, tmp_path: Path, output: Path, suffix: str) -> None:
    convert(config(source), output)
    other = tmp_path / f"pairs{suffix}"
    if suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows()), other)
    else:
        other.write_bytes(gzip.compress(source.read_bytes()))
    convert(config(other), tmp_path / "other")
    assert all_rows(tmp_path / "other") == all_rows(output)


def test_a_tilde_is_the_home_folder(source: Path, output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(source.parent))
    assert convert(config("~/pairs.jsonl"), output).counts.kept == 8


def test_blank_lines_and_a_byte_order_mark_are_no_rows(tmp_path: Path, output: Path) -> None:
    source = write_lines(tmp_path / "pairs.jsonl", ["\ufeff" + json.dumps(row(0)), "", "  ", *rows()[1:], ""])
    counts = convert(config(source), output).counts
    assert (counts.read, counts.kept, counts.blank_lines) == (8, 8, 3)


def test_duplicates_and_contradictions_are_dropped_and_counted_in_whatever_order(tmp_path: Path, output: Path) -> None:
    turned = {"response_1": row()["response_2"], "response_2": row()["response_1"]}
    lines = [
        *rows(),
        row(),
        row(**turned, preference_strength=1),
        row(preference_strength=3),
        row(**turned, preference_strength=-1),
        row(preference_strength=0),
        row(preference_strength=-1, response_2="A third answer."),
    ]
    counts = convert(config(write_lines(tmp_path / "pairs.jsonl", lines), conflicts="first"), output).counts
    assert counts.dropped == dict.fromkeys(DROP_REASONS, 0) | {"duplicate": 2, "contradictory": 3}
    assert (counts.read, counts.kept) == (14, 9)
    assert all_rows(output)[0]["preferred"] == "A"


def test_ties_and_weak_preferences_can_be_dropped(tmp_path: Path, output: Path) -> None:
    strengths = [0, 1, -2, 3, -1, 2, 0, 3]
    lines = [row(number, preference_strength=value) for number, value in enumerate(strengths)]
    source = write_lines(tmp_path / "pairs.jsonl", lines)
    kept = convert(config(source), output).counts
    assert (kept.ties, kept.train.preferred, kept.test.preferred) == (
        2, {"A": 2, "B": 2, "tie": 2}, {"A": 0, "B": 2, "tie": 0},
    )  # fmt: skip
    counts = convert(config(source, ties="drop", min_strength=2), tmp_path / "strong").counts
    assert counts.dropped == dict.fromkeys(DROP_REASONS, 0) | {"tie": 2, "weak": 2}
    assert sorted(line["strength"] for line in all_rows(tmp_path / "strong")) == [2, 2, 2, 2, 3, 3, 3, 3]
    weak = convert(config(source, ties="keep", min_strength=2), tmp_path / "ties").counts
    assert (weak.ties, weak.kept) == (2, 6)


def test_limit_counts_source_rows(source: Path, output: Path) -> None:
    assert convert(config(source, limit=4), output).counts.read == 4


def test_rejected_rows_are_listed_with_line_reason_and_text(tmp_path: Path, output: Path) -> None:
    source = write_lines(tmp_path / "pairs.jsonl", [row(0), "{not json", row(1, split="dev"), *rows()[2:]])
    result = convert(config(source, max_rejected=2), output)
    listed = [json.loads(line) for line in result.rejected_file.read_text().splitlines()]
    assert [(entry["line"], entry["reason"]) for entry in listed] == [(2, "not_json"), (3, "unknown_split")]
    assert listed[0]["source"] == "{not json"
    assert result.counts.rejected == {"not_json": 1, "unknown_split": 1}
    assert (result.counts.read, result.counts.kept) == (9, 7)


def test_the_manifest_tells_counts_checksums_config_and_versions(source: Path, output: Path) -> None:
    convert(config(source), output)
    held = manifest(output)
    assert held["input"]["sha256"] == hashlib.sha256(source.read_bytes()).hexdigest()
    for name, told in held["outputs"].items():
        content = (output / name).read_bytes()
        assert told == {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    assert (held["counts"]["read"], held["counts"]["train"]["a_share"]) == (8, 1.0)
    assert held["config"]["configs"]["path"] == str(source)
    assert set(held["versions"]) == {"pairwise_rm", "pyarrow", "python"}


def test_the_same_input_gives_the_same_bytes(source: Path, output: Path) -> None:
    convert(config(source), output)
    before = contents(output)
    assert not convert(config(source), output, overwrite=True).skipped
    assert contents(output) == before


def test_an_output_that_is_there_already_is_not_made_again(source: Path, output: Path) -> None:
    first = convert(config(source), output)
    stamps = {path: path.stat().st_mtime_ns for path in output.iterdir()}
    second = convert(config(source), output)
    assert second.skipped
    assert second.counts == first.counts
    assert "already there" in describe(second)
    assert {path: path.stat().st_mtime_ns for path in output.iterdir()} == stamps


def test_an_output_that_was_damaged_is_made_again(source: Path, output: Path) -> None:
    convert(config(source), output)
    before = contents(output)
    (output / TEST_FILE).write_bytes(b"cut short")
    assert not convert(config(source), output).skipped
    assert contents(output) == before


def test_other_files_in_the_output_folder_are_left_alone(source: Path, output: Path) -> None:
    output.mkdir()
    (output / "notes.txt").write_text("mine")
    convert(config(source), output)
    assert {path.name for path in output.iterdir()} == {*OUTPUTS, "notes.txt"}
    assert (output / "notes.txt").read_text() == "mine"


def test_batches_change_nothing_but_the_row_groups(
    source: Path, output: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    convert(config(source), output)
    monkeypatch.setattr(row_writer, "BATCH_PAIRS", 2)
    seen: list[tuple[int, int]] = []
    convert(config(source), tmp_path / "small", progress=lambda done, total: seen.append((done, total)))
    assert pq.ParquetFile(tmp_path / "small" / TRAIN_FILE).num_row_groups == 3
    assert all_rows(tmp_path / "small") == all_rows(output)
    assert seen[-1] == (source.stat().st_size, source.stat().st_size)


def test_a_text_that_comes_back_is_stored_once(tmp_path: Path, output: Path) -> None:
    refusal = "I cannot help with that. " * 4000
    lines = [row(number, response_1=refusal) for number in range(8)]
    convert(config(write_lines(tmp_path / "pairs.jsonl", lines)), output)
    column = pq.ParquetFile(output / TRAIN_FILE).metadata.row_group(0).column(4)
    assert column.total_uncompressed_size < 2 * len(refusal)
    assert [refusal in line["responses"] for line in all_rows(output)] == [True] * 16


def test_pair_ids_are_those_of_the_row_contract(source: Path, output: Path) -> None:
    convert(config(source), output)
    assert all(line["pair_id"] == pair_id(line["messages"], line["responses"]) for line in all_rows(output))


def test_the_summary_tells_what_was_left_out(tmp_path: Path, output: Path) -> None:
    source = write_lines(tmp_path / "pairs.jsonl", [*rows(), row(), "{"])
    told = describe(convert(config(source, max_rejected=1), output))
    for part in ("read      10 rows", "kept      8 pairs", "dropped   1 (duplicate 1)", "rejected  1 (not_json 1)"):
        assert part in told


@pytest.mark.parametrize("export", [{"split": "official"}, {"split_ratio": {"train": 0.8, "test": 0.2}}])
def test_real_pairs_convert(output: Path, export: dict[str, Any]) -> None:
    counts = convert(config(shared("data/llmbar.jsonl"), export=export), output).counts
    assert (counts.kept, counts.read) == (419, 419)
    assert len({line["subset"] for line in all_rows(output)}) == 5


def test_converting_pulls_no_heavy_package(source: Path, output: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from pairwise_rm.convert.run import convert\n"
        "assert 'pyarrow' not in sys.modules\n"
        "from pairwise_rm.recipe.model import DatasetConfig\n"
        f"convert(DatasetConfig.model_validate({{'configs': {{'path': {str(source)!r}}}}}), Path({str(output)!r}))\n"
        "print(sorted({'pandas', 'torch', 'huggingface_hub', 'datasets'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_config_of_the_rm_gallery_tutorial_is_the_one_that_ships() -> None:
    import yaml

    from pairwise_rm.recipe.model import DataConfigFile

    shipped = Path(row_writer.__file__).with_name("data_config.yaml")
    held = DataConfigFile.model_validate(yaml.safe_load(shipped.read_text())).dataset
    assert (held.configs.source, held.export.split_ratio.train) == ("helpsteer2_pairwise", 0.8)  # type: ignore[union-attr]


def test_a_folder_in_the_place_of_the_output_of_another_tool_is_refused(source: Path, output: Path) -> None:
    output.mkdir()
    (output / TRAIN_FILE).write_bytes(b"somebody's")
    with pytest.raises(InputError, match=r"no manifest\.json beside it"):
        convert(config(source), output)
    assert contents(output) == {TRAIN_FILE: b"somebody's"}
    assert convert(config(source), output, overwrite=True).counts.kept == 8
