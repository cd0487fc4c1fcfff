"""The reward of a verdict: an exact match, and the recipe's options for the rest."""

from __future__ import annotations

import inspect
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pairwise_rm.contract.rows import PREFERENCES
from pairwise_rm.contract.verdict import INVALID_REASONS
from pairwise_rm.recipe.model import RewardConfig
from pairwise_rm.train.reward import compute_score

KEYS = {"score", "acc", "valid", "said_a", "said_b", "said_tie", *(f"invalid/{reason}" for reason in INVALID_REASONS)}


def said(value: str) -> str:
    return f"<think>x</think><preference>{value}</preference>"


def score(text: str, truth: str, strength: int | None = 2, **options: Any) -> dict[str, float]:
    return compute_score("s", text, truth, {"strength": strength}, **options)


@pytest.mark.parametrize("verdict", PREFERENCES)
@pytest.mark.parametrize("truth", PREFERENCES)
def test_an_exact_match_pays_1_and_anything_else_0(verdict: str, truth: str) -> None:
    found = score(said(verdict), truth)
    assert found["score"] == found["acc"] == float(verdict == truth)
    assert found["valid"] == found[f"said_{verdict.lower()}"] == 1


@pytest.mark.parametrize(
    "text", ["", "Response A has better properties", "<preference>A</preference>", said("A") + "!"]
)
@pytest.mark.parametrize("truth", PREFERENCES)
def test_what_is_not_the_whole_format_is_never_paid(text: str, truth: str) -> None:
    found = score(text, truth, tie_credit=0.5)
    assert (found["score"], found["acc"], found["valid"]) == (0, 0, 0)
    assert sum(found[f"invalid/{reason}"] for reason in INVALID_REASONS) == 1
    assert found["said_a"] == found["said_b"] == found["said_tie"] == 0


@given(st.one_of(st.text(max_size=40), st.sampled_from(PREFERENCES).map(said)), st.sampled_from(PREFERENCES))
def test_the_keys_are_the_same_always_and_the_values_finite_floats(text: str, truth: str) -> None:
    found = score(text, truth, weight_by_strength=True, tie_credit=0.3, invalid_penalty=0.2)
    assert set(found) == KEYS
    assert all(type(value) is float and math.isfinite(value) for value in found.values())
    assert -0.2 <= found["score"] <= 1


@pytest.mark.parametrize(
    ("verdict", "truth", "paid"),
    [("tie", "A", 0.4), ("B", "tie", 0.4), ("tie", "tie", 1), ("B", "A", 0), ("A", "A", 1)],
)
def test_a_tie_on_one_side_earns_the_tie_credit(verdict: str, truth: str, paid: float) -> None:
    found = score(said(verdict), truth, tie_credit=0.4)
    assert (found["score"], found["acc"]) == (paid, float(verdict == truth))


@pytest.mark.parametrize(("strength", "paid"), [(1, 1 / 3), (2, 2 / 3), (3, 1)])
def test_the_pay_can_be_weighted_by_strength_while_accuracy_is_not(strength: int, paid: float) -> None:
    found = score(said("B"), "B", strength, weight_by_strength=True)
    assert found["score"] == pytest.approx(paid)
    assert found["acc"] == 1


def test_a_tie_pays_in_full_whatever_its_strength() -> None:
    assert score(said("tie"), "tie", 0, weight_by_strength=True)["score"] == 1


@pytest.mark.parametrize("extra", [None, {}, {"strength": None}, {"strength": -1}, {"strength": 0}, {"strength": 4}])
def test_weighting_a_row_without_strength_is_an_error_and_not_a_score(extra: dict[str, Any] | None) -> None:
    with pytest.raises(ValueError, match="strength"):
        compute_score("s", said("A"), "A", extra, weight_by_strength=True)


def test_invalid_output_costs_the_penalty() -> None:
    assert score("rambling", "A", invalid_penalty=0.5)["score"] == -0.5


def test_a_negative_penalty_would_pay_for_invalid_output_and_is_refused() -> None:
    with pytest.raises(ValueError, match="invalid_penalty"):
        score(said("A"), "A", invalid_penalty=-0.5)


@pytest.mark.parametrize("truth", ["", "C", "a", "Tie", None])
def test_an_unknown_label_is_an_error_and_not_a_tie(truth: Any) -> None:
    with pytest.raises(ValueError, match="ground truth"):
        score(said("tie"), truth)


@pytest.mark.parametrize(
    ("thinking", "text"),
    [
        ("response", "<think>x</think><preference>A</preference>"),
        ("prompt", "x</think><preference>A</preference>"),
        ("closed", "<preference>A</preference>"),
    ],
)
def test_where_the_reasoning_opened_decides_what_is_valid(thinking: str, text: str) -> None:
    paid = {mode: score(text, "A", thinking=mode)["score"] for mode in ("response", "prompt", "closed")}
    assert paid == {mode: float(mode == thinking) for mode in paid}


def test_the_options_of_the_recipe_are_the_arguments_of_the_reward_with_the_same_defaults() -> None:
    arguments = inspect.signature(compute_score).parameters.values()
    options = {argument.name: argument.default for argument in arguments if argument.kind is argument.KEYWORD_ONLY}
    assert options == {"thinking": "response", **RewardConfig().model_dump(exclude={"function"})}


def test_an_argument_that_the_reward_does_not_have_is_an_error() -> None:
    with pytest.raises(TypeError, match="tie_crdeit"):
        score(said("A"), "A", tie_crdeit=0.5)
