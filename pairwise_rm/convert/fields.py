"""Reads one field of a raw row, or says what is wrong with it.

A `RowError` carries a short `reason`, which is counted, and a message for the user, which names the field,
what it holds and what was expected. Nothing is coerced: a bool is not a number, null is not an empty text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from pairwise_rm.contract.rows import MAX_STRENGTH, ROLES, Message, Preference
from pairwise_rm.errors import InputError

ID_FIELDS = ("id", "pair_id", "question_id", "idx")
"""Where a source keeps the id of a row, in order of preference."""
OPTIONAL = frozenset({"subset", "split", *ID_FIELDS})
"""Fields that any source may have."""

_SHOWN = 60
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
        raise wrong_type(key, value, "text") if key in row else missing(key)
    return checked(key, value)


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


def category(row: Mapping[str, Any], key: str) -> str | None:
    """The optional name of a category at `key`; an integer is its text."""
    value = row.get(key)
    return str(value) if type(value) is int else optional_text(row, key)


def source_id(row: Mapping[str, Any], keys: Sequence[str] = ID_FIELDS) -> str | None:
    """The row's own id, under the first of `keys` that holds one; what is no text is written as JSON."""
    value = next((row[key] for key in keys if row.get(key) is not None), None)
    if value is None:
        return None
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
    """The list of turns at `key`, each with `role` and `content`."""
    value = row.get(key)
    if not isinstance(value, list):
        raise wrong_type(key, value, "a list of turns") if key in row else missing(key)
    turns: list[Message] = []
    for index, turn in enumerate(value):
        where = f"{key}[{index}]"
        if not isinstance(turn, dict):
            raise wrong_type(where, turn, "an object with role and content")
        role, content = turn.get("role"), turn.get("content")
        if role not in ROLES:
            raise RowError("unknown_role", f"{where}.role: {shown(role)}, expected one of {', '.join(ROLES)}")
        if type(content) is not str:
            raise wrong_type(f"{where}.content", content, "text") if "content" in turn else missing(f"{where}.content")
        turns.append({"role": role, "content": checked(f"{where}.content", content)})
    return turns


def prompt_checked(key: str, turns: list[Message]) -> list[Message]:
    """The turns, if they are a prompt: not empty, and the last turn is the user's."""
    if not turns or not turns[-1]["content"].strip():
        raise RowError("empty_prompt", f"{key}: empty, expected a prompt")
    if turns[-1]["role"] != "user":
        raise RowError("no_user_turn", f"{key}: ends with the turn of the {turns[-1]['role']}, expected the user's")
    return turns


def two_responses(row: Mapping[str, Any], first: str, second: str) -> tuple[str, str]:
    return text(row, first), text(row, second)
