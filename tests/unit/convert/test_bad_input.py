"""Bad input to the convert stage: one clear line, and what was there stays, byte by byte."""

from __future__ import annotations

import gzip
import json
import resource
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pairwise_rm.contract.rows import TEST_FILE
from pairwise_rm.convert import run as convert_run
from pairwise_rm.convert.run import convert
from pairwise_rm.convert.write_pairs import write_pairs
from pairwise_rm.errors import InputError, PairwiseError, StageError
from tests.chaos.stages import CONVERT_STEPS, fault_volume_full_during_convert, small_volumes_can_be_made, steps
from tests.unit.convert.samples import RATIO, config, contents, row, rows, write_lines


@pytest.fixture
def output(tmp_path: Path) -> Path:
    """A folder with a finished output and a file of the user's."""
    folder = tmp_path / "out"
    convert(config(write_lines(tmp_path / "first.jsonl", rows())), folder)
    (folder / "notes.txt").write_text("mine")
    return folder


def refused(
    source: Path | str | None,
    output: Path,
    kind: type[PairwiseError] = InputError,
    overwrite: bool = True,
    **changed: Any,
) -> str:
    """The one line of the error; the output is as it was, and a fresh output folder is not left behind."""
    before = contents(output)
    with pytest.raises(kind) as caught:
        convert(config(source, **changed), output, overwrite=overwrite)
    assert contents(output) == before
    fresh = output.parent / "fresh" / "deep"
    with pytest.raises(kind):
        convert(config(source, **changed), fresh)
    assert not fresh.exists()
    assert {path.name for path in fresh.parent.glob("*")} <= {"deep.rejected.jsonl"}
    assert fresh.parent.exists() == ("deep.rejected.jsonl" in str(caught.value).replace(str(output), str(fresh)))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path, output: Path) -> None:
    message = refused(tmp_path / "none.jsonl", output)
    assert message == f"data.configs.path: {tmp_path / 'none.jsonl'} does not exist"


def test_no_path_a_folder_and_an_unknown_kind_are_refused(tmp_path: Path, output: Path) -> None:
    assert "data.configs.path: missing" in refused(None, output)
    (tmp_path / "folder").mkdir()
    assert "is a folder without a file of a known kind" in refused(tmp_path / "folder", output)
    (tmp_path / "pairs.txt").write_text("a,b\n")
    assert "pairs.txt is of no known kind, expected .jsonl, .json, .csv" in refused(tmp_path / "pairs.txt", output)


def test_an_empty_file_is_refused(tmp_path: Path, output: Path) -> None:
    (tmp_path / "empty.jsonl").touch()
    assert "is empty" in refused(tmp_path / "empty.jsonl", output)
    (tmp_path / "blank.jsonl").write_text("\n\n")
    assert "holds no rows" in refused(tmp_path / "blank.jsonl", output)
    (tmp_path / "empty.jsonl.gz").write_bytes(gzip.compress(b""))
    assert "holds no rows" in refused(tmp_path / "empty.jsonl.gz", output)


def test_a_truncated_gzip_is_refused_and_the_old_output_stays(tmp_path: Path, output: Path) -> None:
    whole = gzip.compress("".join(json.dumps(line) + "\n" for line in rows(200)).encode())
    cut = tmp_path / "cut.jsonl.gz"
    cut.write_bytes(whole[: len(whole) // 2])
    assert refused(cut, output) == f"{cut}: the gzip file is cut short, expected its end marker"
    cut.write_bytes(b"not gzip at all")
    assert "not a sound gzip file" in refused(cut, output)
    cut.write_bytes(whole[:60] + b"\0\0\0\0" + whole[64:])
    assert "gzip" in refused(cut, output)


def test_a_broken_parquet_is_refused(tmp_path: Path, output: Path) -> None:
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 nothing else")
    assert "not a sound parquet file" in refused(tmp_path / "broken.parquet", output)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{not json", "not JSON"),
        ('{"prompt": "cut', "not JSON"),
        ("[1, 2]", "the row is [1, 2], expected an object"),
        (json.dumps(row()).replace("-2", "NaN"), "preference_strength: nan, expected an integer"),
        (json.dumps(row(response_1="half \ud83d")), "surrogate"),
        (json.dumps(row(response_1="x")).replace('"x"', "null"), "response_1: null, expected text"),
        (json.dumps(row(response_1=...)), "response_1: missing"),
        (json.dumps(row(preference_strength=7)), "preference_strength: 7, expected an integer from -3 to 3"),
        (json.dumps(row(split="validation")), "split: 'validation', expected one of train, val"),
    ],
)
def test_a_bad_row_is_a_failure_that_names_its_line(tmp_path: Path, output: Path, line: str, message: str) -> None:
    source = write_lines(tmp_path / "pairs.jsonl", [*rows(), line])
    told = refused(source, output)
    assert told.startswith(f"{source}:9: ")
    assert message in told
    assert "(rejected rows: 1, allowed by data.configs.max_rejected: 0; " in told
    assert f" 1 (pairs.jsonl:9); listed in {output}.rejected.jsonl)" in told
    listed = json.loads(Path(f"{output}.rejected.jsonl").read_text())
    assert (listed["file"], listed["line"]) == ("pairs.jsonl", 9)
    assert message in listed["message"]


def test_a_file_in_latin_1_is_told_how_to_convert_it(tmp_path: Path, output: Path) -> None:
    source = tmp_path / "pairs.jsonl"
    source.write_bytes(json.dumps(row(prompt="caf_")).encode().replace(b"caf_", b"caf\xe9") + b"\n")
    told = refused(source, output)
    assert told.startswith(f"{source}:1: not UTF-8 (byte 0xe9 at column ")
    assert "`iconv -f LATIN1 -t UTF-8` converts it" in told


def test_one_rejected_row_too_many_fails_after_all_were_read_and_tells_the_first_three_of_each_reason(
    tmp_path: Path, output: Path
) -> None:
    bad = row(prompt=3)
    source = write_lines(tmp_path / "pairs.jsonl", ["{", *rows(), "{", bad, "{", "{"])
    told = refused(source, output, max_rejected=4)
    assert told.startswith(f"{source}:1: not JSON")
    reasons = "not_json 4 (pairs.jsonl:1, pairs.jsonl:10, pairs.jsonl:12, ...); wrong_type 1 (pairs.jsonl:11)"
    assert f"(rejected rows: 5, allowed by data.configs.max_rejected: 4; {reasons}; listed in" in told
    listing = Path(f"{output}.rejected.jsonl")
    assert [json.loads(line)["line"] for line in listing.read_text().splitlines()] == [1, 10, 11, 12, 13]
    convert(config(source, max_rejected=5), output, overwrite=True)
    assert not listing.exists()
    assert len((output / "rejected.jsonl").read_text().splitlines()) == 5


def test_rejected_rows_are_told_even_where_they_cannot_be_listed(tmp_path: Path, output: Path) -> None:
    Path(f"{output}.rejected.jsonl").mkdir()
    (Path(f"{output}.rejected.jsonl") / "rejected.jsonl").mkdir()
    told = refused(write_lines(tmp_path / "pairs.jsonl", [*rows(), "{"]), output)
    assert "rejected.jsonl, which would list them, cannot be written: " in told


def test_a_megabyte_response_converts(tmp_path: Path) -> None:
    source = write_lines(tmp_path / "pairs.jsonl", [*rows(), row(response_1="long " * (1 << 18))])
    assert convert(config(source), tmp_path / "out").counts.kept == 9


def test_a_line_without_end_is_no_row(tmp_path: Path, output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pairwise_rm.convert.source_rows.MAX_LINE", 1 << 20)
    source = write_lines(tmp_path / "array.jsonl", ["[" + " " * (1 << 21) + "]"])
    assert "longer than 1 MiB, expected one row a line" in refused(source, output)


def test_an_empty_side_is_an_error_that_says_why(tmp_path: Path, output: Path) -> None:
    source = write_lines(tmp_path / "pairs.jsonl", [row(number, split="train") for number in range(4)])
    assert "official leaves preference_test.parquet empty" in refused(source, output)
    single = write_lines(tmp_path / "single.jsonl", [row()])
    assert "another ratio or another seed" in refused(single, output, export=RATIO)
    held_out = write_lines(tmp_path / "held_out.jsonl", [row(number, split="val") for number in range(4)])
    assert "preference_train.parquet empty" in refused(held_out, output)
    assert "`split: test` holds all rows out" in refused(held_out, output)
    unsplit = write_lines(tmp_path / "unsplit.jsonl", [row(split=...)])
    assert "split: missing, which `split: official` needs" in refused(unsplit, output)


def test_nothing_left_after_the_filters_is_an_error_that_counts(tmp_path: Path, output: Path) -> None:
    source = write_lines(tmp_path / "pairs.jsonl", [row(number, preference_strength=0) for number in range(4)])
    assert "no pair is left of 4 rows (tie 4)" in refused(source, output, ties="drop")


def test_a_wrong_checksum_is_refused(tmp_path: Path, output: Path) -> None:
    source = write_lines(tmp_path / "pairs.jsonl", rows())
    assert "expected 000000" in refused(source, output, sha256="0" * 64)


def test_an_output_of_another_config_is_refused_and_the_key_is_named(tmp_path: Path, output: Path) -> None:
    before = contents(output)
    with pytest.raises(InputError) as caught:
        convert(config(tmp_path / "first.jsonl", limit=4), output)
    assert str(caught.value) == (
        f"{output}: holds an output of another config: data.configs.limit: null -> 4; "
        "choose another output_dir, or pass --overwrite"
    )
    assert contents(output) == before
    assert convert(config(tmp_path / "first.jsonl", limit=4), output, overwrite=True).counts.read == 4


def test_an_output_of_another_input_is_refused(tmp_path: Path, output: Path) -> None:
    write_lines(tmp_path / "first.jsonl", rows(12))
    with pytest.raises(InputError, match="another input: sha256"):
        convert(config(tmp_path / "first.jsonl"), output)
    same = write_lines(tmp_path / "moved.jsonl", rows())
    assert convert(config(same), output).skipped


def test_a_manifest_of_another_tool_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "theirs"
    folder.mkdir()
    for content in ('{"version": 1}', "no json"):
        (folder / "manifest.json").write_text(content)
        with pytest.raises(InputError, match="not a manifest of ours"):
            convert(config(write_lines(tmp_path / "pairs.jsonl", rows())), folder)
        assert contents(folder) == {"manifest.json": content.encode()}


def test_an_output_folder_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(InputError, match="is a file, expected a folder"):
        convert(config(write_lines(tmp_path / "pairs.jsonl", rows())), tmp_path / "file")
    assert (tmp_path / "file").read_text() == "mine"
    with pytest.raises(InputError, match=r"file is a file, expected a folder"):
        convert(config(write_lines(tmp_path / "pairs.jsonl", rows())), tmp_path / "file" / "below")


FULL_DISK = """
import resource, sys
from pathlib import Path
from pairwise_rm.convert.run import convert
from pairwise_rm.errors import StageError
from pairwise_rm.recipe.model import DatasetConfig
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]), int(sys.argv[3])))
try:
    convert(DatasetConfig.model_validate({"configs": {"path": sys.argv[1]}}), Path(sys.argv[2]), overwrite=True)
except StageError as error:
    print(error)
"""


@pytest.mark.parametrize("room", [0, 100, 3000])
def test_a_disk_without_room_is_one_line_and_the_old_output_stays(tmp_path: Path, output: Path, room: int) -> None:
    """A limit on file sizes stands for the full disk: the write itself fails, in whichever file comes first."""
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY
    before = contents(output)
    source = write_lines(tmp_path / "large.jsonl", rows(400))
    command = [sys.executable, "-c", FULL_DISK, str(source), str(output), str(room)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{output}: cannot be written: File too large\n"
    assert contents(output) == before


def test_an_interrupt_leaves_what_was_there(tmp_path: Path, output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C arrives while the second file moves into place: the real signal, at the worst moment."""
    import os

    before = contents(output)
    source = write_lines(tmp_path / "pairs.jsonl", rows(12))
    move = os.replace

    def interrupted(start: Path, end: Path) -> None:
        move(start, end)
        if Path(end) == output / TEST_FILE and Path(start).parent.name != "previous":
            signal.raise_signal(signal.SIGINT)

    # A shell starts what it puts in the background with Ctrl-C ignored.
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with monkeypatch.context() as patched:
            patched.setattr("pairwise_rm.convert.output_folder.os.replace", interrupted)
            with pytest.raises(KeyboardInterrupt):
                convert(config(source), output, overwrite=True)
    finally:
        signal.signal(signal.SIGINT, handler)
    assert contents(output) == before


def test_an_output_is_the_old_one_or_the_new_one_wherever_its_conversion_is_killed() -> None:
    assert len(steps(CONVERT_STEPS, "second")) > 15


def test_a_full_volume_leaves_the_old_output_and_with_room_the_conversion_goes_on() -> None:
    if not small_volumes_can_be_made():
        pytest.skip("needs a file system of its own, as root")
    assert fault_volume_full_during_convert()[:2] == (1, 1)


def test_a_file_that_changes_while_it_is_read_is_not_trusted(
    tmp_path: Path, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write_lines(tmp_path / "pairs.jsonl", rows())
    before = contents(output)
    real = write_pairs

    def and_append(*arguments: Any) -> Any:
        counts = real(*arguments)
        source.write_text(source.read_text() + "\n")
        return counts

    monkeypatch.setattr(convert_run, "write_pairs", and_append)
    with pytest.raises(StageError, match="changed while it was read"):
        convert(config(source), output, overwrite=True)
    assert contents(output) == before
