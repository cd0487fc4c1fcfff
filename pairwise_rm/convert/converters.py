"""From one raw row of a source to one preference pair, by the source's name.

A converter is pure: it takes a parsed row and returns a `Converted`, or raises a `RowError` that says what
is wrong with the row. To add a source, write a converter and put it into `CONVERTERS`.

>>> row = {"prompt": "Why?", "response_1": "Because.", "response_2": "No idea.", "preference_strength": -2}
>>> HelpSteer2PairwiseConverter().convert(row).pair.preferred
'A'
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple, Protocol

from pairwise_rm.contract.rows import Message, Pair
from pairwise_rm.convert import fields
from pairwise_rm.convert.fields import RowError
from pairwise_rm.convert.generic import generic_pair
from pairwise_rm.errors import InputError

Side = Literal["train", "test"]
SIDES: tuple[Side, ...] = ("train", "test")

_TURN = re.compile(r"\n?<extra_id_1>(Assistant|User)(?:\n|$)")
_TURN_START = "<extra_id_1>"


class Converted(NamedTuple):
    """`split` is the source's own: "train", "test" (whatever the source calls it), or None if it has none."""

    pair: Pair
    split: Side | None


class HubFile(NamedTuple):
    """A source's file on the Hugging Face hub; `sha256` None: not checked, `revision` None: the newest."""

    repo: str
    path: str
    revision: str | None = None
    sha256: str | None = None


class Converter(Protocol):
    name: str
    hub: HubFile | None

    def convert(self, row: Mapping[str, Any]) -> Converted: ...


class HelpSteer2PairwiseConverter:
    """HelpSteer2's preference rows: `prompt`, `response_1`, `response_2`, `preference_strength`, `split`.

    Turns of a prompt are joined by `<extra_id_1>Assistant` and `<extra_id_1>User` lines; the first user turn
    carries no marker. The validation rows (`val`) are the test side. A row's `subset` is kept.
    """

    name = "helpsteer2_pairwise"
    hub: HubFile | None = HubFile(
        repo="nvidia/HelpSteer2",
        path="preference/preference.jsonl.gz",
        revision="990b2711a36180dd19d9c94b8627844866f8982a",
        sha256="a5cd48600fb7a330cf0ccc8f59051e24e8f236907c379f42eff1ba18da55204b",
    )
    _splits: Mapping[str, Side] = {"train": "train", "val": "test"}

    def convert(self, row: Mapping[str, Any]) -> Converted:
        turns = marked_turns(fields.text(row, "prompt"))
        responses = fields.two_responses(row, "response_1", "response_2")
        preferred, strength = fields.signed_strength(row, "preference_strength")
        subset = fields.optional_text(row, "subset")
        pair = Pair(turns, responses, preferred, strength, self.name, subset)
        return Converted(pair, official_split(row, self._splits))


class HelpSteer3PreferenceConverter:
    """HelpSteer3-Preference rows: `context` (turns), `response1`, `response2`, `overall_preference`, `domain`.

    `domain` becomes the subset. The rows name no split (the hub keeps the validation rows in another file),
    so they need `split_ratio`, unless a `split` field was added.
    """

    name = "helpsteer3_preference"
    hub: HubFile | None = HubFile(repo="nvidia/HelpSteer3", path="preference/train.jsonl.gz")
    _splits: Mapping[str, Side] = {"train": "train", "val": "test", "validation": "test"}

    def convert(self, row: Mapping[str, Any]) -> Converted:
        turns = fields.prompt_checked("context", fields.messages(row, "context"))
        responses = fields.two_responses(row, "response1", "response2")
        preferred, strength = fields.signed_strength(row, "overall_preference")
        subset = fields.optional_text(row, "domain")
        pair = Pair(turns, responses, preferred, strength, self.name, subset)
        return Converted(pair, official_split(row, self._splits))


class GenericPairwiseConverter:
    """Any pairs: a prompt, two responses and a label; `pairwise_rm.convert.generic` lists the fields."""

    name = "generic_pairwise"
    hub: HubFile | None = None
    _splits: Mapping[str, Side] = {"train": "train", "val": "test", "validation": "test", "test": "test"}

    def convert(self, row: Mapping[str, Any]) -> Converted:
        return Converted(generic_pair(row, self.name), official_split(row, self._splits))


CONVERTERS: dict[str, Converter] = {
    converter.name: converter
    for converter in (HelpSteer2PairwiseConverter(), HelpSteer3PreferenceConverter(), GenericPairwiseConverter())
}


def get_converter(name: str) -> Converter:
    """The converter of that name. Raises InputError that lists the known ones."""
    if name not in CONVERTERS:
        known = ", ".join(CONVERTERS)
        raise InputError(f"data.configs.source: {name!r} is no known converter, expected one of {known}")
    return CONVERTERS[name]


def marked_turns(prompt: str) -> list[Message]:
    """Splits a HelpSteer2 prompt at its turn markers; the last turn must be the user's."""
    if _TURN_START not in prompt:
        return fields.prompt_checked("prompt", [{"role": "user", "content": prompt}])
    first, *rest = _TURN.split(prompt)
    turns: list[Message] = [{"role": "user", "content": first}] if first else []
    turns += [{"role": role.lower(), "content": text} for role, text in zip(rest[::2], rest[1::2], strict=True)]
    if turns and turns[-1] == {"role": "assistant", "content": ""}:
        # A marker at the end asks for the answer and is not a turn.
        turns.pop()
    return fields.prompt_checked("prompt", turns)


def official_split(row: Mapping[str, Any], known: Mapping[str, Side], key: str = "split") -> Side | None:
    """The side that a row's field `key` names; None if it has none. Raises RowError for an unknown name."""
    name = fields.optional_text(row, key)
    if name is None:
        return None
    if name not in known:
        raise RowError("unknown_split", f"{key}: {fields.shown(name)}, expected one of {', '.join(known)}")
    return known[name]
