"""Mappings of `data.configs.fields`, and the shapes in which a prompt and two responses come."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from pairwise_rm.contract.rows import Message, Pair
from pairwise_rm.convert.converters import SeveralPairs, get_converter
from pairwise_rm.convert.fields import RowError
from pairwise_rm.convert.run import convert
from pairwise_rm.errors import InputError
from pairwise_rm.recipe.load import load_data_config, load_recipe
from pairwise_rm.recipe.model import FieldMapping, SourceConfig
from tests.unit.convert.samples import RATIO, all_rows, config, write_lines

MAPPING: dict[str, Any] = {
    "prompt": "question",
    "response_a": "answers.0.text",
    "response_b": "answers.1.text",
    "preferred": {"from": "winner", "A": ["model_a", "1"], "B": ["model_b", "2"], "tie": ["tie", "both_bad"]},
}
ROW: dict[str, Any] = {
    "question": "Why?",
    "answers": [{"text": "Because."}, {"text": "No idea."}],
    "winner": "model_b",
    "topic": "stem",
    "uid": 7,
}
QUESTION: Message = {"role": "user", "content": "Why?"}
ASKED = [QUESTION]


def said(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


def mapped(row: dict[str, Any], mapping: dict[str, Any] | None = None, most: int | None = None) -> list[Pair]:
    fields = FieldMapping.model_validate(mapping or MAPPING)
    converted = get_converter("generic_pairwise", fields, most).convert(row)
    return [one.pair for one in (converted.pairs if isinstance(converted, SeveralPairs) else [converted])]


def plain(**row: Any) -> Pair:
    converted = get_converter("generic_pairwise").convert(row)
    assert not isinstance(converted, SeveralPairs)
    return converted.pair


def refused(row: dict[str, Any], mapping: dict[str, Any] | None = None) -> tuple[str, str]:
    with pytest.raises(RowError) as caught:
        mapped(row, mapping)
    assert "\n" not in str(caught.value)
    return caught.value.reason, str(caught.value)


def plainly_refused(**row: Any) -> tuple[str, str]:
    with pytest.raises(RowError) as caught:
        plain(**row)
    return caught.value.reason, str(caught.value)


# ---- the mapping ---------------------------------------------------------------------------------


def test_a_mapping_reads_a_pair_by_dotted_paths() -> None:
    (pair,) = mapped(ROW, {**MAPPING, "subset": "topic", "id": "uid"})
    assert pair == Pair(ASKED, ("Because.", "No idea."), "B", None, "generic_pairwise", "stem", "7")


@pytest.mark.parametrize(
    ("value", "preferred"),
    [
        ("model_a", "A"),
        ("1", "A"),
        (1, "A"),
        (1.0, "A"),
        ("model_b", "B"),
        (2, "B"),
        ("tie", "tie"),
        ("both_bad", "tie"),
    ],
)  # fmt: skip
def test_the_values_of_a_label_are_those_that_the_mapping_names(value: Any, preferred: str) -> None:
    (pair,) = mapped({**ROW, "winner": value})
    assert (pair.preferred, pair.strength) == (preferred, 0 if preferred == "tie" else None)


@pytest.mark.parametrize(
    ("value", "reason"),
    [("Model_A", "unknown_label"), ("", "unknown_label"), (3, "unknown_label"), (True, "unknown_label"),
     (float("nan"), "unknown_label"), ([1], "unknown_label"), (None, "null_field")],
)  # fmt: skip
def test_a_label_that_the_mapping_does_not_name_rejects_its_row(value: Any, reason: str) -> None:
    found, message = refused({**ROW, "winner": value})
    assert found == reason
    assert message.startswith("winner: ")
    assert 'expected one of "model_a", "1", "model_b", "2", "tie", "both_bad"' in message or reason == "null_field"


def test_true_and_false_are_labels_as_json_writes_them() -> None:
    mapping = {**MAPPING, "preferred": {"from": "first_is_better", "A": [True], "B": [False], "tie": []}}
    assert [mapped({**ROW, "first_is_better": value}, mapping)[0].preferred for value in (True, False, "true")] == [
        "A", "B", "A",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("change", "mapping", "message"),
    [
        ({"answers": [{"text": "Because."}]}, {}, "answers.1.text: missing"),
        ({"answers": None}, {}, "answers.0.text: missing"),
        ({"winner": ...}, {}, "winner: missing"),
        ({"question": 3}, {}, "question: 3, expected text"),
        ({}, {"subset": "subject"}, "subject: missing"),
        ({}, {"id": "key"}, "key: missing"),
        ({}, {"strength": "margin"}, "margin: missing"),
        ({"margin": 0}, {"strength": "margin"}, "margin: 0 with preferred 'B'"),
        ({"signed": -2}, {"preference_strength": "signed"}, "signed: -2 says A, winner says B"),
    ],
)
def test_a_bad_mapped_row_names_the_path_of_the_mapping(
    change: dict[str, Any], mapping: dict[str, Any], message: str
) -> None:
    row = {key: value for key, value in {**ROW, **change}.items() if value is not ...}
    assert message in refused(row, {**MAPPING, **mapping})[1]


def test_a_column_with_dots_in_its_name_goes_before_a_nested_one_and_minus_one_is_the_last() -> None:
    row = {**ROW, "answers.0.text": "Flat.", "answers": [{"text": "x"}, {"text": "y"}, {"text": "Last."}]}
    (pair,) = mapped(row, {**MAPPING, "response_b": "answers.-1.text"})
    assert pair.responses == ("Flat.", "Last.")


def test_a_mapped_converter_names_the_columns_that_it_reads() -> None:
    columns = get_converter("generic_pairwise", FieldMapping.model_validate(MAPPING)).columns
    assert columns is not None
    assert {"question", "answers", "winner", "split"} <= columns
    assert "topic" not in columns


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        ({"prompt": "q"}, "expected one of response_a/response_b, chosen/rejected and answers"),
        ({"chosen": "c"}, "expected both of chosen and rejected"),
        ({"response_a": "a", "preference_strength": "s"}, "expected both of response_a and response_b"),
        ({"response_a": "a", "response_b": "b"}, "need preferred or preference_strength"),
        ({"chosen": "c", "rejected": "r", "preference_strength": "s"}, "go with response_a and response_b"),
        ({**MAPPING, "chosen": "c", "rejected": "r"}, "expected one of"),
        ({**MAPPING, "preferred": {"from": "w", "A": [1], "B": ["1"]}}, "1 is listed for two of A, B and tie"),
        ({**MAPPING, "preferred": {"from": "w", "A": [], "B": ["1"]}}, "at least 1 item"),
        ({"answers": {"from": "a", "score": "s"}}, "answers need a prompt"),
        ({"prompt": "q", "answers": {"from": "a"}}, "expected one of rank and score"),
        ({**MAPPING, "response_b": MAPPING["response_a"]}, "response_a and response_b are the same field"),
        ({"prompt": "c", "chosen": "c", "rejected": "r"}, "prompt and chosen are the same field c"),
        ({**MAPPING, "promt": "q"}, "Extra inputs"),
    ],
)
def test_a_mapping_that_makes_no_pairs_is_refused(mapping: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        FieldMapping.model_validate(mapping)


def test_a_mapping_is_of_the_generic_converter_and_of_no_other() -> None:
    for source in ({}, {"source": "helpsteer2_pairwise"}, {"source": "generic_pairwise"}):
        assert SourceConfig.model_validate({**source, "fields": MAPPING}).source == "generic_pairwise"
    with pytest.raises(ValidationError, match="fields go with source: generic_pairwise, not with arena"):
        SourceConfig.model_validate({"source": "arena", "fields": MAPPING})


def test_a_mapping_in_a_data_config_converts(tmp_path: Path) -> None:
    rows = [{**ROW, "question": f"Why {n}?", "uid": n} for n in range(8)]
    path = write_lines(tmp_path / "pairs.jsonl", rows)
    fields = {**MAPPING, "id": "uid", "subset": "topic"}
    counts = convert(config(path, fields=fields, export=RATIO), tmp_path / "out").counts
    assert (counts.kept, counts.rejected_total) == (8, 0)
    assert {row["source_id"] for row in all_rows(tmp_path / "out")} == {str(n) for n in range(8)}


def test_a_mapping_reads_the_digits_of_a_table_without_types(tmp_path: Path) -> None:
    path = tmp_path / "pairs.csv"
    path.write_text("q,one,two,better\n" + "".join(f"Why {n}?,first,second,{n % 2 + 1}\n" for n in range(8)))
    label = {"from": "better", "A": [1], "B": [2]}
    fields = {"prompt": "q", "response_a": "one", "response_b": "two", "preferred": label}
    convert(config(path, fields=fields, export=RATIO), tmp_path / "out")
    original = [row for row in all_rows(tmp_path / "out") if row["order"] == "original"]
    assert {(row["messages"][0]["content"], row["preferred"]) for row in original} == {
        (f"Why {n}?", "AB"[n % 2]) for n in range(8)
    }


def test_a_mistake_in_a_mapping_names_file_line_and_key(tmp_path: Path) -> None:
    path = tmp_path / "data.yaml"
    path.write_text(
        "dataset:\n  configs:\n    path: x.jsonl\n    fields:\n      prompt: q\n      response_a: a\n"
        "      response_b: b\n      preferred: {form: w}\n"
    )
    with pytest.raises(InputError, match=r"data\.yaml:8: .*preferred\.(from|form)"):
        load_data_config(path)


def test_a_mapping_can_be_set_key_by_key_and_the_resolved_recipe_has_it() -> None:
    keys = ["prompt=q", "response_a=a", "response_b=b", "preferred.from=w", "preferred.A=[1]", "preferred.B=[2]"]
    recipe = load_recipe("smoke", ["data.configs.source=generic_pairwise", *(f"data.configs.fields.{k}" for k in keys)])
    fields = recipe.data.configs.fields
    assert fields is not None
    assert fields.preferred is not None
    assert fields.preferred.from_ == "w"
    dumped = recipe.model_dump(mode="json")["data"]["configs"]["fields"]
    assert dumped["preferred"]["from"] == "w"
    assert FieldMapping.model_validate(dumped) == fields


# ---- conversations -------------------------------------------------------------------------------


def test_the_turns_that_two_conversations_share_are_the_prompt() -> None:
    before = [{"role": "system", "content": "Be brief."}, *ASKED, said("How so?"), {"role": "user", "content": "So."}]
    pair = plain(chosen=[*before, said("Because.")], rejected=[*before, said("No idea.")])
    assert (pair.messages, pair.responses, pair.preferred) == (before, ("Because.", "No idea."), "A")


@pytest.mark.parametrize(
    "beside",
    [
        {"prompt": "Why?"},
        {"prompt": " Why?\n"},
        {"prompt": ASKED},
        {"messages": ASKED},
        {"prompt": "Why?", "messages": [*ASKED, said("Because.")]},
        {"prompt": "\n\nHuman: Why?\n\nAssistant:"},
        {"prompt": None},
    ],
)
def test_a_prompt_beside_two_conversations_may_repeat_theirs(beside: dict[str, Any]) -> None:
    assert plain(chosen=[*ASKED, said("Because.")], rejected=[*ASKED, said("No.")], **beside).messages == ASKED


@pytest.mark.parametrize(
    "beside",
    [
        {"prompt": "Who?"},
        {"messages": [{"role": "user", "content": "Who?"}]},
        {"prompt": "Why?", "messages": [*ASKED, said("Something else.")]},
    ],
)
def test_another_prompt_beside_two_conversations_is_an_error(beside: dict[str, Any]) -> None:
    reason, message = plainly_refused(chosen=[*ASKED, said("Because.")], rejected=[*ASKED, said("No.")], **beside)
    assert reason == "different_prompts"
    assert "not the turns that chosen and rejected share" in message


def test_a_system_message_on_one_side_only_is_kept() -> None:
    system = {"role": "system", "content": "Be brief."}
    with_system = [system, *ASKED]
    for prompt, before in ((with_system, ASKED), ("Why?", with_system)):
        pair = plain(prompt=prompt, chosen=[*before, said("Because.")], rejected=[*before, said("No.")])
        assert pair.messages == with_system


@pytest.mark.parametrize(
    ("chosen", "rejected", "reason", "message"),
    [
        ([*ASKED, said("x")], [{"role": "user", "content": "Who?"}, said("y")], "different_prompts", "in turn 1,"),
        ([*ASKED, said("x")], [*ASKED, said("x"), *ASKED, said("y")], "different_prompts", "in turn 2,"),
        ([*ASKED, said("x")], [said("y")], "different_prompts", "in turn 1,"),
        (ASKED, ASKED, "no_response", "chosen: ends with the turn of the user"),
        ([], [said("y")], "no_response", "chosen: no turns"),
        ([said("x"), said("z")], [said("x"), said("y")], "no_user_turn", "ends with the turn of the assistant"),
        ([said("x")], [said("y")], "missing_field", "prompt: missing"),
    ],
)
def test_conversations_that_are_no_pair_are_refused(chosen: Any, rejected: Any, reason: str, message: str) -> None:
    found, text = plainly_refused(chosen=chosen, rejected=rejected)
    assert (found, message in text) == (reason, True), text


@pytest.mark.parametrize("role", ["human", "user"])
def test_roles_have_their_usual_names_and_turns_may_be_those_of_sharegpt(role: str) -> None:
    conversation = [{"from": "system", "value": "Be brief."}, {"from": role, "value": "Why?"}]
    pair = plain(prompt=conversation, chosen={"from": "gpt", "value": "x"}, rejected={"from": "gpt", "value": "y"})
    assert pair.messages == [{"role": "system", "content": "Be brief."}, QUESTION]
    assert plain(prompt=[{"role": "developer", "content": "z"}, *ASKED], chosen="x", rejected="y").messages[0] == {
        "role": "system",
        "content": "z",
    }


def test_text_parts_are_joined_and_other_parts_reject_the_row() -> None:
    parts = [{"type": "text", "text": "Why", "image": None}, {"type": "text", "text": "so?"}]
    assert plain(prompt=[{"role": "user", "content": parts}], chosen="x", rejected="y").messages == [
        {"role": "user", "content": "Why\nso?"}
    ]
    image = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]
    reason, message = plainly_refused(prompt=image, chosen="x", rejected="y")
    assert (reason, message[:48]) == ("not_text", "prompt[0].content[0].type: 'image_url', expected")


@pytest.mark.parametrize("written", [json.dumps, str])
@pytest.mark.parametrize("part", ["prompt", "chosen"])
def test_a_list_of_turns_that_a_table_wrote_as_text_is_no_text(part: str, written: Callable[[Any], str]) -> None:
    row = {"prompt": "Why?", "chosen": "Because.", "rejected": "No."}
    reason, message = plainly_refused(**(row | {part: written([{"role": "user", "content": "Why?"}])}))
    assert (reason, message.partition(" (")[0]) == ("turns_as_text", f"{part}: a list of turns written as text")


def test_an_answer_that_shows_a_list_of_turns_is_text() -> None:
    text = '[{"role": "user", "content": "Hi"}] is how an API takes them.'
    assert plain(prompt="How?", chosen=text, rejected="y").responses == (text, "y")


# ---- transcripts ---------------------------------------------------------------------------------


def test_a_transcript_may_have_the_line_ends_of_windows() -> None:
    text = "\r\n\r\nHuman: Why?\r\n\r\nAssistant: So.\r\n\r\nHuman: And?\r\n\r\nAssistant:"
    assert [turn["content"] for turn in plain(prompt=text, chosen="x", rejected="y").messages] == [
        "Why?",
        "So.",
        "And?",
    ]


@pytest.mark.parametrize("prompt", ["\n\nHuman: Why?\n\nAssistant:", "Human: Why?\n\nAssistant: ", "\n\nHuman: Why?"])
def test_a_transcript_as_the_prompt_becomes_turns(prompt: str) -> None:
    assert plain(prompt=prompt, response_a="x", response_b="y", preferred="A").messages == ASKED


def test_a_transcript_of_several_turns_becomes_as_many_messages() -> None:
    text = "\n\nHuman: Hi.\n\nAll well?\n\nAssistant: Yes.\n\nHuman: Why?\n\nAssistant: "
    pair = plain(chosen=f"{text}Because.", rejected=f"{text}No idea.")
    assert pair.messages == [{"role": "user", "content": "Hi.\n\nAll well?"}, said("Yes."), QUESTION]
    assert pair.responses == ("Because.", "No idea.")


def test_a_prompt_that_merely_begins_with_the_word_human_is_text() -> None:
    for text in ("Human: is it a noun?", "Explain this:\n\nHuman: Hi.\n\nAssistant: Hello."):
        pair = plain(prompt=text, response_a="x", response_b="y", preferred="A")
        assert pair.messages == [{"role": "user", "content": text}]


def test_transcripts_that_part_before_their_last_turn_are_refused() -> None:
    chosen, rejected = "\n\nHuman: Why?\n\nAssistant: x", "\n\nHuman: Who?\n\nAssistant: y"
    assert plainly_refused(chosen=chosen, rejected=rejected)[0] == "different_prompts"


# ---- several answers -----------------------------------------------------------------------------

RANKED: dict[str, Any] = {"prompt": "q", "answers": {"from": "list", "text": "t", "score": "s"}}


def ranked(*scores: Any) -> dict[str, Any]:
    return {"q": "Why?", "list": [{"t": f"answer {at}", "s": score} for at, score in enumerate(scores)]}


def test_the_answer_with_the_highest_score_is_paired_with_each_lower_one() -> None:
    pairs = mapped(ranked(2, 5.5, 5.5, 1), RANKED)
    assert [pair.responses for pair in pairs] == [("answer 1", "answer 3"), ("answer 1", "answer 0")]
    assert {pair.preferred for pair in pairs} == {"A"}
    assert mapped(ranked(2, 5.5, 5.5, 1), RANKED, most=1) == pairs[:1]


def test_the_answer_with_the_lowest_rank_is_the_best() -> None:
    by_rank = {"prompt": "q", "answers": {"from": "list", "text": "t", "rank": "s"}}
    assert [pair.responses for pair in mapped(ranked(2, 1, 3), by_rank)] == [
        ("answer 1", "answer 2"), ("answer 1", "answer 0"),
    ]  # fmt: skip


@pytest.mark.parametrize("row", [ranked(3, 3), ranked(3), ranked()])
def test_answers_of_which_none_is_worse_are_no_pair_and_no_error(row: dict[str, Any]) -> None:
    assert mapped(row, RANKED) == []


def test_a_published_set_with_equally_good_answers_converts_without_a_rejected_row(tmp_path: Path) -> None:
    scores = ((4, 2), (3, 3), ())
    raws = [
        {
            "instruction": f"Question {at}?",
            "source": "sharegpt",
            "completions": [{"response": f"{at}.{i}", "overall_score": score} for i, score in enumerate(row)],
        }
        for at, row in enumerate(scores)
    ]
    source = write_lines(tmp_path / "raw.jsonl", raws)
    counts = convert(config(source, source="ultrafeedback", export={"split": "test"}), tmp_path / "out").counts
    assert (counts.kept, counts.dropped["no_worse_answer"], counts.rejected_total) == (1, 2, 0)


@pytest.mark.parametrize(
    ("row", "reason", "message"),
    [
        (ranked(3, None), "null_field", "list[1].s: null, expected a number"),
        (ranked(3, "2"), "wrong_type", "list[1].s: '2', expected a number"),
        (ranked(3, float("nan")), "wrong_type", "list[1].s: nan, expected a number"),
        (ranked(3, True), "wrong_type", "list[1].s: true, expected a number"),
        ({"q": "Why?"}, "missing_field", "list: missing"),
        ({"q": "Why?", "list": ["x"]}, "wrong_type", "list[0]: 'x', expected an object"),
        ({**ranked(1, 2), "q": ...}, "wrong_type", "q: "),
    ],
)
def test_answers_that_give_no_pair_say_why(row: dict[str, Any], reason: str, message: str) -> None:
    found, text = refused(row, RANKED)
    assert (found, message in text) == (reason, True), text


def test_several_chosen_texts_are_paired_with_each_rejected_one() -> None:
    converted = get_converter("generic_pairwise", pairs_per_prompt=3).convert(
        {"prompt": "Why?", "chosen": ["a", "b"], "rejected": ["c", "d"]}
    )
    assert isinstance(converted, SeveralPairs)
    assert [one.pair.responses for one in converted.pairs] == [("a", "c"), ("a", "d"), ("b", "c")]
    assert converted.left_out == 1


def test_several_texts_beside_a_label_are_refused() -> None:
    reason, message = plainly_refused(prompt="Why?", response_a=["a", "b"], response_b=["c"], preferred="A")
    assert (reason, "several texts" in message) == ("wrong_type", True)
