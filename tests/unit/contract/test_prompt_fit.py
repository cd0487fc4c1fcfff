"""Making prompts fit, with a real byte-level tokenizer: the estimate may not be wrong, the cut must be even."""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pairwise_rm.contract.prompt import PairwiseComparisonTemplate
from pairwise_rm.contract.prompt_fit import CUT_MARK, PromptFitter, TokenEstimate
from pairwise_rm.contract.rows import Row
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
@given(first=texts.filter(str.strip), second=texts.filter(str.strip), limit=st.integers(60, 220))
def test_what_is_fitted_fits_in_both_orders_and_is_cut_alike(
    tokenizer: Any, make_rows: MakeRows, first: str, second: str, limit: int
) -> None:
    fit = fitter(tokenizer, limit)
    original, swapped = make_rows(1)
    found = fit.fit({**original, "responses": [first, second]})
    assert fit.fit({**swapped, "responses": [second, first]}) == (found[::-1] if found else None)
    if found:
        assert len(fit.tokens(fit.messages(original, found))) <= limit
        assert all(
            shown == text or shown.endswith(CUT_MARK) for shown, text in zip(found, (first, second), strict=True)
        )


def test_a_prompt_that_fits_is_left_as_it_is(tokenizer: Any, pair: Callable[[str, str], tuple[Row, Row]]) -> None:
    assert fitter(tokenizer, 400).fit(pair("yes", "no")[0]) == ("yes", "no")


def test_a_prompt_of_exactly_the_limit_fits_and_one_token_more_does_not(
    tokenizer: Any, pair: Callable[[str, str], tuple[Row, Row]]
) -> None:
    row = pair("one two three", "four five six")[0]
    whole = fitter(tokenizer, 400, overlong="drop")
    longest = max(len(whole.tokens(whole.messages(row, shown))) for shown in (row["responses"], row["responses"][::-1]))
    assert fitter(tokenizer, longest, overlong="drop").fit(row) is not None
    assert fitter(tokenizer, longest - 1, overlong="drop").fit(row) is None


def test_two_long_responses_keep_the_same_number_of_tokens(
    tokenizer: Any, pair: Callable[[str, str], tuple[Row, Row]]
) -> None:
    found = fitter(tokenizer, 200).fit(pair("word " * 900, "12345 " * 300)[0])
    assert found
    kept = [len(tokenizer.encode(text.removesuffix(CUT_MARK), add_special_tokens=False)) for text in found]
    assert abs(kept[0] - kept[1]) <= 2
    assert min(kept) > 40


def test_a_short_response_stays_whole_and_the_long_one_gets_the_rest(
    tokenizer: Any, pair: Callable[[str, str], tuple[Row, Row]]
) -> None:
    found = fitter(tokenizer, 200).fit(pair("Yes.", "word " * 900)[0])
    assert found
    assert found[0] == "Yes."
    assert found[1].endswith(CUT_MARK)
    assert len(tokenizer.encode(found[1], add_special_tokens=False)) > 80


def test_only_responses_are_cut_never_the_query_the_rubric_or_the_output_rule(
    tokenizer: Any, pair: Callable[[str, str], tuple[Row, Row]]
) -> None:
    fit = fitter(tokenizer, 200, system="You judge.")
    row = pair("word " * 900, "other " * 900)[0]
    found = fit.fit(row)
    assert found
    system, prompt = fit.messages(row, found)
    assert system["content"] == "You judge."
    assert prompt["content"].startswith("Judge by the rubric.\nQuery: What is 0 and one?\nA: word")
    assert prompt["content"].endswith("\nOne verdict, please.")


def test_a_dense_beginning_does_not_make_a_response_longer_than_its_share(
    tokenizer: Any, pair: Callable[[str, str], tuple[Row, Row]]
) -> None:
    found = fitter(tokenizer, 200).fit(pair("🎉" * 100 + "word " * 300, "word " * 900)[0])
    assert found
    assert found[0].startswith("🎉🎉")
    assert found[1].startswith("word word")


def test_a_query_that_fills_the_prompt_cannot_be_made_to_fit(
    tokenizer: Any, pair: Callable[[str, str], tuple[Row, Row]]
) -> None:
    row = pair("word " * 900, "word " * 900)[0]
    assert fitter(tokenizer, 200).fit({**row, "messages": [{"role": "user", "content": "why " * 900}]}) is None


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
