"""From raw rows to pairs: the three converters, field by field."""

from __future__ import annotations

from typing import Any

import pytest

from pairwise_rm.convert.converters import CONVERTERS, HelpSteer2PairwiseConverter, get_converter
from pairwise_rm.convert.fields import RowError
from pairwise_rm.errors import InputError
from tests.unit.convert.samples import row

HELPSTEER3 = {
    "domain": "stem",
    "language": "english",
    "context": [{"role": "user", "content": "Why?"}],
    "response1": "Because.",
    "response2": "No idea.",
    "overall_preference": 1,
}
GENERIC = {"prompt": "Why?", "response_a": "Because.", "response_b": "No idea.", "preferred": "A"}


def convert(raw: dict[str, Any], name: str = "helpsteer2_pairwise") -> Any:
    return CONVERTERS[name].convert(raw)


@pytest.mark.parametrize(("strength", "preferred"), [(-3, "A"), (-1, "A"), (0, "tie"), (1, "B"), (3, "B"), (2.0, "B")])
def test_the_sign_of_helpsteer2_says_which_response_is_better(strength: float, preferred: str) -> None:
    pair = convert(row(preference_strength=strength)).pair
    assert (pair.preferred, pair.strength) == (preferred, abs(strength))
    assert pair.responses == ("It is 1.", "I do not know 0.")


def test_the_validation_rows_of_helpsteer2_are_the_test_side() -> None:
    assert [convert(row(split=split)).split for split in ("train", "val", None, ...)] == ["train", "test", None, None]


def test_a_subset_is_taken_over_where_there_is_one_and_an_integer_is_its_text() -> None:
    assert convert(row(subset=4)).pair.subset == convert(row(subset=4.0)).pair.subset == "4"
    assert convert(row(subset="natural")).pair.subset == "natural"
    assert convert(row()).pair.subset is None


def test_a_name_that_is_no_split_is_an_error_only_for_who_asks() -> None:
    for split, shown in (("dev", "'dev'"), (1, "1")):
        error = convert(row(split=split)).split
        assert isinstance(error, RowError)
        assert (error.reason, str(error)) == ("unknown_split", f"split: {shown}, expected one of train, val")


def test_two_responses_of_the_same_text_are_a_pair_which_the_stage_may_drop() -> None:
    assert convert(row(response_1="same", response_2="same")).pair.responses == ("same", "same")


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ({"id": "q1"}, "q1"),
        ({"idx": 7}, "7"),
        ({"id": None, "question_id": 7.0}, "7"),
        ({"id": "q1", "idx": 7}, "q1"),
        ({"id": float("nan")}, None),
        ({"id": float("nan"), "idx": 7}, "7"),
        ({"pair_id": {"$oid": "5f"}}, '{"$oid": "5f"}'),
        ({"id": "half \ud83d"}, "half \\ud83d"),
        ({}, None),
    ],
)
def test_the_id_of_a_source_goes_through_as_text(given: dict[str, Any], kept: str | None) -> None:
    assert convert(row(**given)).pair.source_id == kept
    assert convert({**GENERIC, **given}, "generic_pairwise").pair.source_id == kept


def test_turn_markers_become_messages() -> None:
    prompt = "Hi.\nAll well?\n<extra_id_1>Assistant\nYes.\n\n<extra_id_1>User\nGood. Say <extra_id_1> aloud."
    assert convert(row(prompt=prompt)).pair.messages == [
        {"role": "user", "content": "Hi.\nAll well?"},
        {"role": "assistant", "content": "Yes.\n"},
        {"role": "user", "content": "Good. Say <extra_id_1> aloud."},
    ]


def test_the_marker_that_asks_for_the_answer_is_no_turn() -> None:
    pair = convert(row(prompt="Hi.\n<extra_id_1>Assistant\n")).pair
    assert pair.messages == [{"role": "user", "content": "Hi."}]


def test_a_megabyte_is_a_response_like_any_other() -> None:
    response = "long " * (1 << 18)
    assert convert(row(response_1=response)).pair.responses[0] == response


@pytest.mark.parametrize(
    ("change", "reason", "message"),
    [
        ({"prompt": None}, "null_field", "prompt: null, expected text"),
        ({"prompt": ...}, "missing_field", "prompt: missing"),
        ({"prompt": 3}, "wrong_type", "prompt: 3, expected text"),
        ({"prompt": " \n"}, "empty_prompt", "prompt: empty"),
        ({"prompt": "Hi.\n<extra_id_1>Assistant\nYes."}, "no_user_turn", "ends with the turn of the assistant"),
        ({"response_2": None}, "null_field", "response_2: null"),
        ({"response_1": ["a"]}, "wrong_type", "response_1: ['a'], expected text"),
        ({"response_1": "half \ud83d"}, "lone_surrogate", "response_1: holds a lone surrogate (character 5)"),
        ({"preference_strength": ...}, "missing_field", "preference_strength: missing"),
        ({"preference_strength": None}, "null_field", "preference_strength: null, expected an integer from -3 to 3"),
        ({"preference_strength": 4}, "out_of_range", "preference_strength: 4, expected an integer from -3 to 3"),
        ({"preference_strength": -100}, "out_of_range", "preference_strength: -100"),
        ({"preference_strength": True}, "wrong_type", "preference_strength: true"),
        ({"preference_strength": 1.5}, "wrong_type", "preference_strength: 1.5"),
        ({"preference_strength": float("nan")}, "wrong_type", "preference_strength: nan"),
        ({"preference_strength": "2"}, "wrong_type", "preference_strength: '2'"),
        ({"subset": 1.5}, "wrong_type", "subset: 1.5, expected text"),
    ],
)
def test_a_bad_helpsteer2_row_says_which_field_and_what_was_expected(
    change: dict[str, Any], reason: str, message: str
) -> None:
    with pytest.raises(RowError) as caught:
        convert(row(**change))
    assert caught.value.reason == reason
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_helpsteer3_rows_keep_their_turns_and_their_domain() -> None:
    pair, split = convert(HELPSTEER3, "helpsteer3_preference")
    assert pair.messages == [{"role": "user", "content": "Why?"}]
    assert (pair.responses, pair.preferred, pair.strength) == (("Because.", "No idea."), "B", 1)
    assert (pair.subset, pair.source, split) == ("stem", "helpsteer3_preference", None)


@pytest.mark.parametrize(
    ("context", "message"),
    [
        ([], "context: empty"),
        ("Why?", "context: 'Why?', expected a list of turns"),
        ([{"role": "user"}], "context[0].content: missing"),
        ([{"role": "bot", "content": "x"}], "context[0].role: 'bot', expected one of system, user, assistant"),
        ([{"role": ["user"], "content": "x"}], "context[0].role: ['user']"),
        (["Why?"], "context[0]: 'Why?', expected an object"),
    ],
)
def test_a_bad_context_names_the_turn(context: Any, message: str) -> None:
    with pytest.raises(RowError) as caught:
        convert({**HELPSTEER3, "context": context}, "helpsteer3_preference")
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("raw", "preferred", "strength"),
    [
        (GENERIC, "A", None),
        ({**GENERIC, "preferred": "tie"}, "tie", 0),
        ({**GENERIC, "preferred": "B", "strength": 3}, "B", 3),
        ({**GENERIC, "preferred": "A", "preference_strength": -1}, "A", 1),
        ({"prompt": "Why?", "response_1": "Because.", "response_2": "No idea.", "preference_strength": 2}, "B", 2),
        ({"prompt": "Why?", "chosen": "Because.", "rejected": "No idea."}, "A", None),
        ({"messages": [{"role": "user", "content": "Why?"}], "chosen": "Because.", "rejected": "No idea."}, "A", None),
        (
            {
                "prompt": [{"role": "user", "content": "Why?"}],
                "chosen": [{"role": "assistant", "content": "Because."}],
                "rejected": [{"role": "assistant", "content": "No idea."}],
                "strength": 1,
            },
            "A",
            1,
        ),
    ],
)
def test_generic_rows_come_under_several_names(raw: dict[str, Any], preferred: str, strength: int | None) -> None:
    pair = convert(raw, "generic_pairwise").pair
    assert pair.messages == [{"role": "user", "content": "Why?"}]
    assert pair.responses == ("Because.", "No idea.")
    assert (pair.preferred, pair.strength) == (preferred, strength)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"preferred": "a"}, "preferred: 'a', expected one of"),
        ({"preferred": ["A"]}, "preferred: ['A'], expected one of"),
        ({"preferred": None}, "preferred: null"),
        ({"preferred": ...}, "preferred: missing"),
        ({"preference_strength": 1}, "says B, preferred says A"),
        ({"strength": 0}, "strength: 0 with preferred 'A'"),
        ({"response_b": ...}, "response_b: missing"),
        ({"response_1": "x"}, "expected one of them"),
        ({"prompt": ...}, "expected prompt or messages"),
        ({"messages": []}, "both present"),
        ({"response_a": ..., "response_b": ...}, "responses: missing"),
        ({"response_a": ..., "response_b": ..., "chosen": "x", "rejected": "y"}, "says already which response"),
    ],
)
def test_a_bad_generic_row_is_refused_rather_than_guessed(change: dict[str, Any], message: str) -> None:
    raw = {key: value for key, value in {**GENERIC, **change}.items() if value is not ...}
    with pytest.raises(RowError) as caught:
        convert(raw, "generic_pairwise")
    assert message in str(caught.value)


def test_an_unknown_converter_is_refused_with_the_known_ones() -> None:
    with pytest.raises(InputError, match=r"data\.configs\.source: 'helpsteer9'.*helpsteer2_pairwise, helpsteer3"):
        get_converter("helpsteer9")


def test_the_class_name_of_the_rm_gallery_tutorial_is_the_registered_converter() -> None:
    from pairwise_rm import HelpSteer2PairwiseConverter as of_the_tutorial

    assert of_the_tutorial is HelpSteer2PairwiseConverter
    assert isinstance(CONVERTERS["helpsteer2_pairwise"], of_the_tutorial)
