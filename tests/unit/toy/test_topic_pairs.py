from __future__ import annotations

import json
import random
from collections import Counter
from itertools import islice
from pathlib import Path

import pytest

from pairwise_rm.convert.converters import HelpSteer2PairwiseConverter
from pairwise_rm.toy.smoke import TRAIN_DRAWS, VAL_DRAWS, write_pairs
from pairwise_rm.toy.topic_pairs import (
    RESPONSES,
    TOPICS,
    Split,
    TopicPair,
    helpsteer2_row,
    pairs,
    stream,
    strength,
    topic_combinations,
)


def combination(pair: TopicPair) -> tuple[str, ...]:
    return tuple(sorted(pair.topics))


def test_held_out_combinations_occur_in_training_in_neither_direction() -> None:
    train = {combination(pair) for pair in pairs("train", 0, TRAIN_DRAWS)}
    held_out = {combination(pair) for pair in pairs("val", 0, VAL_DRAWS)}

    assert held_out
    assert train
    assert held_out.isdisjoint(train)


def test_the_search_split_lies_inside_training_and_away_from_the_held_out_one() -> None:
    dev = set(topic_combinations("dev"))

    assert dev < set(topic_combinations("train"))
    assert dev.isdisjoint(topic_combinations("val"))


@pytest.mark.parametrize(("split", "draws"), [("train", TRAIN_DRAWS), ("val", VAL_DRAWS)])
def test_a_response_alone_says_nothing_since_every_topic_is_preferred_as_often_as_not(split: Split, draws: int) -> None:
    found = pairs(split, 3, draws)
    preferred = Counter(pair.wanted for pair in found)
    rejected = Counter(pair.other for pair in found)

    assert preferred == rejected


def test_every_topic_is_judged_in_training() -> None:
    assert {pair.wanted for pair in pairs("train", 0, TRAIN_DRAWS)} == {t for group in TOPICS.values() for t in group}


@pytest.mark.parametrize("split", ["train", "val"])
def test_the_first_response_is_preferred_exactly_half_the_time(split: Split) -> None:
    labels = Counter(pair.preferred for pair in pairs(split, 5, 1))

    assert labels["A"] == labels["B"] > 0


def test_the_wording_of_a_response_is_no_hint_either() -> None:
    found = pairs("train", 0, 4)
    for position in (0, 1):
        openings = Counter((pair.responses[position].split()[0], pair.preferred) for pair in found)
        for opening in {text.split()[0] for text in RESPONSES}:
            share = openings[opening, "A"] / (openings[opening, "A"] + openings[opening, "B"])
            assert 0.44 < share < 0.56


def test_no_pair_occurs_twice_in_either_order() -> None:
    found = pairs("train", 0, 4)

    assert len({(pair.query, *sorted(pair.responses)) for pair in found}) == len(found) == 432 * 2 * 4


def test_the_seed_decides_the_sentences_and_nothing_else_does() -> None:
    assert pairs("train", 7, 1) == pairs("train", 7, 1)
    assert pairs("train", 7, 1) != pairs("train", 8, 1)


def test_the_sizes_are_those_that_the_readme_names(tmp_path: Path) -> None:
    write_pairs(tmp_path / "preference.jsonl", 1)
    lines = (tmp_path / "preference.jsonl").read_text().splitlines()
    splits = Counter(json.loads(line)["split"] for line in lines)

    assert splits == {"train": 864, "val": 128}


def test_a_row_has_helpsteer2s_fields_and_a_negative_strength_prefers_the_first_response() -> None:
    for pair in pairs("val", 0, 1):
        row = helpsteer2_row(pair, "val")
        assert list(row) == [
            "split",
            "prompt",
            "response_1",
            "response_2",
            "preference_strength",
            "preference_statement",
            "preference_elaboration",
            "three_most_similar_preferences",
            "all_preferences_unprocessed",
        ]
        signed = row["preference_strength"]
        assert isinstance(signed, int)
        assert 1 <= abs(signed) <= 3
        assert (signed < 0) == (pair.preferred == "A")


def test_a_topic_further_away_makes_a_stronger_preference() -> None:
    assert (strength("river", "desert"), strength("river", "tiger"), strength("river", "robot")) == (1, 2, 3)
    assert all(strength(a, b) == strength(b, a) for a, b in topic_combinations("train"))


def test_the_converter_takes_every_row_as_it_is() -> None:
    converter = HelpSteer2PairwiseConverter()
    for pair in pairs("val", 0, 1):
        converted, split = converter.convert(helpsteer2_row(pair, "val"))
        assert split == "test"
        assert converted.messages == [{"role": "user", "content": pair.query}]
        assert converted.responses == pair.responses
        assert converted.preferred == pair.preferred
        assert converted.strength == strength(pair.wanted, pair.other)


def test_the_warm_start_meets_no_held_out_combination() -> None:
    met = {combination(pair) for pair in islice(stream(random.Random(0), topic_combinations("train")), 4000)}

    assert met == set(topic_combinations("train"))
