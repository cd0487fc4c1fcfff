"""The figures of an evaluation: a table small enough to count by hand, and what must hold for any table."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

np = pytest.importorskip("numpy")

from pairwise_rm.errors import StageError  # noqa: E402
from pairwise_rm.evaluate.bootstrap import Measure, estimate  # noqa: E402
from pairwise_rm.evaluate.comparison import compare  # noqa: E402
from pairwise_rm.evaluate.metrics import measure  # noqa: E402
from pairwise_rm.evaluate.verdict_arrays import COUNTED, table_of  # noqa: E402

FEW = 200  # resamples


def row(pair: str, order: str, preferred: str, verdict: str | None, **more: Any) -> dict[str, Any]:
    base = {
        "pair_id": pair,
        "prompt_id": pair,
        "order": order,
        "preferred": preferred,
        "verdict": verdict,
        "reason": None if verdict else "no_verdict",
        "strength": 1,
        "subset": None,
        "length_a": 10,
        "length_b": 20,
        "samples_right": float(verdict == preferred),
    }
    return {**base, **more}


def table(rows: list[dict[str, Any]]) -> Any:
    return table_of({name: [one[name] for one in rows] for name in COUNTED})


def both(pair: str, preferred: str, first: str | None, second: str | None, **more: Any) -> list[dict[str, Any]]:
    """A pair in both orders; `preferred` and `first` in the original order, `second` as shown when swapped."""
    other = {"A": "B", "B": "A", "tie": "tie"}[preferred]
    return [
        row(pair, "original", preferred, first, **more),
        row(pair, "swapped", other, second, **{**more, "length_a": 20, "length_b": 10}),
    ]


HAND = [
    *both("p1", "A", "A", "B", subset="x", strength=3),  # right in both orders
    *both("p2", "A", "A", "A", subset="x"),  # always says A: right, then wrong
    *both("p3", "B", "A", "B", subset="y"),  # wrong in both orders, and consistent
    *both("p4", "tie", "tie", None, subset="y", strength=0),  # right, then invalid
]


def test_the_figures_of_four_pairs_are_those_counted_by_hand() -> None:
    figures = measure(table(HAND), samples=1, resamples=FEW, seed=1)
    value = {
        name: figures[name]["value"] for name in figures if isinstance(figures[name], dict) and "low" in figures[name]
    }
    assert value["accuracy"] == 4 / 8
    assert value["both_orders_right"] == 1 / 4
    assert value["position_consistency"] == 2 / 4
    assert value["share_a"] == 4 / 6
    assert value["invalid"] == 1 / 8
    assert value["binary_accuracy"] == 3 / 6
    assert value["macro_accuracy"] == pytest.approx((3 / 4 + 1 / 4) / 2)
    assert value["preferred_shorter"] == 3 / 4
    assert value["preferred_longer"] == 0 / 2
    assert {order: one["value"] for order, one in figures["by_order"].items()} == {"original": 3 / 4, "swapped": 1 / 4}
    assert {name: one["value"] for name, one in figures["by_strength"].items()} == {"0": 1 / 2, "1": 1 / 4, "3": 1.0}
    assert figures["invalid_by_reason"] == {"no_verdict": 1}
    assert figures["verdicts"] == {"A": 4, "B": 2, "tie": 1, "invalid": 1}


def test_a_measure_without_rows_is_null_and_no_number() -> None:
    figures = measure(table([row("p", "original", "tie", "tie")]), samples=1, resamples=FEW, seed=1)
    assert figures["binary_accuracy"] == {"value": None, "low": None, "high": None, "n": 0}
    assert figures["both_orders_right"]["value"] is None


def test_a_lone_order_of_a_pair_is_in_no_pair_measure() -> None:
    figures = measure(table([*HAND, row("p5", "original", "A", "A")]), samples=1, resamples=FEW, seed=1)
    assert figures["both_orders_right"]["n"] == 4


rows_strategy = st.lists(
    st.tuples(
        st.sampled_from(["p1", "p2", "p3", "p4", "p5"]),
        st.sampled_from(["A", "B", "tie"]),
        st.sampled_from(["A", "B", "tie", None]),
        st.sampled_from(["A", "B", "tie", None]),
        st.sampled_from(["x", "y", None]),
    ),
    min_size=1,
    max_size=12,
).map(
    lambda pairs: [
        one
        for at, (p, label, a, b, s) in enumerate(pairs)
        for one in both(f"{p}{at}", label, a, b, subset=s, prompt_id=p)
    ]
)


def intervals(figures: Any) -> list[dict[str, Any]]:
    if isinstance(figures, dict):
        return [figures] if "low" in figures else [one for value in figures.values() for one in intervals(value)]
    return []


@given(rows_strategy)
@settings(max_examples=40, deadline=None)
def test_every_interval_contains_its_estimate_and_stays_between_0_and_1(rows: list[dict[str, Any]]) -> None:
    found = intervals(measure(table(rows), samples=1, resamples=100, seed=3))
    assert found
    for one in found:
        if one["low"] is None:
            assert one["high"] is None
        else:
            assert 0 <= one["low"] <= one["value"] <= one["high"] <= 1
            assert one["low"] < one["high"]


@given(rows_strategy, st.randoms(use_true_random=False))
@settings(max_examples=40, deadline=None)
def test_the_order_of_the_rows_changes_no_value(rows: list[dict[str, Any]], random: Any) -> None:
    shuffled = list(rows)
    random.shuffle(shuffled)
    values = [
        [one["value"] for one in intervals(_sorted(measure(table(r), samples=1, resamples=100, seed=3)))]
        for r in (rows, shuffled)
    ]
    assert values[0] == pytest.approx(values[1])


def _sorted(figures: dict[str, Any]) -> dict[str, Any]:
    return {key: _sorted(value) if isinstance(value, dict) else value for key, value in sorted(figures.items())}


def test_the_same_seed_gives_the_same_interval_and_another_seed_another() -> None:
    rows = [one for at in range(60) for one in both(f"p{at}", "A", "A", "AB"[at % 2])]
    first, again, other = (measure(table(rows), samples=1, resamples=FEW, seed=s)["accuracy"] for s in (1, 1, 2))
    assert first == again
    assert first != other


def test_clustering_widens_the_interval_where_prompts_are_repeated() -> None:
    """Ten copies of each of 20 prompts say no more than 20 prompts: the interval must not shrink."""
    rng = np.random.default_rng(0)
    right = np.repeat(rng.integers(0, 2, 20), 10).astype(float)
    ones = np.ones(200)
    alone = estimate({"x": Measure(right, ones, np.arange(200))}, resamples=500, seed=1)["x"]
    clustered = estimate({"x": Measure(right, ones, np.repeat(np.arange(20), 10))}, resamples=500, seed=1)["x"]
    assert alone.high is not None
    assert clustered.high is not None
    assert alone.low is not None
    assert clustered.low is not None
    assert clustered.high - clustered.low > 2 * (alone.high - alone.low)


def test_all_right_is_no_certainty() -> None:
    """40 prompts out of 40: the exact lower bound is 0.025 ** (1 / 40)."""
    found = estimate({"x": Measure(np.ones(40), np.ones(40), np.arange(40))}, resamples=100, seed=1)["x"]
    assert (found.value, found.high) == (1.0, 1.0)
    assert found.low == pytest.approx(0.025 ** (1 / 40))


def test_one_prompt_has_no_interval_whatever_it_says() -> None:
    """A subset of one prompt, of which ten pairs were judged."""
    for right in (np.ones(10), np.zeros(10), np.arange(10) % 2):
        found = estimate({"x": Measure(right, np.ones(10), np.zeros(10, dtype=int))}, resamples=100, seed=1)["x"]
        assert (found.value, found.low, found.high, found.n) == (right.mean(), None, None, 10)


def test_a_judge_that_always_says_a_has_no_interval_of_width_zero() -> None:
    """Each prompt is right in one of two orders, so that all resamples are alike."""
    figures = measure(
        table([one for at in range(9) for one in both(f"p{at}", "A", "A", "A")]), samples=1, resamples=FEW, seed=1
    )
    assert figures["accuracy"] == {"value": 0.5, "low": None, "high": None, "n": 18}
    assert figures["both_orders_right"]["high"] == pytest.approx(1 - 0.025 ** (1 / 9))


def test_the_bootstrap_covers_the_truth_about_as_often_as_it_claims() -> None:
    rng = np.random.default_rng(5)
    hits = 0
    for trial in range(200):
        sample = (rng.random(100) < 0.7).astype(float)
        found = estimate({"x": Measure(sample, np.ones(100), np.arange(100))}, resamples=200, seed=trial)["x"]
        assert found.low is not None
        assert found.high is not None
        hits += found.low <= 0.7 <= found.high
    assert 0.88 <= hits / 200 <= 0.99


def test_a_paired_comparison_counts_what_was_fixed_and_broken() -> None:
    after = [*both("p1", "A", "B", "B"), *both("p2", "A", "A", "B"), *both("p3", "B", "B", "A"), *HAND[6:]]
    found = compare(table(HAND), table(after), resamples=FEW, seed=1)
    assert (found["rows"], found["fixed"], found["broken"]) == (8, 3, 1)
    assert (found["pairs_fixed"], found["pairs_broken"]) == (2, 1)
    assert found["difference"]["accuracy"]["value"] == pytest.approx(2 / 8)


def test_a_paired_interval_is_narrower_than_two_separate_ones() -> None:
    rng = np.random.default_rng(1)
    old = [one for at in range(80) for one in both(f"p{at}", "A", "AB"[rng.integers(2)], "B")]
    new = [dict(one, verdict=one["preferred"]) if at % 16 == 0 else one for at, one in enumerate(old)]
    paired = compare(table(old), table(new), resamples=500, seed=1)["difference"]["accuracy"]
    alone = measure(table(new), samples=1, resamples=500, seed=1)["accuracy"]
    assert paired["high"] - paired["low"] < alone["high"] - alone["low"]


def test_a_comparison_ignores_the_order_of_rows_and_counts_those_of_one_side() -> None:
    found = compare(table(HAND), table([*reversed(HAND), row("p9", "original", "A", "B")]), resamples=FEW, seed=1)
    assert (found["rows"], found["rows_only_after"], found["fixed"], found["broken"]) == (8, 1, 0, 0)
    assert found["difference"]["both_orders_right"]["value"] == 0


def test_evaluations_without_a_common_row_are_refused() -> None:
    with pytest.raises(StageError, match="share no row"):
        compare(table(HAND), table([row("q", "original", "A", "A")]), resamples=FEW, seed=1)
