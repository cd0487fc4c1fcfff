"""Judging pairs without a label: what a file may hold, and how both orders combine."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest

from pairwise_rm.contract.verdict import Verdict, extract_preference_from_response
from pairwise_rm.errors import InputError
from pairwise_rm.evaluate.row_verdicts import RowVerdict
from pairwise_rm.judge.items import Item, decoded, item_of, read_items
from pairwise_rm.judge.run import Judgement, judgement_of
from pairwise_rm.judge.show import as_json_lines, print_judgements
from pairwise_rm.recipe.model import SourceConfig

GOOD = {"prompt": "Why?", "response_a": "Because.", "response_b": "No."}


def write(path: Path, *lines: str) -> Path:
    path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    return path


def test_a_file_of_prompts_and_conversations_is_read_line_by_line(tmp_path: Path) -> None:
    turns = [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Yes?"},
        {"role": "user", "content": "Why?"},
    ]
    chat = {"id": "x", "messages": turns, "response_a": "a", "response_b": "b"}
    items = read_items(write(tmp_path / "i.jsonl", json.dumps(GOOD), "", json.dumps(chat)))
    assert [item.name for item in items] == ["1", "x"]
    assert items[1].messages == turns
    original, swapped = items[0].rows()
    assert (original["responses"], swapped["responses"]) == (["Because.", "No."], ["No.", "Because."])


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "not JSON"),
        ('{"prompt": ' + "9" * 5000 + "}", "not JSON: number is infinity"),
        ("[]", r"the row is \[\], expected an object"),
        (json.dumps({"prompt": "Why?", "response_a": "Because.", "extra": 1}), "response_b: missing"),
        (json.dumps({**GOOD, "response_b": "Because.", "extra": 1}), "identical"),
        (json.dumps({**GOOD, "messages": []}), "either prompt or messages"),
        (json.dumps({**GOOD, "prompt": None}), "prompt: expected a text"),
        (json.dumps({**GOOD, "response_b": " "}), "response_b: expected a text"),
        (json.dumps({**GOOD, "response_b": "Because."}), "identical"),
        (json.dumps({**GOOD, "response_a": "\ud800"}), "response_a: a lone surrogate"),
        ('{"messages": [{"role": "user"}], "response_a": "a", "response_b": "b"}', "messages\\[0\\].content"),
        (
            '{"messages": [{"role": "assistant", "content": "x"}], "response_a": "a", "response_b": "b"}',
            "last turn must be the user's",
        ),
        (
            '{"messages": [{"role": "robot", "content": "x"}], "response_a": "a", "response_b": "b"}',
            "messages\\[0\\].role: expected one of system, user, assistant, found 'robot'",
        ),
    ],
)
def test_a_bad_line_is_named_by_file_and_line(tmp_path: Path, line: str, message: str) -> None:
    file = write(tmp_path / "i.jsonl", json.dumps(GOOD), line)
    with pytest.raises(InputError, match=message) as caught:
        read_items(file)
    assert str(caught.value).startswith(f"{file}:2: ")


def test_whatever_convert_reads_is_judged_with_its_id_and_without_its_label(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    raws = [
        {**GOOD, "id": "q7", "preferred": "left", "subset": "x"},
        {**GOOD, "id": "q8", "preferred": "A", "subset": "x"},
    ]
    plain = read_items(write(tmp_path / "i.jsonl", *map(json.dumps, raws)))
    assert [(item.name, item.response_b) for item in plain] == [("q7", "No."), ("q8", "No.")]
    (tmp_path / "i.json").write_text(json.dumps(raws))
    (tmp_path / "i.csv").write_text("id,prompt,response_a,response_b\nq7,Why?,Because.,No.\nq8,Why?,Because.,No.\n")
    pq.write_table(pa.Table.from_pylist(raws), tmp_path / "i.parquet")
    for name in ("i.json", "i.csv", "i.parquet"):
        assert read_items(tmp_path / name) == plain
    write(tmp_path / "i.txt", json.dumps(GOOD))
    assert len(read_items(tmp_path / "i.txt")) == 1


def test_rows_of_a_source_are_read_by_its_name(tmp_path: Path) -> None:
    raw = {
        "context": [{"role": "user", "content": "Why?"}],
        "response1": "a",
        "response2": "b",
        "overall_preference": 1,
    }
    items = read_items(write(tmp_path / "i.jsonl", json.dumps(raw)), "helpsteer3_preference")
    assert [(item.name, item.response_a, item.response_b) for item in items] == [("1", "a", "b")]
    several = {"prompt": "Why?", "chosen": ["a"], "rejected": ["b", "c"], "id": "x"}
    items = read_items(write(tmp_path / "s.jsonl", json.dumps(several)), "reward_bench")
    assert [item.name for item in items] == ["x.1", "x.2"]
    with pytest.raises(InputError, match=r"i\.jsonl:1: .*missing"):
        read_items(tmp_path / "i.jsonl")


MAPPING = {"prompt": "question", "response_a": "left", "response_b": "right"}
MAPPED = {"question": "Why?", "left": "Because.", "right": "No."}


@pytest.mark.parametrize(
    ("source", "raw", "label"),
    [
        (
            "helpsteer2_pairwise",
            {"prompt": "Why?", "response_1": "Because.", "response_2": "No."},
            "preference_strength",
        ),
        (
            "helpsteer3_preference",
            {"context": [{"role": "user", "content": "Why?"}], "response1": "Because.", "response2": "No."},
            "overall_preference",
        ),
        ("generic_pairwise", {**GOOD, "subset": "x"}, "preferred"),
        ("generic_pairwise", {"prompt": "Why?", "chosen": "Because.", "rejected": "No."}, "strength"),
        ("judge_bench", {"question": "Why?", "response_A": "Because.", "response_B": "No."}, "label"),
        ("safe_rlhf", {"prompt": "Why?", "response_0": "Because.", "response_1": "No."}, "better_response_id"),
    ],
)
def test_no_source_needs_a_label_to_be_judged_or_looks_at_one(
    tmp_path: Path, source: str, raw: dict[str, Any], label: str
) -> None:
    for name, row in (("without.jsonl", raw), ("with.jsonl", {**raw, label: "no label"})):
        (item,) = read_items(write(tmp_path / name, json.dumps(row)), source)
        assert (item.messages[0]["content"], item.response_a, item.response_b) == ("Why?", "Because.", "No.")


@pytest.mark.parametrize("label", [{"preferred": {"from": "votes.winner", "A": ["l"], "B": ["r"]}},
                                   {"preference_strength": "votes.by", "strength": "votes.how"}])  # fmt: skip
def test_the_recipes_mapping_reads_what_is_judged_without_its_label(tmp_path: Path, label: dict[str, Any]) -> None:
    recipe = SourceConfig.model_validate({"source": "generic_pairwise", "fields": {**MAPPING, **label}})
    rows = [MAPPED, {**MAPPED, "votes": {"winner": "nobody", "by": 9}}, GOOD, {**GOOD, "subset": "x"}]
    items = read_items(write(tmp_path / "i.jsonl", *map(json.dumps, rows)), None, recipe)
    assert [(item.response_a, item.response_b) for item in items] == [("Because.", "No.")] * 4
    for source in ("generic_pairwise", None):
        with pytest.raises(InputError, match=r"bad\.jsonl:1: .*missing"):
            read_items(write(tmp_path / "bad.jsonl", json.dumps({"question": "Why?"})), source, recipe)


def test_turns_in_a_prompt_are_those_of_the_recipes_source(tmp_path: Path) -> None:
    marked = "Hi\n<extra_id_1>Assistant\nYes?\n<extra_id_1>User\nWhy?"
    raw = {"prompt": marked, "response_1": "Because.", "response_2": "No."}
    file = write(tmp_path / "i.jsonl", json.dumps(raw))
    (item,) = read_items(file, None, SourceConfig())
    assert [turn["content"] for turn in item.messages] == ["Hi", "Yes?", "Why?"]


def test_a_row_of_which_no_answer_is_worse_has_no_pair_to_judge(tmp_path: Path) -> None:
    answers = [{"response": text, "overall_score": 4} for text in ("a", "b")]
    file = write(tmp_path / "i.jsonl", json.dumps({"instruction": "Why?", "completions": answers}))
    with pytest.raises(InputError, match=r"i\.jsonl:1: none of the answers is worse than the best one"):
        read_items(file, "ultrafeedback")


def test_a_file_without_lines_and_a_missing_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no lines"):
        read_items(write(tmp_path / "i.jsonl", ""))
    with pytest.raises(InputError, match="no such file"):
        read_items(tmp_path / "nowhere.jsonl")
    with pytest.raises(InputError, match="cannot be read: Is a directory"):
        read_items(tmp_path)


def row_verdict(value: str) -> RowVerdict:
    sample = extract_preference_from_response(f"<think>Because.</think><preference>{value}</preference>")
    return RowVerdict(sample.preference, sample.reason, [sample], [f"text {value}"], [5], 20, cut=False)


@pytest.mark.parametrize(
    ("original", "swapped", "combined"),
    [
        ("A", "B", "A"),
        ("B", "A", "B"),
        ("tie", "tie", "tie"),
        ("A", "A", "inconsistent"),
        ("A", "tie", "inconsistent"),
        ("A", "C", "invalid"),
    ],
)
def test_both_orders_combine_into_one_verdict_in_the_items_own_letters(
    original: str, swapped: str, combined: str
) -> None:
    assert judgement_of("1", (row_verdict(original), row_verdict(swapped))).combined == combined


def shown(judgement: Judgement) -> str:
    from rich.console import Console

    console = Console(file=io.StringIO(), width=100)
    print_judgements([judgement], console)
    return console.file.getvalue()  # type: ignore[attr-defined,no-any-return]


def test_the_verdict_is_printed_with_the_reasoning_of_both_orders() -> None:
    text = shown(judgement_of("7", (row_verdict("A"), row_verdict("B"))))
    assert text.count("Because.") == 2
    assert "B shown first → A" in text
    assert "response A is better" in text


def test_an_invalid_answer_is_printed_as_it_was_written_and_neither_markup_nor_escapes_in_it_act() -> None:
    bad = RowVerdict(
        None, "no_verdict", [Verdict(None, "no_verdict", "")], ["[bold]hm[/bold]\x1b[2J"], [3], 20, cut=True
    )
    text = shown(judgement_of("1", (bad, row_verdict("B"))))
    assert "[bold]hm[/bold]" in text
    assert "\x1b" not in text
    assert "invalid (no_verdict)" in text


def test_the_json_output_holds_both_orders() -> None:
    line = json.loads(as_json_lines([judgement_of("1", (row_verdict("A"), row_verdict("A")))]))
    assert (line["name"], line["combined"]) == ("1", "inconsistent")
    assert [one["preferred"] for one in line["orders"]] == ["A", "B"]


def test_an_item_of_plain_texts_refuses_an_empty_response() -> None:
    with pytest.raises(InputError, match="judge: response_a: expected a text"):
        Item.of("Why?", "", "No.")


def test_an_id_that_utf8_cannot_hold_comes_back_escaped() -> None:
    value = {"prompt": "p", "response_a": "a", "response_b": "b", "id": "x\ud800"}
    assert item_of(value, "body", "1").name == "x\\ud800"


def test_a_number_of_thousands_of_digits_is_refused_with_one_line() -> None:
    with pytest.raises(InputError, match="body: not JSON: a number has too many digits"):
        decoded(b"9" * 5000, "body")
