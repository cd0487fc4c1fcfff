"""What holds for any pairs at all."""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pairwise_rm.contract.prompt_identity import normalised_prompt
from pairwise_rm.contract.rows import TEST_FILE, TRAIN_FILE, swapped
from pairwise_rm.convert.converters import SeveralPairs, get_converter
from pairwise_rm.convert.fields import RowError
from pairwise_rm.convert.presets import presets
from pairwise_rm.convert.run import convert
from pairwise_rm.errors import InputError
from tests.unit.convert.samples import all_rows, config, manifest, read, write_lines
from tests.unit.convert.test_presets import example

TEXT = st.text(st.characters(codec="utf-8"), max_size=12)
WORDS = st.sampled_from(["a", "A ", "b", "Straße", "STRASSE", "c\u00a0d", "c d", "\u3000c\td", "<extra_id_1>User\n"])
RAW = st.fixed_dictionaries(
    {
        "prompt": WORDS | TEXT | st.none(),
        "response_1": WORDS | TEXT,
        "response_2": WORDS | TEXT,
        "preference_strength": st.integers(-4, 4) | st.booleans(),
    },
    optional={"split": st.sampled_from(["train", "val", "test"]), "subset": TEXT | st.none()},
)


@settings(max_examples=25, deadline=None)
@given(raws=st.lists(RAW, min_size=1, max_size=30), seed=st.integers(0, 5), ties=st.sampled_from(["keep", "drop"]))
def test_orders_are_adjacent_no_prompt_is_on_both_sides_and_the_counts_add_up(
    raws: list[dict[str, Any]], seed: int, ties: str
) -> None:
    # Two pairs that fall on either side for every seed keep both sides from being empty.
    raws = raws + [
        {"prompt": f"fixed {n}", "response_1": "x", "response_2": "y", "preference_strength": 3} for n in range(12)
    ]
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "out"
        source = write_lines(Path(folder) / "pairs.jsonl", raws)
        export = {"split_ratio": {"train": 0.5, "test": 0.5}, "split_seed": seed}
        counts = convert(config(source, export=export, ties=ties, max_rejected=len(raws)), output).counts

        assert counts.read == len(raws) == counts.kept + counts.dropped_total + counts.rejected_total
        assert manifest(output)["counts"]["kept"] == counts.kept
        rows = all_rows(output)
        assert len(rows) == 2 * counts.kept
        for original, reverse in zip(rows[::2], rows[1::2], strict=True):
            assert (original["order"], reverse["order"]) == ("original", "swapped")
            assert original["responses"] == reverse["responses"][::-1]
            assert original["preferred"] == swapped(reverse["preferred"])
            for key in ("pair_id", "messages", "strength", "source", "subset"):
                assert original[key] == reverse[key]
        assert max(Counter(row["pair_id"] for row in rows).values()) == 2
        train = {normalised_prompt(row["messages"]) for row in read(output, TRAIN_FILE)}
        test = {normalised_prompt(row["messages"]) for row in read(output, TEST_FILE)}
        assert not train & test


SUFFIXES = [".jsonl", ".jsonl.gz", ".jsonl.zst", ".json", ".json.gz", ".csv", ".tsv", ".parquet"]
SIGNS = st.text('[]{}",:\n\r\t 1eNa\\u\ufeff\x00', max_size=40).map(str.encode)


@settings(max_examples=200, deadline=None)
@given(content=st.binary(max_size=300) | SIGNS, suffix=st.sampled_from(SUFFIXES))
def test_any_bytes_are_refused_as_bad_input_and_leave_nothing(content: bytes, suffix: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / f"pairs{suffix}"
        source.write_bytes(content)
        with pytest.raises(InputError) as caught:
            convert(config(source, max_rejected=1000), Path(folder) / "out")
        assert "\n" not in str(caught.value)
        assert list(Path(folder).iterdir()) == [source]


WORDS_OF_ROWS = ["A", "tie", "(equal)", "\n\nHuman: x\n\nAssistant:", "\n\nHuman:", "Human: \n\nAssistant: x"]
KEYS_OF_ROWS = ["role", "content", "from", "value", "type", "text", "answer", "rank"]
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.floats() | st.sampled_from(WORDS_OF_ROWS) | TEXT,
    lambda below: (
        st.lists(below, max_size=3)
        | st.dictionaries(
            st.sampled_from(["role", "content", "from", "value", "type", "text", "answer", "rank"]), below
        )
        | st.fixed_dictionaries({"role": st.sampled_from(["user", "assistant", "human", "bot"]), "content": below})
    ),
    max_leaves=6,
)


@pytest.mark.parametrize("source", presets())
@settings(max_examples=100, deadline=None)
@given(at=st.integers(0, 4), changes=st.lists(st.tuples(st.integers(0, 30), VALUES), min_size=1, max_size=2))
def test_an_example_with_any_other_values_is_a_pair_or_a_row_error_of_one_line(
    source: str, at: int, changes: list[tuple[int, Any]]
) -> None:
    row = example(source)[at]
    for which, value in changes:
        row[list(row)[which % len(row)]] = value
    try:
        found = get_converter(source).convert(row)
    except RowError as error:
        message = str(error)
    else:
        message = ""
        for one in found.pairs if isinstance(found, SeveralPairs) else [found]:
            assert one.pair.messages[-1]["role"] == "user"
            json.dumps(one.pair, ensure_ascii=False).encode()
    assert "\n" not in message
