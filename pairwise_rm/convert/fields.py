"""Reads one field of a raw row, or says what is wrong with it.

A `RowError` carries a short `reason`, which is counted, and a message for the user, which names the field,
what it holds and what was expected. Nothing is coerced: a bool is not a number, null is not an empty text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from pairwise_rm.contract.rows import MAX_STRENGTH, Message, Preference
from pairwise_rm.errors import InputError

ROLE_NAMES = {
    "system": "system",
    "user": "user",
    "assistant": "assistant",
    "developer": "system",
    "human": "user",
    "gpt": "assistant",
}
"""The roles that a turn may have in a source, and what each becomes."""
ID_FIELDS = ("id", "pair_id", "question_id", "idx")
"""Where a source keeps the id of a row, in order of preference."""
OPTIONAL = frozenset({"subset", "split", *ID_FIELDS})
"""Fields that any source may have."""

_SHOWN = 60
_ABSENT = object()
# By json.dumps, by Python's str, or by that of a list of numpy, as pandas writes lists into a CSV.
_TURNS_AS_TEXT = re.compile(r"""\s*\[\s*\{\s*["'](role|content|from|value)["']\s*:\s*["'\[]""")
_NUMBER = re.compile(r"\s*[+-]?[0-9]{1,9}(\.[0-9]{1,9})?\s*")


class RowError(InputError):
    """One row is bad. `reason` is one of a small fixed set, so that rejected rows can be counted by it."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class Cell(str):
    """Text of a table without types (CSV), in which a number is its digits."""


def shown(value: Any) -> str:
    """A value as an error message shows it: JSON's words for null and booleans, cut when long."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    text = ascii(value) if isinstance(value, str) and not value.isascii() else repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def missing(key: str) -> RowError:
    return RowError("missing_field", f"{key}: missing")


def wrong_type(key: str, value: Any, expected: str) -> RowError:
    if value is None:
        return RowError("null_field", f"{key}: null, expected {expected}")
    return RowError("wrong_type", f"{key}: {shown(value)}, expected {expected}")


def text(row: Mapping[str, Any], key: str) -> str:
    """The string at `key`, which may be empty."""
    value = row.get(key)
    if not isinstance(value, str):
        raise not_text(row, key)
    return checked(key, value)


def not_text(row: Mapping[str, Any], key: str) -> RowError:
    return wrong_type(key, row[key], "text") if key in row else missing(key)


def checked(key: str, value: str) -> str:
    """The text, if UTF-8 can encode it: parquet cannot store half a surrogate pair."""
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError as error:
            message = f"{key}: holds a lone surrogate (character {error.start}), which is no valid text"
            raise RowError("lone_surrogate", message) from error
    return value


def optional_text(row: Mapping[str, Any], key: str) -> str | None:
    return None if row.get(key) is None else text(row, key)


def value_at(row: Mapping[str, Any], path: str, absent: Any = None) -> Any:
    """What is at a dotted path, such as `answers.0.text` (-1 is the last); a key with dots in its name goes first."""
    if path in row:
        return row[path]
    if "." not in path:
        return absent
    value: Any = row
    for part in path.split("."):
        # Not Mapping: that check is slow, and what a reader gives is a dict.
        if isinstance(value, dict) and part in value:
            value = value[part]
        elif isinstance(value, list) and part.removeprefix("-").isdecimal() and -len(value) <= int(part) < len(value):
            value = value[int(part)]
        else:
            return absent
    return value


def picked(row: Mapping[str, Any], paths: Sequence[str]) -> dict[str, Any]:
    """A row of only what is at these paths, under the paths as keys."""
    found: dict[str, Any] = {}
    for path in paths:
        value = value_at(row, path, _ABSENT)
        if value is not _ABSENT:
            found[path] = value
    return found


def category(row: Mapping[str, Any], key: str) -> str | None:
    """The optional name of a category at `key`; an integer is its text, 2.0 included."""
    value = row.get(key)
    if type(value) is float and value.is_integer():  # tables with nulls hold integers so
        value = int(value)
    if value is None:
        return None
    return str(value) if type(value) is int else text(row, key)


def source_id(row: Mapping[str, Any], keys: Sequence[str] = ID_FIELDS) -> str | None:
    """The row's own id, under the first of `keys` that holds one; what is no text is written as JSON."""
    for key in keys:
        value = row.get(key)
        # NaN is what tables make of a missing value; as an id it would join rows that have nothing in common.
        if value is not None and value == value:
            return _id_text(value)
    return None


def _id_text(value: Any) -> str:
    if type(value) is float and value.is_integer():  # tables with nulls hold integers so
        value = int(value)
    written = value if isinstance(value, str) else json.dumps(value, default=str)
    return written.encode("utf-8", "backslashreplace").decode()


def integer(row: Mapping[str, Any], key: str, low: int, high: int) -> int:
    """The integer at `key` within low..high. 2.0 passes, as tables with nulls hold it; 2.5, NaN and true do not."""
    value = row.get(key)
    expected = f"an integer from {low} to {high}"
    if isinstance(value, Cell) and _NUMBER.fullmatch(value):
        value = float(value)
    if type(value) is float and value.is_integer():
        value = int(value)
    if type(value) is not int:
        raise wrong_type(key, value, expected) if key in row else missing(key)
    if not low <= value <= high:
        raise RowError("out_of_range", f"{key}: {shown(value)}, expected {expected}")
    return value


def signed_strength(row: Mapping[str, Any], key: str) -> tuple[Preference, int]:
    """HelpSteer's sign: above 0 the second response is better, below 0 the first, 0 is a tie."""
    value = integer(row, key, -MAX_STRENGTH, MAX_STRENGTH)
    return ("B" if value > 0 else "A" if value < 0 else "tie"), abs(value)


def messages(row: Mapping[str, Any], key: str) -> list[Message]:
    """The list of turns at `key`."""
    value = row.get(key)
    if not isinstance(value, list):
        raise wrong_type(key, value, "a list of turns") if key in row else missing(key)
    return turns_of(key, value)


def turns_of(key: str, turns: Sequence[Any]) -> list[Message]:
    """The turns, each with `role` and `content`, or ShareGPT's `from` and `value`."""
    return [_turn(f"{key}[{index}]", turn) for index, turn in enumerate(turns)]


def _turn(where: str, turn: Any) -> Message:
    if not isinstance(turn, dict):
        raise wrong_type(where, turn, "an object with role and content")
    names = ("from", "value") if turn.get("role") is None and turn.get("from") is not None else ("role", "content")
    role = turn.get(names[0])
    if not isinstance(role, str) or role not in ROLE_NAMES:
        expected = ", ".join(ROLE_NAMES)
        raise RowError("unknown_role", f"{where}.{names[0]}: {shown(role)}, expected one of {expected}")
    if names[1] not in turn:
        raise missing(f"{where}.{names[1]}")
    return {"role": ROLE_NAMES[role], "content": _content(f"{where}.{names[1]}", turn[names[1]])}


def _content(where: str, value: Any) -> str:
    """Text, or a list of parts that all are text, which are joined by line breaks as vLLM does."""
    if not isinstance(value, list):
        if not isinstance(value, str):
            raise wrong_type(where, value, "text or a list of text parts")
        return checked(where, value)
    return "\n".join(_part(f"{where}[{index}]", part) for index, part in enumerate(value))


def _part(where: str, part: Any) -> str:
    if isinstance(part, str):
        return checked(where, part)
    if not isinstance(part, dict):
        raise wrong_type(where, part, "a text part")
    if part.get("type", "text") != "text":
        raise RowError("not_text", f"{where}.type: {shown(part['type'])}, expected text; a judge here reads only text")
    return text_at(f"{where}.text", part.get("text"))


def text_at(where: str, value: Any) -> str:
    if not isinstance(value, str):
        raise wrong_type(where, value, "text")
    return checked(where, value)


def refuse_turns_as_text(key: str, value: str) -> None:
    """Raises RowError for a list of turns that was written into a text, as a table does that cannot hold lists."""
    if _TURNS_AS_TEXT.match(value) and value.rstrip().endswith("}]"):
        message = f"{key}: a list of turns written as text ({shown(value)}), expected text, or the list itself"
        raise RowError("turns_as_text", message)


def prompt_checked(key: str, turns: list[Message]) -> list[Message]:
    """The turns, if they are a prompt: not empty, and the last turn is the user's."""
    if not turns or not turns[-1]["content"].strip():
        raise RowError("empty_prompt", f"{key}: empty, expected a prompt")
    if turns[-1]["role"] != "user":
        raise RowError("no_user_turn", f"{key}: ends with the turn of the {turns[-1]['role']}, expected the user's")
    return turns


def two_responses(row: Mapping[str, Any], first: str, second: str) -> tuple[str, str]:
    return text(row, first), text(row, second)
