"""Making prompts fit, with a real byte-level tokenizer: the estimate may not be wrong, the cut must be fair."""

from __future__ import annotations

import base64
import re
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pairwise_rm.contract.prompt import PairwiseComparisonTemplate
from pairwise_rm.contract.prompt_fit import CUT_MARK, PromptFitter, TokenEstimate
from pairwise_rm.contract.rows import Message, Row
from tests.unit.conftest import MakeRows

TEMPLATE = "Judge by the rubric.\nQuery: {{ query }}\nA: {{ response_a }}\nB: {{ response_b }}\nOne verdict, please."

pieces = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=30),
    st.text("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ", max_size=60),
    st.text("0123456789", max_size=40),
    st.binary(max_size=60).map(lambda raw: base64.b64encode(raw).decode()),
    st.text("的一是不了人我在有他这为之大来以个中上们", max_size=20),
    st.lists(st.sampled_from(["🎉", "👩‍🚀", "é", "\u200b", "\n\n", "   ", "don't", "=>", "</think>"]), max_size=10).map(
        "".join
    ),
    st.sampled_from(["the model returns a list of rows", "def test_it(value: str) -> None:", "<|im_end|>"]),
)
texts = st.lists(pieces, max_size=8).map(" ".join)


def fitter(tokenizer: Any, limit: int, **options: Any) -> PromptFitter:
    template = PairwiseComparisonTemplate(template=TEMPLATE, special_tokens=tokenizer.all_special_tokens)
    return PromptFitter(tokenizer, template, limit, **options)


def shown(fit: PromptFitter, row: Row) -> list[str]:
    """The responses of the row that was made to fit."""
    found = fit.fit(row)
    assert found
    return found["responses"]


def tokens(tokenizer: Any, text: str) -> int:
    return len(tokenizer.encode(text, add_special_tokens=False))


@pytest.fixture
def pair(make_rows: MakeRows) -> Callable[[str, str], tuple[Row, Row]]:
    def make(first: str, second: str) -> tuple[Row, Row]:
        original, swapped = make_rows(1)
        return {**original, "responses": [first, second]}, {**swapped, "responses": [second, first]}

    return make


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200, deadline=None)
@given(text=texts, slack=st.integers(-30, 30))
def test_the_estimate_never_says_that_a_text_fits_which_does_not(tokenizer: Any, text: str, slack: int) -> None:
    tokens = len(tokenizer.encode(text, add_special_tokens=False))
    limit = max(0, tokens + slack)
    assert TokenEstimate(tokenizer).may_exceed(text, limit) or tokens <= limit


def test_the_estimate_decides_plain_english_without_tokenising_it(tokenizer: Any) -> None:
    text = "the rows of the file are read and the model returns a list of values " * 40
    tokens = len(tokenizer.encode(text, add_special_tokens=False))
    estimate = TokenEstimate(tokenizer)
    assert not estimate.may_exceed(text, int(tokens * 1.05))
    assert len(text) > int(tokens * 1.05)


def test_a_megabyte_in_one_word_is_estimated_by_its_bytes(tokenizer: Any) -> None:
    estimate = TokenEstimate(tokenizer)
    assert estimate.may_exceed("a" * (1 << 20), 4096)
    assert not estimate.may_exceed("a" * (1 << 20), 1 << 20)


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], max_examples=80, deadline=None
)
@given(
    first=texts.filter(str.strip),
    second=texts.filter(str.strip),
    query=st.lists(texts.filter(str.strip), min_size=1, max_size=3),
    limit=st.integers(60, 220),
)
def test_what_is_fitted_fits_in_both_orders_and_is_cut_alike(
    tokenizer: Any, make_rows: MakeRows, first: str, second: str, query: list[str], limit: int
) -> None:
    fit = fitter(tokenizer, limit)
    original, swapped = make_rows(1)
    messages: list[Message] = [{"role": "user", "content": text} for text in query]
    found = fit.fit({**original, "messages": messages, "responses": [first, second]})
    mirrored = fit.fit({**swapped, "messages": messages, "responses": [second, first]})
    assert (found is None) == (mirrored is None)
    if found and mirrored:
        assert found == {**original, "messages": mirrored["messages"], "responses": mirrored["responses"][::-1]}
        assert len(fit.tokens(fit.messages(found))) <= limit
        assert len(fit.tokens(fit.messages(mirrored))) <= limit
        assert all(
            shown == text or shown.endswith(CUT_MARK)
            for shown, text in zip(found["responses"], (first, second), strict=True)
        )
        assert all(
            turn["content"] == text or CUT_MARK in turn["content"]
            for turn, text in zip(found["messages"], query, strict=True)
        )


def test_a_prompt_that_fits_is_left_as_it_is(tokenizer: Any, pair: Callable[[str, str], tuple[Row, Row]]) -> None:
    row = pair("yes", "no")[0]
    assert fitter(tokenizer, 400).fit(row) is row


def test_a_prompt_of_exactly_the_limit_fits_and_one_token_more_does_not(
    tokenizer: Any, pair: Callable[[str, str], tuple[Row, Row]]
) -> None:
    row = pair("one two three", "four five six")[0]
    whole = fitter(tokenizer, 400, overlong="drop")
    longest = max(len(whole.tokens(whole.messages(order))) for order in pair("one two three", "four five six"))
    assert fitter(tokenizer, longest, overlong="drop").fit(row) is not None
    assert fitter(tokenizer, longest - 1, overlong="drop").fit(row) is None


def test_two_long_responses_keep_the_same_number_of_tokens(
    tokenizer: Any, pair: Callable[[str, str], tuple[Row, Row]]
) -> None:
    found = shown(fitter(tokenizer, 200), pair("word " * 900, "12345 " * 300)[0])
    kept = [len(tokenizer.encode(text.removesuffix(CUT_MARK), add_special_tokens=False)) for text in found]
    assert abs(kept[0] - kept[1]) <= 2
    assert min(kept) > 40


def test_a_short_response_stays_whole_and_the_long_one_gets_the_rest(
    tokenizer: Any, pair: Callable[[str, str], tuple[Row, Row]]
) -> None:
    found = shown(fitter(tokenizer, 200), pair("Yes.", "word " * 900)[0])
    assert found[0] == "Yes."
    assert found[1].endswith(CUT_MARK)
    assert len(tokenizer.encode(found[1], add_special_tokens=False)) > 80


def test_where_cutting_responses_suffices_nothing_else_is_cut(
    tokenizer: Any, pair: Callable[[str, str], tuple[Row, Row]]
) -> None:
    fit = fitter(tokenizer, 200, system="You judge.")
    row = pair("word " * 900, "other " * 900)[0]
    found = fit.fit(row)
    assert found
    system, prompt = fit.messages(found)
    assert system["content"] == "You judge."
    assert prompt["content"].startswith("Judge by the rubric.\nQuery: What is 0 and one?\nA: word")
    assert prompt["content"].endswith("\nOne verdict, please.")


def test_a_dense_beginning_does_not_make_a_response_longer_than_its_share(
    tokenizer: Any, pair: Callable[[str, str], tuple[Row, Row]]
) -> None:
    found = shown(fitter(tokenizer, 200), pair("🎉" * 100 + "word " * 300, "word " * 900)[0])
    assert found[0].startswith("🎉🎉")
    assert found[1].startswith("word word")


def test_the_longer_response_is_cut_to_the_length_of_the_other_before_that_is_cut(
    tokenizer: Any, pair: Callable[[str, str], tuple[Row, Row]]
) -> None:
    short = "other " * 50
    first, second = shown(fitter(tokenizer, 250), pair(short, "word " * 900)[0])
    assert first == short
    kept = len(tokenizer.encode(second.removesuffix(CUT_MARK), add_special_tokens=False))
    assert kept > len(tokenizer.encode(short, add_special_tokens=False))


def asked(row: Row, *turns: str) -> Row:
    return {**row, "messages": [{"role": "user", "content": text} for text in turns]}


def test_a_query_that_is_too_long_by_itself_loses_its_middle_and_the_responses_keep_a_quarter(
    tokenizer: Any, pair: Callable[[str, str], tuple[Row, Row]]
) -> None:
    fit = fitter(tokenizer, 200)
    found = fit.fit(asked(pair("word " * 900, "other " * 900)[0], f"Sum up: {'why ' * 900}. In French?"))
    assert found
    [turn] = found["messages"]
    assert re.fullmatch(r"Sum up: why .*why \[…\] .*why \. In French\?", turn["content"])
    kept = [tokens(tokenizer, text) for text in (turn["content"], *found["responses"])]
    assert 0.2 * sum(kept) < kept[1] + kept[2] < 0.35 * sum(kept)
    prompt = fit.messages(found)[0]["content"]
    assert prompt.startswith("Judge by the rubric.\nQuery: Sum up")
    assert prompt.endswith("\nOne verdict, please.")
    assert len(fit.tokens(fit.messages(found))) > 180


def test_beside_short_responses_a_long_query_keeps_all_the_rest(
    tokenizer: Any, pair: Callable[[str, str], tuple[Row, Row]]
) -> None:
    found = fitter(tokenizer, 200).fit(asked(pair("yes", "no")[0], "why " * 900))
    assert found
    assert found["responses"] == ["yes", "no"]
    assert tokens(tokenizer, found["messages"][0]["content"]) > 120


def test_the_longest_turn_of_a_conversation_is_cut_first(
    tokenizer: Any, pair: Callable[[str, str], tuple[Row, Row]]
) -> None:
    found = fitter(tokenizer, 200).fit(asked(pair("yes", "no")[0], "Hello.", "why " * 900, "In French, please."))
    assert found
    first, second, third = (turn["content"] for turn in found["messages"])
    assert (first, third) == ("Hello.", "In French, please.")
    assert CUT_MARK in second


def test_a_template_that_fills_the_prompt_cannot_be_made_to_fit(
    tokenizer: Any, pair: Callable[[str, str], tuple[Row, Row]]
) -> None:
    fit = fitter(tokenizer, 30, system="You judge with care. " * 9)
    assert fit.fit(asked(pair("word " * 900, "word " * 900)[0], "why " * 900)) is None


def test_dropping_takes_both_orders_of_a_pair(tokenizer: Any, pair: Callable[[str, str], tuple[Row, Row]]) -> None:
    fit = fitter(tokenizer, 100, overlong="drop")
    rows = [*pair("yes", "no"), *pair("word " * 90, "no"), *pair("é" * 90, "12345 " * 30)]
    kept = Counter(row["pair_id"] for row in rows if fit.fit(row) is not None)
    assert len(kept) == 1
    assert [fit.fit(row) is None for row in rows] == [False, False, True, True, True, True]


def test_the_chat_template_and_the_system_message_count(
    tokenizer: Any, pair: Callable[[str, str], tuple[Row, Row]]
) -> None:
    row = pair("yes", "no")[0]
    bare = fitter(tokenizer, 400)
    needed = len(bare.tokens(bare.messages(row)))
    assert fitter(tokenizer, needed + 4, overlong="drop").fit(row)
    assert fitter(tokenizer, needed + 4, overlong="drop", system="You judge with great care.").fit(row) is None
