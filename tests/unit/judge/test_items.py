"""Judging pairs without a label: what a file may hold, and how both orders combine."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from pairwise_rm.contract.verdict import Verdict, extract_preference_from_response
from pairwise_rm.errors import InputError
from pairwise_rm.evaluate.row_verdicts import RowVerdict
from pairwise_rm.judge.items import Item, read_items
from pairwise_rm.judge.run import Judgement, judgement_of
from pairwise_rm.judge.show import as_json_lines, print_judgements

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
        ("[]", "expected a JSON object, found list"),
        (json.dumps({**GOOD, "extra": 1}), "unknown key 'extra'"),
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
