"""The row contract: two adjacent rows a pair, and an identity that does not depend on the order."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pairwise_rm.contract.rows import (
    MAX_STRENGTH,
    PREFERENCES,
    Message,
    Pair,
    Preference,
    arrow_schema,
    both_orders,
    pair_id,
    swapped,
)

PROMPT: list[Message] = [{"role": "user", "content": "Why?"}]
words = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


def test_a_pair_makes_two_rows_that_mirror_each_other() -> None:
    first, second = both_orders(Pair(PROMPT, ("x", "y"), "A", 2, "s", "chat"))
    assert (first["order"], first["responses"], first["preferred"]) == ("original", ["x", "y"], "A")
    assert (second["order"], second["responses"], second["preferred"]) == ("swapped", ["y", "x"], "B")
    mirrored = {"order", "responses", "preferred"}
    assert {**first, **dict.fromkeys(mirrored)} == {**second, **dict.fromkeys(mirrored)}


@pytest.mark.parametrize("preference", PREFERENCES)
def test_swapping_twice_changes_nothing_and_a_tie_stays_one(preference: Preference) -> None:
    assert swapped(swapped(preference)) == preference
    assert (swapped(preference) == preference) == (preference == "tie")


@given(words, words, words)
def test_the_identity_of_a_pair_is_the_same_in_either_order(query: str, first: str, second: str) -> None:
    prompt: list[Message] = [{"role": "user", "content": query}]
    assert pair_id(prompt, [first, second]) == pair_id(prompt, [second, first])


def test_the_identity_tells_apart_where_one_text_ends_and_the_next_begins() -> None:
    assert pair_id(PROMPT, ["ab", "c"]) != pair_id(PROMPT, ["a", "bc"])
    assert pair_id(PROMPT, ["a", "b"]) != pair_id([*PROMPT, {"role": "a", "content": "b"}], ["a", "b"])


def test_the_identity_is_stable_across_versions() -> None:
    assert pair_id(PROMPT, ["x", "y"]) == pair_id([{"role": "user", "content": "Why?"}], ("y", "x"))
    assert pair_id(PROMPT, ["x", "y"]) == "b4a530f7e6af295f"


def test_the_rows_of_a_pair_fit_the_typed_columns() -> None:
    pa = pytest.importorskip("pyarrow")
    rows = list(both_orders(Pair(PROMPT, ("x", "y"), "tie", MAX_STRENGTH, "s")))
    assert pa.Table.from_pylist(rows, schema=arrow_schema()).to_pylist() == rows
