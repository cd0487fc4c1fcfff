"""Any preference rows: where a row has the parts of a pair, and the pair or pairs made of them.

The generic converter looks for these names, and guesses no others; a mapping (`data.configs.fields`) and the presets
name other ones.

prompt      `prompt` (text, a transcript, or a list of turns) or `messages` (a list of turns), ending with the user's
            turn
responses   `response_1`/`response_2`, `response_a`/`response_b`, or `chosen`/`rejected`. Each is text, one turn of the
            assistant, or a whole conversation (a list of turns, or a transcript) whose last turn is the response. The
            turns before it must be the same in both; they are the prompt, and equal to one that stands beside them
label       `preferred`: "A" (the first response), "B" or "tie", with an optional `strength` from 0 to 3; or
            `preference_strength` from -3 to 3 (above 0: the second is better). Both may be given if they agree.
            `chosen`/`rejected` is its own label (chosen is the first) and admits `strength`
optional    `subset` (text or an integer), `split` (train, or val, validation, test), and the row's id: `id`, `pair_id`,
            `question_id` or `idx`

Several texts in `chosen` and `rejected` are several pairs; a list of ranked answers (a mapping's `answers`) is one pair
of the best with each worse one, and none where no answer is worse.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from pairwise_rm.contract.rows import MAX_STRENGTH, Message, Pair, Preference
from pairwise_rm.convert import fields
from pairwise_rm.convert.fields import RowError, shown
from pairwise_rm.convert.transcripts import is_transcript, transcript_turns
from pairwise_rm.recipe.model import FieldMapping, Word, word_key

RESPONSE_FIELDS = (("response_1", "response_2"), ("response_a", "response_b"), ("chosen", "rejected"))
CHOSEN = "chosen"
FIELDS = fields.OPTIONAL | {"prompt", "messages", "preferred", "strength", "preference_strength"}.union(
    *RESPONSE_FIELDS
)
"""All that the generic converter reads under its own names."""
_LABELS: dict[str, Preference] = {"A": "A", "B": "B", "tie": "tie"}
_WORDS = (str, int, float)


class Answers(NamedTuple):
    """A list of answers, and where each has its text and its rank (the lowest is the best) or score (the highest)."""

    key: str
    text: str
    order: str
    is_rank: bool


class Names(NamedTuple):
    """Under which keys a row has its parts; None where it has no such part.

    `responses` None: see `answers`. `decided`: the first response is the preferred one. `labels`: what each value of
    `preferred` means. `labelled` False: the label is not looked at, and a tie stands for it. `beside`: the prompt once
    more, as a list of turns. `required`: the optional parts that a row must have, if only as null.
    """

    prompt: str | None
    responses: tuple[str, str] | None
    decided: bool = False
    labelled: bool = True
    answers: Answers | None = None
    beside: str | None = None
    system: str | None = None
    preferred: str | None = None
    labels: Mapping[str, Preference] = _LABELS
    preference_strength: str | None = None
    strength: str | None = None
    subset: str | None = None
    ids: Sequence[str] = ()
    required: Sequence[str] = ()

    @classmethod
    def of(cls, mapping: FieldMapping, strict: bool) -> Names:
        """The names that a mapping gives. `strict`: a row without an optional part that is named there is rejected."""
        label, many = mapping.preferred, mapping.answers
        chosen = (mapping.chosen, mapping.rejected)
        responses = chosen if mapping.chosen is not None else (mapping.response_a, mapping.response_b)
        answers = Answers(many.from_, many.text, many.rank or many.score or "", many.rank is not None) if many else None
        return cls(
            prompt=mapping.prompt,
            responses=None if responses[0] is None or responses[1] is None else (responses[0], responses[1]),
            decided=mapping.chosen is not None,
            answers=answers,
            system=mapping.system,
            preferred=label.from_ if label else None,
            labels=_words(label.A, label.B, label.tie) if label else _LABELS,
            preference_strength=mapping.preference_strength,
            strength=mapping.strength,
            subset=mapping.subset,
            ids=fields.ID_FIELDS if mapping.id is None else (mapping.id,),
            required=[key for key in (mapping.strength, mapping.subset, mapping.id) if key is not None and strict],
        )

    def unlabelled(self) -> Names:
        """The same for rows that are to be judged, whose label need not be there. A rank or score is still needed."""
        required = [key for key in self.required if key != self.strength]
        return self._replace(labelled=False, preferred=None, preference_strength=None, strength=None, required=required)

    def fit(self, row: Mapping[str, Any]) -> bool:
        """Whether a row has everything that every pair must have."""
        needed = (self.prompt, self.preferred, self.preference_strength, self.answers and self.answers.key)
        keys = [key for key in (*needed, *(self.responses or ())) if key is not None]
        return all(fields.value_at(row, key) is not None for key in keys)

    @property
    def keys(self) -> list[str]:
        """Every key that is read."""
        single = (self.prompt, self.beside, self.system, self.preferred, self.preference_strength, self.strength)
        many = (self.subset, self.answers and self.answers.key, *(self.responses or ()))
        return [key for key in (*single, *many, *self.ids) if key is not None]


def plain_names(row: Mapping[str, Any]) -> Names:
    """The generic converter's own names, as far as the row has them. Raises RowError for two of a kind."""
    found = [names for names in RESPONSE_FIELDS if names[0] in row or names[1] in row]
    if not found:
        choices = ", ".join("/".join(names) for names in RESPONSE_FIELDS)
        raise RowError("missing_field", f"responses: missing, expected one of {choices}")
    if len(found) > 1:
        both = " and ".join("/".join(names) for names in found)
        raise RowError("ambiguous_fields", f"{both}: all present, expected one of them")
    label = row.get("preferred") is not None or "preference_strength" not in row
    return _plain_names(found[0], "prompt" in row, "messages" in row, label)


@functools.cache
def _plain_names(responses: tuple[str, str], prompt: bool, messages: bool, label: bool) -> Names:
    return Names(
        prompt="prompt" if prompt else "messages" if messages else None,
        beside="messages" if prompt and messages else None,
        responses=responses,
        decided=responses[0] == CHOSEN,
        preferred="preferred" if label else None,
        preference_strength="preference_strength",
        strength="strength",
        subset="subset",
        ids=fields.ID_FIELDS,
    )


class _Response(NamedTuple):
    """A response, and the turns before it where it came as a whole conversation."""

    text: str
    before: list[Message]


def generic_pairs(row: Mapping[str, Any], names: Names, source: str, most: int | None = None) -> tuple[list[Pair], int]:
    """The row's pairs, at most `most`, and how many more it has; several, or none, only where it holds lists.

    Raises RowError for absent fields, labels that contradict each other, and responses to different prompts.
    """
    for key in names.required:
        if key not in row:
            raise fields.missing(key)
    subset = None if names.subset is None else fields.category(row, names.subset)
    source_id = fields.source_id(row, names.ids)
    if names.answers is not None:
        best, worse = _ranked(row, names.answers)
        messages = _given_prompt(row, names)
        pairs = [Pair(messages, (best, text), "A", None, source, subset, source_id) for text in worse[:most]]
        return pairs, len(worse) - len(pairs)
    assert names.responses is not None
    first, second = names.responses
    ones, others = _responses(row, first), _responses(row, second)
    several = len(ones) > 1 or len(others) > 1
    if several and not names.decided:
        raise RowError("wrong_type", f"{first} and {second}: several texts, expected one each beside a label")
    preferred, strength = _label(row, names)
    if not several:  # nearly every row, which is spared the lists below
        one, other = ones[0], others[0]
        messages = _prompt(row, names, one, other)
        return [Pair(messages, (one.text, other.text), preferred, strength, source, subset, source_id)], 0
    together = [(one, other) for one in ones for other in others]
    pairs = [
        Pair(_prompt(row, names, *both), (both[0].text, both[1].text), preferred, strength, source, subset, source_id)
        for both in together[:most]
    ]
    return pairs, len(together) - len(pairs)


# ---- responses -----------------------------------------------------------------------------------


def _responses(row: Mapping[str, Any], key: str) -> list[_Response]:
    value = row.get(key)
    if isinstance(value, str):
        return [_response(key, fields.checked(key, value))]
    if isinstance(value, dict):
        return [_last_turn(key, fields.turns_of(key, [value]))]
    if not isinstance(value, list):
        raise fields.not_text(row, key)
    if value and all(isinstance(item, str) for item in value):
        return [
            _response(f"{key}[{index}]", fields.checked(f"{key}[{index}]", item)) for index, item in enumerate(value)
        ]
    return [_last_turn(key, fields.turns_of(key, value))]


def _response(key: str, text: str) -> _Response:
    fields.refuse_turns_as_text(key, text)
    return _last_turn(key, transcript_turns(text)) if is_transcript(text) else _Response(text, [])


def _last_turn(key: str, turns: list[Message]) -> _Response:
    if not turns or turns[-1]["role"] != "assistant":
        last = f"ends with the turn of the {turns[-1]['role']}" if turns else "no turns"
        raise RowError("no_response", f"{key}: {last}, expected the assistant's turn at the end")
    return _Response(turns[-1]["content"], turns[:-1])


def _ranked(row: Mapping[str, Any], answers: Answers) -> tuple[str, list[str]]:
    """The text of the best answer (empty where there is none), and those of the worse ones from the worst on."""
    key, held = answers.key, row.get(answers.key)
    if not isinstance(held, list):
        raise fields.wrong_type(key, held, "a list of answers") if key in row else fields.missing(key)
    ranked: list[tuple[float, str]] = []
    for index, answer in enumerate(held):
        where = f"{key}[{index}]"
        if not isinstance(answer, dict):
            raise fields.wrong_type(where, answer, "an object")
        text = fields.text_at(f"{where}.{answers.text}", fields.value_at(answer, answers.text))
        order = _number(f"{where}.{answers.order}", fields.value_at(answer, answers.order))
        ranked.append((order if answers.is_rank else -order, text))
    if not ranked:
        return "", []
    ranked.sort(key=lambda item: item[0])
    return ranked[0][1], [text for order, text in ranked if order > ranked[0][0]][::-1]


def _number(where: str, value: Any) -> float:
    if type(value) not in (int, float) or not math.isfinite(value):
        raise fields.wrong_type(where, value, "a number")
    return float(value)


# ---- the prompt ----------------------------------------------------------------------------------


def _prompt(row: Mapping[str, Any], names: Names, one: _Response, other: _Response) -> list[Message]:
    """The turns before both responses, or the prompt that the row names; the same where it has both."""
    if not one.before and not other.before:
        if names.beside is not None:
            message = f"{names.prompt} and {names.beside}: both present, expected one"
            raise RowError("ambiguous_fields", message)
        return _given_prompt(row, names)
    first, second = names.responses or ("", "")
    if one.before != other.before:
        turn = next(
            (at for at, (left, right) in enumerate(zip(one.before, other.before, strict=False)) if left != right),
            min(len(one.before), len(other.before)),
        )
        message = f"{first} and {second}: differ already in turn {turn + 1}, expected only the last turn to differ"
        raise RowError("different_prompts", message)
    shared = fields.prompt_checked(f"{first} without its last turn", one.before)
    for key in (names.prompt, names.beside):
        if key is not None and key not in row:
            raise fields.missing(key)
        if key is not None and row[key] is not None:
            shared = _agreed(key, _turns(row, key), shared, (one.text, other.text), f"{first} and {second}")
    return _with_system(row, names, shared)


def _given_prompt(row: Mapping[str, Any], names: Names) -> list[Message]:
    if names.prompt is None:
        raise RowError("missing_field", "prompt: missing, expected prompt or messages")
    return _with_system(row, names, fields.prompt_checked(names.prompt, _turns(row, names.prompt)))


def _turns(row: Mapping[str, Any], key: str) -> list[Message]:
    if key == "messages" or isinstance(row.get(key), list):
        return fields.messages(row, key)
    text = fields.text(row, key)
    if not is_transcript(text):
        fields.refuse_turns_as_text(key, text)
        return [{"role": "user", "content": text}]
    turns = transcript_turns(text)
    # A marker at the end asks for the answer and is not a turn.
    return turns[:-1] if turns[-1]["role"] == "assistant" and not turns[-1]["content"].strip() else turns


def _agreed(
    key: str, given: list[Message], shared: list[Message], responses: tuple[str, str], where: str
) -> list[Message]:
    """The prompt that stands both beside the responses and in them: with its system message, if only one has it."""
    if given and given[-1]["role"] == "assistant" and given[-1]["content"] in responses:
        given = given[:-1]
    systems = [[turn for turn in turns if turn["role"] == "system"] for turns in (given, shared)]
    if _comparable(given) != _comparable(shared) or (all(systems) and systems[0] != systems[1]):
        message = f"{key}: not the turns that {where} share; expected the same, or a mapping (fields) without a prompt"
        raise RowError("different_prompts", message)
    return given if len(given) > len(shared) else shared


def _comparable(turns: list[Message]) -> list[tuple[str, str]]:
    return [(turn["role"], turn["content"].strip()) for turn in turns if turn["role"] != "system"]


def _with_system(row: Mapping[str, Any], names: Names, turns: list[Message]) -> list[Message]:
    text = fields.optional_text(row, names.system) if names.system is not None else None
    if not text:
        return turns
    if turns[0]["role"] == "system":
        if turns[0]["content"].strip() == text.strip():
            return turns
        raise RowError("different_prompts", f"{names.system}: not the system message that the prompt has")
    return [{"role": "system", "content": text}, *turns]


# ---- the label -----------------------------------------------------------------------------------


def _words(first: Sequence[Word], second: Sequence[Word], tie: Sequence[Word]) -> dict[str, Preference]:
    labels: dict[str, Preference] = {}
    labels.update(dict.fromkeys(map(word_key, first), "A"))
    labels.update(dict.fromkeys(map(word_key, second), "B"))
    labels.update(dict.fromkeys(map(word_key, tie), "tie"))
    return labels


def _strength(row: Mapping[str, Any], names: Names, preferred: Preference) -> int | None:
    key = names.strength
    if key is None or row.get(key) is None:
        return 0 if preferred == "tie" else None
    strength = fields.integer(row, key, 0, MAX_STRENGTH)
    if (strength == 0) != (preferred == "tie"):
        raise RowError("contradictory_label", f"{key}: {strength} with preferred {preferred!r}; 0 means a tie")
    return strength


def _decided_label(row: Mapping[str, Any], names: Names) -> tuple[Preference, int | None]:
    first, second = names.responses or ("", "")
    for key in (names.preferred, names.preference_strength):
        if key is not None and row.get(key) is not None:
            raise RowError("ambiguous_fields", f"{key}: {first}/{second} says already which response is preferred")
    return "A", _strength(row, names, "A")


def _label(row: Mapping[str, Any], names: Names) -> tuple[Preference, int | None]:
    if not names.labelled:
        return "tie", 0
    if names.decided:
        return _decided_label(row, names)
    key, signed_key = names.preferred, names.preference_strength
    if key is None:
        assert signed_key is not None
        return fields.signed_strength(row, signed_key)
    preferred = _named(row, key, names.labels)
    if signed_key is None or row.get(signed_key) is None:
        return preferred, _strength(row, names, preferred)
    signed, strength = fields.signed_strength(row, signed_key)
    if signed != preferred:
        value = shown(row[signed_key])
        raise RowError("contradictory_label", f"{signed_key}: {value} says {signed}, {key} says {preferred}")
    return preferred, strength


def _named(row: Mapping[str, Any], key: str, labels: Mapping[str, Preference]) -> Preference:
    value = row.get(key)
    if value is None:
        raise fields.wrong_type(key, value, _choices(labels)) if key in row else fields.missing(key)
    word = word_key(value) if isinstance(value, _WORDS) else None
    if word is None or word not in labels:
        raise RowError("unknown_label", f"{key}: {shown(value)}, expected one of {_choices(labels)}")
    return labels[word]


def _choices(labels: Mapping[str, Preference]) -> str:
    return ", ".join(f'"{word}"' for word in labels)
