"""Reading rows back, from our layout and from the seven columns that RM-Gallery writes with pandas."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

pd = pytest.importorskip("pandas")
pytest.importorskip("pyarrow")

from pairwise_rm.contract.rows import (  # noqa: E402
    UnreadableRow,
    normalize_row,
    read_rows,
)
from pairwise_rm.errors import InputError  # noqa: E402
from tests.unit.conftest import MakeRows, WriteRows  # noqa: E402


def upstream(**changed: Any) -> dict[str, Any]:
    """One row as RM-Gallery writes it: JSON strings in `input`, `output` and `metadata`."""
    metadata = {"preferred": "A", "sample_type": "original_order", "preference_strength": -2}
    row = {
        "unique_id": "u1",
        "input": [{"role": "user", "content": "Why?"}],
        "output": [{"answer": {"role": "assistant", "content": text}} for text in ("Because.", "No.")],
        "metadata": {**metadata, **changed.pop("metadata", {})},
        "task_category": "chat_pairwise",
        "source": "helpsteer2_pairwise",
        "created_at": "2025-01-01",
        **changed,
    }
    return {key: json.dumps(row[key]) if key in ("input", "output", "metadata") else row[key] for key in row}


def write_upstream(path: Path, rows: list[dict[str, Any]]) -> Path:
    pd.DataFrame(rows).to_parquet(path)
    return path


def test_our_rows_come_back_as_they_were_written(tmp_path: Path, make_rows: MakeRows, write_rows: WriteRows) -> None:
    rows = make_rows(3)
    found = read_rows([write_rows(tmp_path / "p.parquet", rows)])
    assert found.rows == rows
    assert not found.unreadable


def test_several_files_are_read_in_their_order(tmp_path: Path, make_rows: MakeRows, write_rows: WriteRows) -> None:
    rows = make_rows(2)
    files = [write_rows(tmp_path / "b.parquet", rows[2:]), write_rows(tmp_path / "a.parquet", rows[:2])]
    assert read_rows(files).rows == rows[2:] + rows[:2]


def test_the_seven_columns_of_rm_gallery_are_read(tmp_path: Path) -> None:
    swapped = upstream(
        output=[{"answer": {"role": "assistant", "content": text}} for text in ("No.", "Because.")],
        metadata={"preferred": "B", "sample_type": "swapped_order"},
    )
    found = read_rows([write_upstream(tmp_path / "u.parquet", [upstream(), swapped])]).rows
    assert [row["responses"] for row in found] == [["Because.", "No."], ["No.", "Because."]]
    assert [row["preferred"] for row in found] == ["A", "B"]
    assert [row["order"] for row in found] == ["original", "swapped"]
    assert [row["strength"] for row in found] == [2, 2]
    assert found[0]["messages"] == [{"role": "user", "content": "Why?"}]
    assert found[0]["source"] == "helpsteer2_pairwise"
    assert found[0]["pair_id"] == found[1]["pair_id"]


def test_a_tie_is_read_only_where_it_is_written(tmp_path: Path) -> None:
    path = write_upstream(tmp_path / "u.parquet", [upstream(metadata={"preferred": "tie", "preference_strength": 0})])
    assert read_rows([path]).rows[0]["preferred"] == "tie"


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (upstream(metadata={"preferred": None}), "preferred is not A, B or tie"),
        (upstream(metadata={"preferred": "response_1"}), "preferred is not A, B or tie"),
        (upstream(metadata={"sample_type": "mirrored"}), "unknown order"),
        (upstream(metadata={"preference_strength": -100}), "strength is not 0 to 3"),
        (upstream(metadata={"preference_strength": 1.5}), "strength is not 0 to 3"),
        (upstream(metadata={"preference_strength": float("nan")}), "strength is not 0 to 3"),
        (upstream(metadata={"preference_strength": "2"}), "strength is not 0 to 3"),
        ({**upstream(), "metadata": None}, "metadata is not a mapping"),
        ({**upstream(), "metadata": "{not json"}, "metadata is not JSON"),
        ({**upstream(), "metadata": "[]"}, "metadata is not a mapping"),
        ({**upstream(), "input": "[]"}, "no prompt"),
        ({**upstream(), "input": "7"}, "no prompt"),
        ({**upstream(), "input": '"Why?"'}, "no prompt"),
        ({**upstream(), "input": '[{"role": "user", "content": null}]'}, "no prompt"),
        ({**upstream(), "input": '[{"role": "user", "content": "\\ud800"}]'}, "no prompt"),
        ({**upstream(), "output": "[]"}, "not two responses"),
        ({**upstream(), "output": '"text"'}, "not two responses"),
        ({**upstream(), "output": '[{"answer": null}, {}]'}, "not two responses"),
        (upstream(output=[{"answer": {"content": text}} for text in "abc"]), "not two responses"),
        (upstream(output=[{"answer": {"content": text}} for text in ("a", None)]), "not two responses"),
    ],
)
def test_a_row_that_cannot_be_read_is_counted_by_reason_and_never_becomes_a_tie(
    tmp_path: Path, row: dict[str, Any], reason: str
) -> None:
    found = read_rows([write_upstream(tmp_path / "u.parquet", [row, upstream()])])
    assert found.unreadable == {reason: 1}
    assert [kept["preferred"] for kept in found.rows] == ["A"]


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"messages": None}, "no prompt"),
        ({"messages": 7}, "no prompt"),
        ({"messages": ["Why?"]}, "no prompt"),
        ({"responses": None}, "not two responses"),
        ({"responses": ["one"]}, "not two responses"),
        ({"responses": "ab"}, "not two responses"),
        ({"responses": ["one", None]}, "not two responses"),
        ({"preferred": None}, "preferred is not A, B or tie"),
        ({"preferred": ["A"]}, "preferred is not A, B or tie"),
        ({"order": "mirrored"}, "unknown order"),
        ({"strength": 4}, "strength is not 0 to 3"),
        ({"strength": True}, "strength is not 0 to 3"),
    ],
)
def test_one_bad_field_of_our_layout_is_named(make_rows: MakeRows, changed: dict[str, Any], reason: str) -> None:
    with pytest.raises(UnreadableRow, match=f"^{reason}$"):
        normalize_row({**make_rows(1)[0], **changed})


def test_a_file_with_no_usable_row_says_how_many_were_unreadable_and_why(tmp_path: Path) -> None:
    path = write_upstream(tmp_path / "u.parquet", [upstream(metadata={"preferred": None})] * 3)
    with pytest.raises(InputError, match=r"u\.parquet: no usable row \(3 x preferred is not A, B or tie\)"):
        read_rows([path])


def test_a_parquet_without_rows_is_an_error(tmp_path: Path, write_rows: WriteRows) -> None:
    with pytest.raises(InputError, match=r"holds no rows \(`split: test` and `split_ratio"):
        read_rows([write_rows(tmp_path / "p.parquet", [])])


def test_other_columns_are_named_beside_the_wanted_ones(tmp_path: Path) -> None:
    path = tmp_path / "p.parquet"
    pd.DataFrame([{"prompt": "x", "chosen": "y"}]).to_parquet(path)
    with pytest.raises(InputError, match="expected the columns messages, preferred, responses; found chosen, prompt"):
        read_rows([path])


def test_a_missing_file_is_named_with_the_command_that_writes_it(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere\.parquet: no such file; `pairwise-rm convert` writes it"):
        read_rows([tmp_path / "nowhere.parquet"])


@pytest.mark.parametrize("content", [b"", b"{}\n", b"PAR1 and then nothing"])
def test_a_file_that_is_no_parquet_is_refused_in_one_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "p.parquet"
    path.write_bytes(content)
    with pytest.raises(InputError, match="not a readable parquet file") as caught:
        read_rows([path])
    assert "\n" not in str(caught.value)


def test_a_parquet_that_was_cut_short_is_refused(tmp_path: Path, make_rows: MakeRows, write_rows: WriteRows) -> None:
    path = write_rows(tmp_path / "p.parquet", make_rows(3))
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(InputError, match="not a readable parquet file"):
        read_rows([path])


def test_an_empty_response_is_a_response_as_it_is_for_convert() -> None:
    row = {"messages": [{"role": "user", "content": "q"}], "responses": ["", "answer"], "preferred": "B"}
    assert normalize_row(row)["responses"] == ["", "answer"]
