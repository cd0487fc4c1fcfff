"""A draft of a field mapping for rows that no source fits: their fields, and the parts of a pair that names suggest.

What a name only suggests is for the user to check, and a label's values are always the user's to sort: they stand as
CHANGE_ME, which a recipe refuses.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

OPEN = "CHANGE_ME"

_DEPTH = 4
_MOST_VALUES = 8
_PROMPT = ("prompt", "question", "instruction", "query", "input", "context", "conversation", "history", "post", "task")
_LABEL = ("winner", "label", "prefer", "better", "best", "choice", "verdict", "vote", "judg", "gold", "rating")
_ID = ("id", "pair_id", "question_id", "idx", "uid", "uuid", "key")
_SUBSET = ("subset", "category", "domain", "topic", "source", "task")
_SIDES = (("a", "b"), ("1", "2"), ("0", "1"), ("left", "right"), ("first", "second"), ("one", "two"), ("x", "y"))
_BETTER = (("chosen", "rejected"), ("better", "worse"), ("good", "bad"), ("preferred", "rejected"), ("win", "lose"))


class Field(NamedTuple):
    """`texts`: it holds text or turns, as prompt and responses do. `values`: those of a label, if they are few."""

    example: str
    texts: bool
    values: list[str] | None


class Draft(NamedTuple):
    """The fields by dotted path, and the lines of `fields` in YAML."""

    fields: dict[str, Field]
    lines: list[str]


def draft(rows: Sequence[dict[str, Any]]) -> Draft:
    """The fields of the rows, and as much of a mapping as their names suggest."""
    leaves: dict[str, list[Any]] = {}
    for row in rows:
        for path, value in _leaves(row, "", 0):
            leaves.setdefault(path, []).append(value)
    fields = {path: _field(values) for path, values in leaves.items()}
    return Draft(fields, list(_lines(fields)))


def yaml_word(text: str) -> str:
    """A text as YAML in a line, quoted where it must be."""
    plain = re.fullmatch(r"[A-Za-z_./~][\w./~-]*", text)
    reserved = text.lower() in ("null", "true", "false", "yes", "no", "on", "off", "y", "n")
    return text if plain and not reserved else json.dumps(text)


def _leaves(value: Any, path: str, depth: int) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict) and depth < _DEPTH:
        for key, below in value.items():
            yield from _leaves(below, f"{path}.{key}" if path else key, depth + 1)
    elif isinstance(value, list) and value and isinstance(value[0], dict) and not _is_turn(value[0]):
        for index, below in enumerate(value[:2]):
            yield from _leaves(below, f"{path}.{index}", depth + 1)
    else:
        yield path, value


def _is_turn(value: dict[str, Any]) -> bool:
    return {"role", "content"} <= set(value) or {"from", "value"} <= set(value)


def _field(values: Sequence[Any]) -> Field:
    first = next((value for value in values if value is not None), None)
    texts = isinstance(first, str) or (isinstance(first, list) and bool(first) and isinstance(first[0], str | dict))
    words = {json.dumps(value) for value in values if isinstance(value, str | int | float)}
    few = len(words) <= _MOST_VALUES and all(len(word) <= 30 for word in words) and bool(words)
    if few and len(words) < max(2, len(values)):
        shown = [json.loads(word) for word in sorted(words)]
        named = [yaml_word(word) if isinstance(word, str) else json.dumps(word) for word in shown]
        return Field(f"{json.dumps(first)}  (values: {', '.join(named)})", texts, named)
    return Field(json.dumps(first, ensure_ascii=False, default=str), texts, None)


def _lines(fields: dict[str, Field]) -> Iterator[str]:
    # Conversations and other texts before words that repeat, such as the models' names in `model_a` and `model_b`.
    texts = sorted((path for path, field in fields.items() if field.texts), key=lambda path: bool(fields[path].values))
    better = _couple(texts, _BETTER)
    sides = better or _couple(texts, _SIDES)
    prompt = _named([path for path in texts if path not in (sides or ()) and ".0." not in path], _PROMPT)
    first, second = sides or (OPEN, OPEN)
    yield f"      prompt: {yaml_word(prompt or OPEN)}"
    ranked = _answers(fields) if sides is None or ".0." in sides[0] else None
    if ranked:
        yield f"      answers: {ranked}"
    elif better:
        yield f"      chosen: {yaml_word(first)}"
        yield f"      rejected: {yaml_word(second)}"
    else:
        yield f"      response_a: {yaml_word(first)}"
        yield f"      response_b: {yaml_word(second)}"
        valued = [path for path, field in fields.items() if field.values and path not in (first, second)]
        label = _named(valued, _LABEL)
        values = fields[label].values if label else None
        told = f"  # its values: {', '.join(values)}" if values else ""
        yield f"      preferred: {{from: {yaml_word(label or OPEN)}, A: [{OPEN}], B: [{OPEN}], tie: []}}{told}"
    used = {prompt, first, second}
    scalar = [path for path in fields if path not in used]
    if subset := _named([path for path in scalar if fields[path].values], _SUBSET, whole=True):
        yield f"      subset: {yaml_word(subset)}"
    if own_id := _named(scalar, _ID, whole=True):
        yield f"      id: {yaml_word(own_id)}"


def _answers(fields: dict[str, Field]) -> str | None:
    """A list of objects that hold a text and a number, as `answers`."""
    for path, field in fields.items():
        name, found, text = path.partition(".0.")
        numbers = [key for key in fields if key.startswith(f"{name}.0.") and re.match(r"-?\d", fields[key].example)]
        if not found or not field.texts or not numbers:
            continue
        order = _named(numbers, ("rank", "score", "rating")) or numbers[0]
        kind = "rank" if "rank" in order.lower() else "score"
        inner = order.removeprefix(f"{name}.0.")
        return f"{{from: {yaml_word(name)}, text: {yaml_word(text)}, {kind}: {yaml_word(inner)}}}"
    return None


def _named(paths: Sequence[str], words: Sequence[str], *, whole: bool = False) -> str | None:
    """The path with the first of the words in its name, or as its name."""
    for word in words:
        for path in paths:
            name = path.lower()
            if name == word if whole else word in name:
                return path
    return None


def _couple(paths: Sequence[str], sides: Sequence[tuple[str, str]]) -> tuple[str, str] | None:
    """Two paths that differ in one part of their names, which says the side."""
    for one, other in sides:
        for path in paths:
            parts = _parts(path)
            for at, part in enumerate(parts):
                if part.lower() != one:
                    continue
                partner = next(
                    (
                        found
                        for found in paths
                        if len(_parts(found)) == len(parts)
                        and _parts(found)[at].lower() == other
                        and [*_parts(found)[:at], *_parts(found)[at + 1 :]] == [*parts[:at], *parts[at + 1 :]]
                    ),
                    None,
                )
                if partner is not None:
                    return path, partner
    return None


def _parts(path: str) -> list[str]:
    """`answer1.text` as answer, 1, text; `humanRefA` as human, Ref, A."""
    return re.findall(r"\d+|[A-Z]?[a-z]+|[A-Z]+(?![a-z])", path)
