"""Which files a source may be: their kinds, their encodings, and several of them."""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from pairwise_rm.contract.rows import TEST_FILE, TRAIN_FILE
from pairwise_rm.convert import json_rows
from pairwise_rm.convert.run import convert
from pairwise_rm.convert.source_rows import open_rows
from pairwise_rm.errors import InputError
from tests.unit.convert.samples import RATIO, all_rows, config, manifest, read, row, rows, write_lines


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "out"


def zstd(content: bytes) -> bytes:
    compressed = pa.BufferOutputStream()
    with pa.CompressedOutputStream(compressed, "zstd") as stream:
        stream.write(content)
    return bytes(compressed.getvalue())


def lines(raws: list[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(raw) + "\n" for raw in raws).encode()


def table(raws: list[dict[str, Any]], delimiter: str = ",") -> bytes:
    import io

    text = io.StringIO()
    writer = csv.DictWriter(text, list(raws[0]), delimiter=delimiter)
    writer.writeheader()
    writer.writerows(raws)
    return text.getvalue().encode()


KINDS: dict[str, Callable[[list[dict[str, Any]]], bytes]] = {
    "lines.jsonl": lines,
    "marked.jsonl": lambda raws: b"\xef\xbb\xbf" + lines(raws),
    "lines.jsonl.zst": lambda raws: zstd(lines(raws)),
    "lines.json": lines,
    "array.json": lambda raws: json.dumps(raws).encode(),
    "indented.json": lambda raws: json.dumps(raws, indent=2).encode(),
    "marked.json": lambda raws: b"\xef\xbb\xbf" + json.dumps(raws, indent=2).encode(),
    "array.json.gz": lambda raws: gzip.compress(json.dumps(raws).encode()),
    "array.json.zst": lambda raws: zstd(json.dumps(raws).encode()),
    "objects.json": lambda raws: "\n".join(json.dumps(raw, indent=4) for raw in raws).encode(),
    "objects.jsonl": lambda raws: "\n".join(json.dumps(raw, indent=4) for raw in raws).encode(),
    "indented.jsonl": lambda raws: json.dumps(raws, indent=2).encode(),
    "joined.json": lambda raws: "".join(json.dumps(raw) for raw in raws).encode(),
    "table.csv": table,
    "marked.csv": lambda raws: b"\xef\xbb\xbf" + table(raws),
    "table.tsv": lambda raws: table(raws, "\t"),
    "table.csv.gz": lambda raws: gzip.compress(table(raws)),
}
TEXTS = {"prompt": 'A "quoted",\nprompt in\ttwo lines', "response_1": "42", "response_2": "Grüße"}


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_of_file_gives_the_same_pairs(
    tmp_path: Path, output: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(json_rows, "_CHUNK", 50)  # a row spans several
    raws = [*rows(), row(8, **TEXTS)]
    convert(config(write_lines(tmp_path / "plain.jsonl", raws)), tmp_path / "plain")
    source = tmp_path / name
    source.write_bytes(KINDS[name](raws))
    convert(config(source), output)
    assert all_rows(output) == all_rows(tmp_path / "plain")


@pytest.mark.parametrize(
    ("name", "content", "numbers"),
    [
        ("pairs.json", "[\n1,\n\n2]\n", [2, 4]),
        ("pairs.json", '{"a":\n1}\n\n{"a": 2}\n', [1, 4]),
        ("pairs.csv", 'prompt\n"two\nlines"\n\nx\n', [2, 5]),
        ("pairs.jsonl", "1\n\n2\n", [1, 3]),
    ],
)
def test_a_row_is_numbered_by_the_line_on_which_it_begins(
    tmp_path: Path, name: str, content: str, numbers: list[int]
) -> None:
    (tmp_path / name).write_text(content)
    assert [number for number, _ in open_rows(tmp_path / name)] == numbers


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("pairs.json", b'[{"a": 1},\n{"a": 2}', ":2: the array is cut short, expected its ]"),
        ("pairs.json", b'[{"a": 1},\n{"a": 2', ":2: not JSON: "),
        ("pairs.json", b'[{"a": 1}] more', ":1: text after the end of the array"),
        ("pairs.json", b'[{"a": caf\xe9}]', "not UTF-8 (invalid continuation byte)"),
        ("pairs.json", b"[" * 100_000, ":1: nested too deeply"),
        ("pairs.json", b'[{"a": ' + b"1" * 5000 + b"}]", ":1: not JSON: Exceeds the limit"),
        ("pairs.csv", b"prompt\ncaf\xe9\n", "not UTF-8 (invalid continuation byte)"),
        ("pairs.csv", b'prompt\n"never closed', ":2: not CSV: unexpected end of data"),
        ("pairs.csv", b"prompt,prompt\n", ":1: the header names 'prompt' twice"),
        ("pairs.csv", b"prompt;chosen;rejected\nq;a;b\n", ":1: the columns are separated by ';', expected a comma"),
        ("pairs.csv", b"prompt,response_1\n", "holds no rows"),
        ("pairs.csv", b"prompt,response_1\nx\n", ":2: the row has 1 cells, expected 2 as the header"),
        ("pairs.jsonl.zst", b"no zstd", "not a sound zstd file"),
        ("pairs.jsonl.zst", zstd(b"x" * 100)[:-8], "not a sound zstd file: Truncated"),
        ("pairs.jsonl", '{"a": 1}'.encode("utf-16"), "text in UTF-16, expected UTF-8; `iconv"),
        ("pairs.json", '[{"a": 1}]'.encode("utf-16-le"), "text in UTF-16, expected UTF-8; `iconv"),
        ("pairs.csv", "prompt".encode("utf-16-be"), "text in UTF-16, expected UTF-8; `iconv"),
        (
            "pairs.json",
            '[{"a": 1}]'.encode("utf-32-le"),
            "text in UTF-32, expected UTF-8; `iconv -f UTF-32LE -t UTF-8`",
        ),
        ("pairs.csv", "prompt".encode("utf-32-be"), "text in UTF-32, expected UTF-8; `iconv -f UTF-32BE -t UTF-8`"),
        ("pairs.jsonl", '{"a": 1}'.encode("utf-32"), "text in UTF-32, expected UTF-8; `iconv -f UTF-32 -t UTF-8`"),
        (
            "pairs.jsonl",
            b"\0\0\xfe\xff" + "{}".encode("utf-32-be"),
            "text in UTF-32, expected UTF-8; `iconv -f UTF-32 -t",
        ),
        ("pairs.jsonl", '{"a": 1}'.encode("utf-16-le"), "`iconv -f UTF-16LE -t UTF-8` converts it"),
        ("pairs.jsonl", '{"a": 1}'.encode("utf-16"), "`iconv -f UTF-16 -t UTF-8` converts it"),
    ],
)
def test_what_is_wrong_with_a_file_is_one_line(
    tmp_path: Path, output: Path, name: str, content: bytes, message: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError) as caught:
        convert(config(tmp_path / name), output)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_number_in_a_csv_file_is_its_digits_and_an_empty_cell_is_null(tmp_path: Path, output: Path) -> None:
    raws = [row(1, preference_strength="much"), row(2, preference_strength=""), row(3, prompt=""), *rows()]
    source = tmp_path / "pairs.csv"
    source.write_bytes(table([{**raw, "subset": ""} for raw in raws]))
    result = convert(config(source, max_rejected=3), output)
    told = [json.loads(line)["message"] for line in result.rejected_file.read_text().splitlines()]
    assert told == [
        "preference_strength: 'much', expected an integer from -3 to 3",
        "preference_strength: null, expected an integer from -3 to 3",
        "prompt: null, expected text",
    ]
    assert {held["subset"] for held in all_rows(output)} == {None}


def test_of_a_parquet_file_only_the_columns_that_are_read_are_opened(tmp_path: Path, output: Path) -> None:
    # Python has no date so far out: read, the column would end the conversion.
    far = pa.array([2**30] * 8, pa.int32()).cast(pa.date32())
    pairs = pa.Table.from_pylist(rows())
    pq.write_table(pairs.append_column("created", far), tmp_path / "pairs.parquet")
    assert convert(config(tmp_path / "pairs.parquet"), output).counts.kept == 8
    pq.write_table(pairs.append_column("id", far), tmp_path / "read.parquet")
    with pytest.raises(InputError, match=r"read\.parquet: after row 0: a value out of range: days=1073741824"):
        convert(config(tmp_path / "read.parquet"), tmp_path / "other")
    pq.write_table(pa.table({"text": ["x"]}), tmp_path / "none.parquet")
    with pytest.raises(InputError, match="has none of the columns that are needed, found text"):
        convert(config(tmp_path / "none.parquet"), tmp_path / "other")


def test_what_is_in_a_field_that_nobody_reads_rejects_no_row(tmp_path: Path, output: Path) -> None:
    held = [row(0, score=float("nan")), row(1, note="half \ud83d"), row(2, turns=[{"role": 7}]), *rows()[3:]]
    assert convert(config(write_lines(tmp_path / "pairs.jsonl", held)), output).counts.kept == 8
    unsplit = write_lines(tmp_path / "unsplit.jsonl", [row(number, split="dev") for number in range(8)])
    assert convert(config(unsplit, export=RATIO), tmp_path / "ratio").counts.kept == 8
    assert convert(config(unsplit, export={"split": "test"}), tmp_path / "test").counts.kept == 8


# ---- several files ---------------------------------------------------------------------------------


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    """Two train files, a test file and a file of another kind in a folder; `b` comes first in time."""
    folder = tmp_path / "shards"
    folder.mkdir()
    write_lines(folder / "train-b.jsonl", [row(2), row(3)])
    write_lines(folder / "train-a.jsonl", [row(0), row(1)])
    write_lines(folder / "test.jsonl", [row(4)])
    return folder


def prompts(output: Path, name: str = TRAIN_FILE) -> list[int]:
    return [int(held["messages"][0]["content"].split()[2]) for held in read(output, name)[::2]]


def given(*paths: Path) -> Any:
    return [str(path) for path in paths]


@pytest.mark.parametrize("form", ["pattern", "list", "folder", "both"])
def test_a_pattern_a_list_and_a_folder_are_read_in_the_order_of_names(shards: Path, output: Path, form: str) -> None:
    if form == "folder":
        (shards / "test.jsonl").unlink()
    path: Any = {
        "pattern": str(shards / "train-*.jsonl"),
        "list": given(shards / "train-b.jsonl", shards / "train-a.jsonl"),
        "folder": str(shards),
        "both": given(shards / "train-?.jsonl", shards / "train-a.jsonl"),
    }[form]
    convert(config(path=path, export={"split_ratio": {"train": 1.0}}), output)
    assert prompts(output) == [0, 1, 2, 3]
    files = manifest(output)["input"]["files"]
    assert [(file["name"], file["side"], len(file["sha256"])) for file in files] == [
        ("train-a.jsonl", None, 64), ("train-b.jsonl", None, 64),
    ]  # fmt: skip


def test_the_held_out_rows_may_be_files_of_their_own(shards: Path, output: Path) -> None:
    configs: Any = {"path": str(shards / "train-*"), "test_path": str(shards / "test.jsonl")}
    convert(config(**configs), output)
    # Row 3 says that it is a validation row, but the files decide.
    assert (prompts(output), prompts(output, TEST_FILE)) == ([0, 1, 2, 3], [4])
    held = [{"context": [{"role": "user", "content": f"Q{n}"}], "response1": "a", "response2": "b",
             "overall_preference": 1} for n in range(3)]  # fmt: skip
    write_lines(shards / "train-a.jsonl", held[:2])
    write_lines(shards / "test.jsonl", held[2:])
    configs = {"path": str(shards / "train-a.jsonl"), "test_path": str(shards / "test.jsonl")}
    counts = convert(config(source="helpsteer3_preference", **configs), output.with_name("three")).counts
    assert (counts.train.pairs, counts.test.pairs) == (2, 1)
    with pytest.raises(ValidationError, match=r"configs\.test_path: only `split: official` reads it"):
        config(export=RATIO, **configs)


def test_a_limit_holds_for_the_files_of_each_side(shards: Path, output: Path) -> None:
    write_lines(shards / "test.jsonl", [row(4), row(5), row(6), row(7)])
    counts = convert(config(str(shards / "train-*"), test_path=str(shards / "test.jsonl"), limit=3), output).counts
    assert (counts.train.pairs, counts.test.pairs, counts.left_out["limit"]) == (3, 3, 2)


def test_the_same_files_elsewhere_are_the_same_input_and_other_sides_are_not(shards: Path, output: Path) -> None:
    configs: Any = {"path": str(shards / "train-*"), "test_path": str(shards / "test.jsonl")}
    convert(config(**configs), output)
    moved = shards.rename(shards.with_name("moved"))
    configs = {"path": str(moved / "train-*"), "test_path": str(moved / "test.jsonl")}
    assert convert(config(**configs), output).skipped
    configs = {"path": str(moved / "train-a*"), "test_path": given(moved / "test.jsonl", moved / "train-b.jsonl")}
    with pytest.raises(InputError, match=r"another config: data\.configs\.path: "):
        convert(config(**configs), output)


def test_a_bad_row_of_several_files_is_told_with_its_file(shards: Path, output: Path) -> None:
    write_lines(shards / "train-b.jsonl", [row(2), "{"])
    with pytest.raises(InputError, match=rf"{shards}/train-b\.jsonl:2: not JSON.*not_json 1 \(train-b\.jsonl:2\)"):
        convert(config(path=str(shards / "train-*"), export=RATIO), output)


@pytest.mark.parametrize(
    ("configs", "message"),
    [
        ({"path": "none-*"}, "data.configs.path: no file matches"),
        ({"path": "train-*", "test_path": "nowhere.jsonl"}, "data.configs.test_path: "),
        ({"path": "*.jsonl", "test_path": "test.jsonl"}, "test.jsonl is in data.configs.path as well"),
        ({"path": "train-*", "sha256": "0" * 64}, "is that of one file, and the source has 2; leave it out"),
        ({"path": ""}, "is a folder with .csv and .jsonl files; give a pattern, such as *.csv"),
    ],
)
def test_what_is_wrong_with_a_set_of_files_is_said(
    shards: Path, output: Path, configs: dict[str, str], message: str
) -> None:
    (shards / "extra.csv").write_text("a\n")
    named: dict[str, Any] = {key: f"{shards}/{value}" if "path" in key else value for key, value in configs.items()}
    with pytest.raises(InputError) as caught:
        convert(config(**named), output)
    assert message in str(caught.value)


def test_a_file_whose_name_looks_like_a_pattern_is_that_file(tmp_path: Path, output: Path) -> None:
    assert convert(config(write_lines(tmp_path / "pairs[1].jsonl", rows())), output).counts.kept == 8


def test_progress_counts_the_bytes_of_all_files(shards: Path, output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pairwise_rm.convert.row_writer.BATCH_PAIRS", 1)
    pq.write_table(pa.Table.from_pylist(rows()), shards / "train-c.parquet")
    told: list[tuple[int, int]] = []
    path: Any = str(shards / "train-*")
    export = {"split_ratio": {"train": 1.0}}
    convert(config(path=path, export=export), output, progress=lambda *shown: told.append(shown))
    total = sum(file.stat().st_size for file in shards.glob("train-*"))
    assert told[-1] == (total, total)
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert {of for _, of in told} == {total}
