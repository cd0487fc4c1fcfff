"""The smoke task: pairs of short sentences whose right answer needs a comparison with the query.

A query asks for one of 32 topics. One response is about that topic, the other about another topic, and the
first is preferred. A response alone says nothing: over a whole split every topic is preferred exactly as
often as it is not, and the wording is drawn the same way on both sides. So a judge has to compare the query with both
responses.

The splits are made of combinations of two topics ({river, castle}, for example), never of sentences: a combination of
`val` occurs in `train` in neither direction. `dev` is a part of train's combinations that a search for hyper-parameters
holds out, so that nothing is ever tuned on `val`.

The combinations are the same for every seed; the seed draws the sentences.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import Literal, NamedTuple

from pairwise_rm.contract.rows import Preference

TOPICS = {
    "land": ("river", "desert", "glacier", "forest", "garden", "valley", "volcano", "meadow"),
    "creature": ("tiger", "dragon", "wizard", "pirate", "rabbit", "parrot", "whale", "spider"),
    "building": ("castle", "museum", "bakery", "harbor", "bridge", "library", "market", "temple"),
    "machine": ("rocket", "robot", "violin", "lantern", "camera", "piano", "compass", "train"),
}
_GROUP = {topic: group for group, topics in TOPICS.items() for topic in topics}
_MADE_BY_PEOPLE = ("building", "machine")
ADJECTIVES = ("old", "bright", "quiet", "strange", "famous", "tiny", "noisy", "golden", "simple", "lonely")
QUERIES = (
    "Write one sentence about the {topic}.",
    "Please tell me something about a {topic}.",
    "I want to read about the {topic}.",
    "Give me a short line on the {topic}.",
    "Can you describe a {topic} for me?",
)
RESPONSES = (
    "The {topic} is very {adjective} today.",
    "Many people like the {adjective} {topic}.",
    "I once saw a {topic} that was {adjective}.",
    "My {adjective} friend has a {topic}.",
    "It is a {adjective} story about the {topic}.",
)
_MUCH = {1: "slightly better", 2: "better", 3: "much better"}

Split = Literal["train", "dev", "val"]
_VAL, _DEV = 64, 40  # of 496 combinations; the other 392 are in train alone


class TopicPair(NamedTuple):
    """One pair. `wanted` is what the query asks for, `topics` what the two responses are about."""

    query: str
    responses: tuple[str, str]
    wanted: str
    topics: tuple[str, str]

    @property
    def preferred(self) -> Preference:
        return "A" if self.topics[0] == self.wanted else "B"

    @property
    def other(self) -> str:
        return self.topics[1] if self.preferred == "A" else self.topics[0]

    def swapped(self) -> TopicPair:
        (first, second), (one, two) = self.responses, self.topics
        return self._replace(responses=(second, first), topics=(two, one))


def topic_combinations(split: Split) -> list[tuple[str, str]]:
    """The unordered combinations of a split; `dev` is a part of `train`, `val` is disjoint from both."""
    every = list(combinations(sorted(_GROUP), 2))
    random.Random("pairwise-rm smoke combinations").shuffle(every)
    return {"val": every[:_VAL], "train": every[_VAL:], "dev": every[_VAL : _VAL + _DEV]}[split]


def strength(wanted: str, other: str) -> int:
    """1 when both topics are of one group (river, desert), 2 when both are natural or both made, else 3."""
    one, two = _GROUP[wanted], _GROUP[other]
    if one == two:
        return 1
    return 2 if (one in _MADE_BY_PEOPLE) == (two in _MADE_BY_PEOPLE) else 3


def _response(rng: random.Random, topic: str) -> str:
    return rng.choice(RESPONSES).format(topic=topic, adjective=rng.choice(ADJECTIVES))


def draw(rng: random.Random, wanted: str, other: str, preferred: Preference) -> TopicPair:
    """One pair that asks for `wanted`, its sentences drawn from `rng`."""
    query = rng.choice(QUERIES).format(topic=wanted)
    pair = TopicPair(query, (_response(rng, wanted), _response(rng, other)), wanted, (wanted, other))
    return pair if preferred == "A" else pair.swapped()


def pairs(split: Split, seed: int, draws: int) -> list[TopicPair]:
    """`draws` different pairs for each combination and direction of a split, shuffled.

    Exactly balanced: each topic is preferred as often as not, the first response as often as the second.
    """
    rng = random.Random(f"pairwise-rm smoke {split} {seed}")
    found: dict[tuple[str, ...], TopicPair] = {}
    for number, (one, two) in enumerate(topic_combinations(split)):
        for direction, (wanted, other) in enumerate(((one, two), (two, one))):
            wished = len(found) + draws
            while len(found) < wished:
                first = (number + direction + wished - len(found)) % 2 == 0
                pair = draw(rng, wanted, other, "A" if first else "B")
                found.setdefault((pair.query, *sorted(pair.responses)), pair)
    result = list(found.values())
    rng.shuffle(result)
    return result


def stream(rng: random.Random, allowed: Sequence[tuple[str, str]]) -> Iterator[TopicPair]:
    """Endless pairs over the `allowed` combinations, both directions and orders equally likely."""
    while True:
        wanted, other = rng.sample(rng.choice(allowed), 2)
        yield draw(rng, wanted, other, "A" if rng.random() < 0.5 else "B")


def helpsteer2_row(pair: TopicPair, split: Literal["train", "val"]) -> dict[str, object]:
    """The pair as a line of HelpSteer2's preference.jsonl; a negative strength prefers response_1."""
    size = strength(pair.wanted, pair.other)
    signed = -size if pair.preferred == "A" else size
    better, worse = ("@Response 1", "@Response 2") if pair.preferred == "A" else ("@Response 2", "@Response 1")
    statement = f"{better} is {_MUCH[size]} than {worse}."
    elaboration = f"{better} is about the {pair.wanted} that was asked for, {worse} is about the {pair.other}."
    return {
        "split": split,
        "prompt": pair.query,
        "response_1": pair.responses[0],
        "response_2": pair.responses[1],
        "preference_strength": signed,
        "preference_statement": statement,
        "preference_elaboration": elaboration,
        "three_most_similar_preferences": [{"statement": statement, "elaboration": elaboration, "strength": signed}],
        "all_preferences_unprocessed": [{"strength": signed, "justification": elaboration}],
    }
