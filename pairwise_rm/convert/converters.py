"""From one raw row of a source to one preference pair, by the source's name.

A converter is pure: it takes a parsed row and returns a `Converted`, or raises a `RowError` that says what
is wrong with the row. A source whose rows need only other names is a preset (`presets.yaml`); for another one, write a
converter and put it into `CONVERTERS`.

>>> row = {"prompt": "Why?", "response_1": "Because.", "response_2": "No idea.", "preference_strength": -2}
>>> HelpSteer2PairwiseConverter().convert(row).pair.preferred
'A'
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple, Protocol

from pairwise_rm.contract.rows import Message, Pair, Preference
from pairwise_rm.convert import fields
from pairwise_rm.convert.fields import RowError
from pairwise_rm.convert.generic import FIELDS, Names, generic_pairs, plain_names
from pairwise_rm.convert.presets import presets
from pairwise_rm.errors import InputError
from pairwise_rm.recipe.model import FieldMapping

Side = Literal["train", "test"]
SIDES: tuple[Side, ...] = ("train", "test")
GENERIC_SPLITS: Mapping[str, Side] = {"train": "train", "val": "test", "validation": "test", "test": "test"}

_TURN = re.compile(r"\n?<extra_id_1>(Assistant|User)(?:\n|$)")
_TURN_START = "<extra_id_1>"
_NO_LABEL: tuple[Preference, int] = ("tie", 0)


class Converted(NamedTuple):
    """`split` is the source's own: "train", "test" (whatever the source calls it), or None if it has none.

    A name that is no split is a RowError here, as a value: only `split: official` asks for it.
    """

    pair: Pair
    split: Side | RowError | None


class SeveralPairs(NamedTuple):
    """The pairs of a row that holds several, or none of whose answers is worse than another.

    `left_out`: how many more it has that a limit left out.
    """

    pairs: list[Converted]
    left_out: int = 0


class HubFile(NamedTuple):
    """A source's file on the Hugging Face hub; `sha256` None: not checked, `revision` None: the newest.

    `test_path` is the file of the held-out rows, where the source keeps them in one of their own.
    """

    repo: str
    path: str
    revision: str | None = None
    sha256: str | None = None
    test_path: str | None = None


class Converter(Protocol):
    """`columns`: the top-level fields that it may read, so that no other column of a parquet file is; None: all."""

    name: str
    hub: HubFile | None
    columns: frozenset[str] | None

    def convert(self, row: Mapping[str, Any]) -> Converted | SeveralPairs: ...


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
    columns: frozenset[str] | None = fields.OPTIONAL | {"prompt", "response_1", "response_2", "preference_strength"}
    _splits: Mapping[str, Side] = {"train": "train", "val": "test"}

    def __init__(self, *, labelled: bool = True) -> None:
        self._labelled = labelled

    def convert(self, row: Mapping[str, Any]) -> Converted:
        turns = marked_turns(fields.text(row, "prompt"))
        responses = fields.two_responses(row, "response_1", "response_2")
        preferred, strength = fields.signed_strength(row, "preference_strength") if self._labelled else _NO_LABEL
        subset = fields.category(row, "subset")
        pair = Pair(turns, responses, preferred, strength, self.name, subset, fields.source_id(row))
        return Converted(pair, official_split(row, self._splits))


class HelpSteer3PreferenceConverter:
    """HelpSteer3-Preference rows: `context` (turns), `response1`, `response2`, `overall_preference`, `domain`.

    `domain` becomes the subset. The rows name no split: the hub keeps the validation rows in another file, which
    `split: official` reads as well. Local files need `test_path`, `split_ratio`, or a `split` field that was added.
    """

    name = "helpsteer3_preference"
    hub: HubFile | None = HubFile(
        repo="nvidia/HelpSteer3", path="preference/train.jsonl.gz", test_path="preference/validation.jsonl.gz"
    )
    columns: frozenset[str] | None = fields.OPTIONAL | {
        "context", "response1", "response2", "overall_preference", "domain",
    }  # fmt: skip
    _splits: Mapping[str, Side] = {"train": "train", "val": "test", "validation": "test"}

    def __init__(self, *, labelled: bool = True) -> None:
        self._labelled = labelled

    def convert(self, row: Mapping[str, Any]) -> Converted:
        turns = fields.prompt_checked("context", fields.messages(row, "context"))
        responses = fields.two_responses(row, "response1", "response2")
        preferred, strength = fields.signed_strength(row, "overall_preference") if self._labelled else _NO_LABEL
        subset = fields.category(row, "domain")
        pair = Pair(turns, responses, preferred, strength, self.name, subset, fields.source_id(row))
        return Converted(pair, official_split(row, self._splits))


class GenericPairwiseConverter:
    """Any pairs: a prompt, two responses and a label; `pairwise_rm.convert.generic` lists the fields.

    `pairs_per_prompt` limits how many pairs a row with many answers gives.
    """

    name = "generic_pairwise"
    hub: HubFile | None = None
    columns: frozenset[str] | None = FIELDS

    def __init__(self, pairs_per_prompt: int | None = None, *, labelled: bool = True) -> None:
        self._most = pairs_per_prompt
        self._labelled = labelled

    def convert(self, row: Mapping[str, Any]) -> Converted | SeveralPairs:
        names = plain_names(row) if self._labelled else plain_names(row).unlabelled()
        pairs, left_out = generic_pairs(row, names, self.name, self._most)
        return _one_or_several(pairs, left_out, official_split(row, GENERIC_SPLITS))


class MappedConverter:
    """The generic converter with other names: a mapping of `data.configs.fields`, or a preset's mappings.

    Of several mappings a row is read by the first whose columns it all has. `strict`: see `Names.of`.
    """

    hub: HubFile | None = None

    def __init__(
        self,
        name: str,
        mappings: Sequence[FieldMapping],
        pairs_per_prompt: int | None = None,
        *,
        strict: bool = False,
        labelled: bool = True,
    ) -> None:
        self.name = name
        self._most = pairs_per_prompt
        named = [Names.of(mapping, strict) for mapping in mappings]
        self._readers = [
            (names if labelled else names.unlabelled(), mapping.split or "split")
            for names, mapping in zip(named, mappings, strict=True)
        ]
        self._keys = [[*names.keys, split] for names, split in self._readers]
        # A name with dots may be a column of its own as well.
        self.columns: frozenset[str] | None = frozenset(
            name for keys in self._keys for key in keys for name in (key, key.partition(".")[0])
        )

    def convert(self, row: Mapping[str, Any]) -> Converted | SeveralPairs:
        at = 0
        if len(self._readers) > 1:
            at = next((at for at, (names, _) in enumerate(self._readers) if names.fit(row)), 0)
        names, split = self._readers[at]
        found = fields.picked(row, self._keys[at])
        pairs, left_out = generic_pairs(found, names, self.name, self._most)
        return _one_or_several(pairs, left_out, official_split(found, GENERIC_SPLITS, split))


def _one_or_several(pairs: list[Pair], left_out: int, split: Side | RowError | None) -> Converted | SeveralPairs:
    if len(pairs) == 1 and not left_out:
        return Converted(pairs[0], split)
    return SeveralPairs([Converted(pair, split) for pair in pairs], left_out)


CONVERTERS: dict[str, Converter] = {
    converter.name: converter
    for converter in (HelpSteer2PairwiseConverter(), HelpSteer3PreferenceConverter(), GenericPairwiseConverter())
}
UNLABELLED: dict[str, Converter] = {
    converter.name: converter
    for converter in (HelpSteer2PairwiseConverter(labelled=False), HelpSteer3PreferenceConverter(labelled=False))
}
"""Those that do not look at the label, for rows that are to be judged."""


def known_sources() -> list[str]:
    """All that `data.configs.source` may be: the converters and the presets."""
    return [*CONVERTERS, *presets()]


def get_converter(
    name: str, mapping: FieldMapping | None = None, pairs_per_prompt: int | None = None, *, labelled: bool = True
) -> Converter:
    """The converter or preset of that name; with a mapping, one that reads by it. Raises InputError that lists all.

    `labelled` False: the label of a row is not looked at, and a tie stands for it.
    """
    if mapping is not None:
        return MappedConverter(name, [mapping], pairs_per_prompt, strict=True, labelled=labelled)
    if name == GenericPairwiseConverter.name:
        return GenericPairwiseConverter(pairs_per_prompt, labelled=labelled)
    if name in CONVERTERS:
        return CONVERTERS[name] if labelled else UNLABELLED.get(name, CONVERTERS[name])
    known = presets()
    if name in known:
        return MappedConverter(name, known[name].fields, pairs_per_prompt, labelled=labelled)
    raise InputError(
        f"data.configs.source: {name!r} is no known converter, expected one of {', '.join(CONVERTERS)}, "
        f"or a preset: {', '.join(known)}"
    )


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


def official_split(row: Mapping[str, Any], known: Mapping[str, Side], key: str = "split") -> Side | RowError | None:
    """The side that a row's field `key` names; None if it has none, the RowError if the name is unknown."""
    name = row.get(key)
    if name is None:
        return None
    if isinstance(name, str) and name in known:
        return known[name]
    return RowError("unknown_split", f"{key}: {fields.shown(name)}, expected one of {', '.join(known)}")
