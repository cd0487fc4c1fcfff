"""What becomes of rows that are no pair of their own: repeats, conflicts, filters, limits, and empty sides."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest

from pairwise_rm.contract.rows import TEST_FILE, TRAIN_FILE, Message, Pair, arrow_schema, pair_id
from pairwise_rm.convert.converters import CONVERTERS, Converted, GenericPairwiseConverter, SeveralPairs
from pairwise_rm.convert.run import ConvertResult, convert
from pairwise_rm.convert.summary import describe
from pairwise_rm.errors import InputError
from tests.unit.convert.samples import all_rows, config, manifest, read, row, rows, write_lines

ALL = {"split": "test"}
A, B, TIE = -2, 2, 0


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "out"


def labelled(*strengths: int, **changed: Any) -> list[dict[str, Any]]:
    """One pair, once for each label."""
    return [row(preference_strength=strength, **changed) for strength in strengths]


def converted(tmp_path: Path, raws: list[Any], output: Path, **configs: Any) -> ConvertResult:
    source = write_lines(tmp_path / "pairs.jsonl", [*raws, row(99)])
    return convert(config(source, export=ALL, **configs), output, overwrite=True)


def kept(output: Path) -> list[tuple[str, int]]:
    """Label and strength of each pair but the last, which is there so that there is one."""
    return [(held["preferred"], held["strength"]) for held in all_rows(output)[:-2:2]]


def dropped(result: ConvertResult) -> list[dict[str, Any]]:
    return [json.loads(line) for line in result.dropped_file.read_text().splitlines()]


@pytest.mark.parametrize(
    ("conflicts", "labels", "expected"),
    [
        ("drop", (A, B), []),
        ("drop", (A, A, B), []),
        ("drop", (A, TIE), []),
        ("majority", (A, A, B), [("A", 2)]),
        ("majority", (A, B), []),
        ("majority", (A, B, TIE, TIE), [("tie", 0)]),
        ("majority", (A, A, B, B, TIE), []),
        ("drop", (-1, -3, -2), [("A", 3)]),
        ("majority", (-1, -3, 2), [("A", 3)]),
    ],
)
def test_the_label_of_a_pair_does_not_depend_on_the_order_of_the_rows(
    tmp_path: Path, output: Path, conflicts: str, labels: tuple[int, ...], expected: list[tuple[str, int]]
) -> None:
    for order in itertools.permutations(labels):
        result = converted(tmp_path, labelled(*order), output, conflicts=conflicts)
        assert kept(output) == expected
        assert result.counts.dropped_total == len(labels) - len(expected)
        assert result.counts.read == result.counts.kept + result.counts.dropped_total


def test_the_first_label_stays_where_that_is_asked_for(tmp_path: Path, output: Path) -> None:
    counts = converted(tmp_path, labelled(-1, B, B, -3), output, conflicts="first").counts
    assert kept(output) == [("A", 1)]
    assert (counts.dropped["contradictory"], counts.dropped["duplicate"]) == (2, 1)


def test_a_pair_in_the_other_order_is_the_same_pair(tmp_path: Path, output: Path) -> None:
    turned = row(response_1=row()["response_2"], response_2=row()["response_1"], preference_strength=B)
    assert converted(tmp_path, [row(), turned], output).counts.dropped["duplicate"] == 1
    contradiction = {**turned, "preference_strength": A}
    assert converted(tmp_path, [row(), contradiction], output).counts.dropped["contradictory"] == 2


def test_duplicates_can_be_kept_and_their_labels_must_still_agree(tmp_path: Path, output: Path) -> None:
    converted(tmp_path, labelled(-1, -3, -1), output, duplicates="keep")
    assert kept(output) == [("A", 1), ("A", 3), ("A", 1)]
    assert len({held["pair_id"] for held in all_rows(output)}) == 2
    counts = converted(tmp_path, labelled(A, A, B), output, duplicates="keep", conflicts="majority").counts
    assert kept(output) == [("A", 2), ("A", 2)]
    assert counts.dropped["contradictory"] == 1
    converted(tmp_path, labelled(A, A, B), output, duplicates="keep", conflicts="first")
    assert kept(output) == [("A", 2), ("A", 2)]
    converted(tmp_path, labelled(A, B), output, duplicates="keep")
    assert kept(output) == []


def test_a_weak_row_does_not_hide_a_stronger_one_of_the_same_pair(tmp_path: Path, output: Path) -> None:
    for order in ((-1, -3), (-3, -1)):
        converted(tmp_path, labelled(*order), output, min_strength=2)
        assert kept(output) == [("A", 3)]


def test_two_responses_of_the_same_text_are_dropped_or_kept(tmp_path: Path, output: Path) -> None:
    same = row(response_1="same", response_2="same", preference_strength=0)
    result = converted(tmp_path, [same, same], output)
    assert (result.counts.dropped["identical"], kept(output)) == (2, [])
    result = converted(tmp_path, [same, same], output, identical="keep")
    assert (result.counts.dropped["duplicate"], kept(output)) == (1, [("tie", 0)])


def test_every_row_that_is_left_out_is_listed_with_its_file_line_and_reason(tmp_path: Path, output: Path) -> None:
    same = row(2, response_1="same", response_2="same")
    weak = row(3, preference_strength=1)
    raws = [
        row(0, id="q0"),
        "",
        row(0, id="q1"),
        same,
        *labelled(A, B, prompt="Which?"),
        row(4, preference_strength=0),
        weak,
    ]
    result = converted(tmp_path, raws, output, ties="drop", min_strength=2)
    listed = dropped(result)
    assert [(entry["file"], entry["line"], entry["reason"]) for entry in listed] == [
        ("pairs.jsonl", 3, "duplicate"),
        ("pairs.jsonl", 4, "identical"),
        ("pairs.jsonl", 5, "contradictory"),
        ("pairs.jsonl", 6, "contradictory"),
        ("pairs.jsonl", 7, "tie"),
        ("pairs.jsonl", 8, "weak"),
    ]
    assert [entry.get("source_id") for entry in listed] == ["q1", None, None, None, None, None]
    first = all_rows(output)[0]
    assert (first["source_id"], first["pair_id"]) == ("q0", listed[0]["pair_id"])
    assert manifest(output)["counts"]["dropped"] == {
        "total": 6, "no_worse_answer": 0, "duplicate": 1, "contradictory": 2, "identical": 1, "tie": 1, "weak": 1,
    }  # fmt: skip
    assert "dropped   6 (duplicate 1, contradictory 2, identical 1, tie 1, weak 1), listed in " in describe(result)


def test_what_the_limit_leaves_out_is_one_entry_for_each_file(tmp_path: Path, output: Path) -> None:
    write_lines(tmp_path / "a.jsonl", [row(0), "", row(1), row(2)])
    write_lines(tmp_path / "b.jsonl", [row(3), row(4)])
    files: Any = [str(tmp_path / "a.jsonl"), str(tmp_path / "b.jsonl")]
    result = convert(config(path=files, limit=1, export=ALL), output)
    assert dropped(result) == [
        {"file": "a.jsonl", "line": 3, "last_line": 4, "reason": "limit", "rows": 2},
        {"file": "b.jsonl", "line": 1, "last_line": 2, "reason": "limit", "rows": 2},
    ]
    assert (result.counts.read, result.counts.left_out) == (1, {"limit": 4, "pairs_per_prompt": 0})
    assert manifest(output)["counts"]["left_out"]["limit"] == 4
    assert "left out  4 (limit 4)" in describe(result)
    assert convert(config(path=files, limit=1, export=ALL), output).counts == result.counts


class Ranked(GenericPairwiseConverter):
    """Rows with a list of answers, best first."""

    def convert(self, row: Any) -> Any:
        best, *others = row["answers"]
        prompt: list[Message] = [{"role": "user", "content": row["prompt"]}]
        pairs = [Converted(Pair(prompt, (best, other), "A", None, "ranked"), None) for other in others[:2]]
        return SeveralPairs(pairs, max(0, len(others) - 2))


def test_a_row_may_hold_several_pairs_and_those_beyond_its_limit_are_told(
    tmp_path: Path, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(CONVERTERS, "ranked", Ranked())
    raws = [{"prompt": "One?", "answers": ["a", "b", "c", "d", "e"]}, {"prompt": "Two?", "answers": ["a", "b"]},
            {"prompt": "None?", "answers": ["a"]}]  # fmt: skip
    source = write_lines(tmp_path / "pairs.jsonl", raws)
    result = convert(config(source, source="ranked", export=ALL), output)
    counts = result.counts
    assert [held["responses"] for held in read(output, TEST_FILE)[::2]] == [["a", "b"], ["a", "c"], ["a", "b"]]
    assert (counts.read, counts.further_pairs, counts.kept, counts.rejected) == (3, 1, 3, {})
    assert manifest(output)["counts"]["dropped"]["no_worse_answer"] == 1
    assert counts.read + counts.further_pairs == counts.kept + counts.dropped_total + counts.rejected_total
    assert dropped(result) == [
        {"file": "pairs.jsonl", "line": 1, "reason": "pairs_per_prompt", "pairs": 2},
        {"file": "pairs.jsonl", "line": 3, "reason": "no_worse_answer"},
    ]
    assert counts.left_out["pairs_per_prompt"] == 2


@pytest.mark.parametrize(
    ("export", "full", "empty"),
    [({"split": "test"}, TEST_FILE, TRAIN_FILE), ({"split_ratio": {"train": 1.0}}, TRAIN_FILE, TEST_FILE)],
)
def test_a_side_that_is_not_wanted_is_a_file_with_columns_and_no_rows(
    tmp_path: Path, output: Path, export: dict[str, Any], full: str, empty: str
) -> None:
    import pyarrow.parquet as pq

    counts = convert(config(write_lines(tmp_path / "pairs.jsonl", rows()), export=export), output).counts
    assert counts.kept == 8
    assert (len(read(output, full)), len(read(output, empty))) == (16, 0)
    assert pq.read_schema(output / empty).equals(arrow_schema())


def test_a_ratio_that_does_not_add_up_is_refused() -> None:
    with pytest.raises(ValueError, match=r"train \+ test must be 1, got 0\.8 \+ 0\.0"):
        config("x.jsonl", export={"split_ratio": {"train": 0.8}})


def test_a_kept_pair_has_the_id_of_its_source_in_both_orders(tmp_path: Path, output: Path) -> None:
    converted(tmp_path, [row(0, question_id=17)], output)
    first = all_rows(output)[:2]
    assert [held["source_id"] for held in first] == ["17", "17"]
    assert first[0]["pair_id"] == pair_id(first[0]["messages"], first[0]["responses"])


def test_no_pair_left_counts_what_was_dropped(tmp_path: Path, output: Path) -> None:
    source = write_lines(tmp_path / "pairs.jsonl", labelled(A, B))
    with pytest.raises(InputError, match=r"no pair is left of 2 rows \(contradictory 2\)"):
        convert(config(source, export=ALL), output)
