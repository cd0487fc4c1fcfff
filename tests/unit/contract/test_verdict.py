"""The accept and reject tables are the parser's specification; hypothesis looks for what they forget."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pairwise_rm.contract.rows import PREFERENCES
from pairwise_rm.contract.verdict import INVALID_REASONS, Thinking, extract_preference_from_response

TAGS = ("<think>", "</think>", "<preference>", "</preference>")
PIECES = (*TAGS, "A", "B", "tie", " ", "\n", "why", "é", "<", "/")
texts = st.one_of(st.text(max_size=80), st.lists(st.sampled_from(PIECES), max_size=12).map("".join))
spaces = st.text(" \n\t\u3000", max_size=3)
thinkings = st.sampled_from(["response", "prompt", "closed"])

ACCEPTED: list[tuple[Thinking, str, str]] = [
    ("response", "<think>B rambles.</think><preference>A</preference>", "A"),
    ("response", "<think>A is wrong.</think>\n<preference>B</preference>", "B"),
    ("response", "<think>Alike.</think><preference>tie</preference>", "tie"),
    ("response", "\n <think>x</think> \n\n <preference>A</preference>\n ", "A"),
    ("response", "<think>line one\n\nline two</think><preference>A</preference>", "A"),
    ("response", "<think>答案 A 更好 🎉</think><preference>A</preference>", "A"),
    ("response", "<think>The properties of B are better than A's.</think><preference>A</preference>", "A"),
    ("response", "<think>x</think><preference> B </preference>", "B"),
    ("response", "<think>x</think><preference>\n\ttie\n</preference>", "tie"),
    ("prompt", "x</think><preference>A </preference>", "A"),
    ("closed", "<preference> A</preference>", "A"),
    ("prompt", "x</think><preference>A</preference>", "A"),
    ("prompt", "\nreasons\n</think>\n\n<preference>tie</preference>", "tie"),
    ("closed", "<preference>B</preference>", "B"),
    ("closed", "\n\n<preference>tie</preference>\n", "tie"),
]

REJECTED: list[tuple[Thinking, str, str]] = [
    # Nothing that is merely mentioned is a verdict.
    ("response", "", "no_verdict"),
    ("response", "Response B is better than Response A", "no_verdict"),
    ("response", "<think>x</think>Both have good properties", "no_verdict"),
    ("response", "<think>x</think>Response B is better than Response A", "no_verdict"),
    ("response", "<think>x</think>A", "no_verdict"),
    ("response", "<think>x</think><preference>A", "no_verdict"),
    ("response", "<think>x</think><Preference>A</Preference>", "no_verdict"),
    ("response", "<think>x</think>&lt;preference>A&lt;/preference>", "no_verdict"),
    ("response", "<think>so <preference>A</preference></think>", "no_verdict"),
    ("prompt", "so <preference>A</preference></think>", "no_verdict"),
    ("closed", "A", "no_verdict"),
    # One verdict and no more, the tags of the reasoning included.
    ("response", "<think>x</think><preference>A</preference><preference>B</preference>", "several_verdicts"),
    ("response", "<think>x</think><preference>A</preference><preference>A</preference>", "several_verdicts"),
    ("response", "<think><preference>B</preference></think><preference>A</preference>", "several_verdicts"),
    ("response", "<think>x</think><preference><preference>A</preference></preference>", "several_verdicts"),
    ("response", "<think>a <preference> tag</think><preference>A</preference>", "several_verdicts"),
    ("prompt", "<preference>B</preference></think><preference>A</preference>", "several_verdicts"),
    ("closed", "<preference>A</preference> no, <preference>B</preference>", "several_verdicts"),
    # A lone verdict is not the format, however right it is.
    ("response", "<preference>A</preference>", "reasoning_not_opened"),
    ("response", "x</think><preference>A</preference>", "reasoning_not_opened"),
    ("response", "Sure! <think>x</think><preference>A</preference>", "reasoning_not_opened"),
    ("response", "<think>x<preference>A</preference>", "reasoning_not_closed"),
    ("prompt", "<preference>A</preference>", "reasoning_not_closed"),
    ("prompt", "x<preference>A</preference>", "reasoning_not_closed"),
    ("response", "<think></think><preference>A</preference>", "no_reasoning"),
    ("response", "<think> \n </think><preference>A</preference>", "no_reasoning"),
    ("prompt", "</think><preference>A</preference>", "no_reasoning"),
    ("response", "<think>\u200b\u2060</think><preference>A</preference>", "no_reasoning"),  # nothing to see
    # The three values, spelled so.
    ("response", "<think>x</think><preference>C</preference>", "unknown_value"),
    ("response", "<think>x</think><preference>a</preference>", "unknown_value"),
    ("response", "<think>x</think><preference>Tie</preference>", "unknown_value"),
    ("response", "<think>x</think><preference>A B</preference>", "unknown_value"),
    ("response", "<think>x</think><preference> a </preference>", "unknown_value"),
    ("response", "<think>x</think><preference>t ie</preference>", "unknown_value"),
    ("response", "<think>x</think><preference> \n </preference>", "unknown_value"),
    ("response", "<think>x</think><preference>\u200bA</preference>", "unknown_value"),  # no white space
    ("response", "<think>x</think>< preference >A</ preference >", "no_verdict"),
    ("response", "<think>x</think><preference></preference>", "unknown_value"),
    ("response", "<think>x</think><preference>А</preference>", "unknown_value"),  # a Cyrillic А
    ("response", "<think>x</think><preference>Response A</preference>", "unknown_value"),
    ("closed", "<preference>both</preference>", "unknown_value"),
    # Nothing before, between or after.
    ("response", "<think>x</think><preference>A</preference> I am sure.", "extra_text"),
    ("response", "<think>x</think>So: <preference>A</preference>", "extra_text"),
    ("response", "<think>x</think><preference>A</preference><think>y</think>", "extra_text"),
    ("response", "<think>x<think>y</think><preference>A</preference>", "extra_text"),
    ("response", "<think>x</think></think><preference>A</preference>", "extra_text"),
    ("prompt", "<think>x</think><preference>A</preference>", "extra_text"),
    ("prompt", "x</think><preference>A</preference> I am sure.", "extra_text"),
    ("closed", "Sure. <preference>A</preference>", "extra_text"),
    ("closed", "<think>x</think><preference>A</preference>", "extra_text"),
    ("closed", "<preference>A</preference></think>", "extra_text"),
]


@pytest.mark.parametrize(("thinking", "text", "preference"), ACCEPTED)
def test_the_whole_format_is_accepted(thinking: Thinking, text: str, preference: str) -> None:
    verdict = extract_preference_from_response(text, thinking)
    assert (verdict.preference, verdict.reason, verdict.valid) == (preference, None, True)


@pytest.mark.parametrize(("thinking", "text", "reason"), REJECTED)
def test_anything_else_is_invalid_and_has_a_reason(thinking: Thinking, text: str, reason: str) -> None:
    verdict = extract_preference_from_response(text, thinking)
    assert (verdict.preference, verdict.reason, verdict.valid) == (None, reason, False)


def test_every_reason_has_a_row_in_the_reject_table() -> None:
    assert {reason for _, _, reason in REJECTED} == set(INVALID_REASONS)


def test_the_call_of_the_rm_gallery_tutorial_needs_no_thinking_mode() -> None:
    text = "<think>x</think><preference>B</preference>"
    assert extract_preference_from_response(text) == extract_preference_from_response(text, "response")


@pytest.mark.parametrize(
    ("thinking", "text", "reasoning"),
    [
        ("response", "<think> why A \n</think><preference>A</preference>", "why A"),
        ("prompt", " why A </think><preference>A</preference>", "why A"),
        ("closed", "<preference>A</preference>", ""),
        ("response", "<think>why A</think><preference>C</preference>", "why A"),
        ("response", "<think>cut off by the length", "cut off by the length"),
    ],
)
def test_the_reasoning_is_kept_without_its_tags(thinking: Thinking, text: str, reasoning: str) -> None:
    assert extract_preference_from_response(text, thinking).reasoning == reasoning


@given(texts, thinkings)
def test_any_text_has_either_a_preference_or_a_reason(text: str, thinking: Thinking) -> None:
    verdict = extract_preference_from_response(text, thinking)
    assert (verdict.preference is None) != (verdict.reason is None)
    assert verdict.preference is None or verdict.preference in PREFERENCES
    assert verdict.reason is None or verdict.reason in INVALID_REASONS


@given(texts, texts, st.sampled_from(PREFERENCES), spaces, spaces, thinkings)
def test_an_accepted_text_has_exactly_one_verdict_and_it_ends_the_text(
    before: str, between: str, value: str, left: str, right: str, thinking: Thinking
) -> None:
    text = f"{before}</think>{between}<preference>{left}{value}{right}</preference>"
    verdict = extract_preference_from_response(text, thinking)
    if verdict.valid:
        after = text if thinking == "closed" else text.split("</think>", 1)[1]
        assert after.strip() == f"<preference>{left}{verdict.preference}{right}</preference>"
        assert text.count("<preference>") == text.count("</preference>") == 1


@given(texts, thinkings, st.sampled_from(PREFERENCES), spaces, spaces)
def test_white_space_around_the_value_changes_no_verdict(
    before: str, thinking: Thinking, value: str, left: str, right: str
) -> None:
    tight, wide = (f"{before}<preference>{shown}</preference>" for shown in (value, f"{left}{value}{right}"))
    found, wanted = (extract_preference_from_response(text, thinking) for text in (wide, tight))
    assert (found.preference, found.reason) == (wanted.preference, wanted.reason)


# The format's own tags are the tables' matter; hypothesis finds them among this package's constants.
@given(st.text(max_size=80).filter(lambda text: not any(tag in text for tag in TAGS)), st.sampled_from(PREFERENCES))
def test_what_is_rendered_in_the_format_is_parsed_back(reasoning: str, value: str) -> None:
    verdict = extract_preference_from_response(f"<think>x{reasoning}</think><preference>{value}</preference>")
    assert (verdict.preference, verdict.reasoning) == (value, f"x{reasoning}".strip())


@pytest.mark.parametrize("piece", ["<preference>", "</preference>", "<think>", "</think>", "<", "\n", "<preference>A"])
def test_a_response_of_megabytes_is_parsed_in_linear_time(piece: str) -> None:
    start = time.process_time()
    assert not extract_preference_from_response(piece * (4_000_000 // len(piece))).valid
    assert time.process_time() - start < 5
