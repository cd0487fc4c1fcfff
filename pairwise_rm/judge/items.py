"""The input of a judge: a prompt (or a conversation) and two responses, from arguments or a JSON-lines file.

{"prompt": "Why are apples healthy?", "response_a": "Fibre.", "response_b": "They are red."}
{"messages": [{"role": "user", "content": "Hi"}], "response_a": "Hello!", "response_b": "No.", "id": "x1"}
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pairwise_rm.contract.rows import ROLES, Message, Pair, Row, both_orders
from pairwise_rm.errors import InputError

_KEYS = {"id", "prompt", "messages", "response_a", "response_b"}


@dataclass(frozen=True)
class Item:
    """A pair to judge. `name` says which one it is: the line's `id`, or its number."""

    name: str
    messages: list[Message]
    response_a: str
    response_b: str

    @classmethod
    def of(cls, prompt: str, response_a: str, response_b: str, name: str = "1") -> Item:
        """From plain texts. Raises InputError when one is empty or holds a lone surrogate."""
        return item_of({"prompt": prompt, "response_a": response_a, "response_b": response_b}, "judge", name)

    def rows(self) -> tuple[Row, Row]:
        """Both orders as rows of the contract; their label is a placeholder."""
        return both_orders(Pair(self.messages, (self.response_a, self.response_b), "tie", None, "judge"))


def read_items(path: Path) -> list[Item]:
    """The items of a .jsonl file; blank lines are skipped.

    Raises InputError with file:line for the first line that is not an item, and for a file without items.
    """
    path = Path(path).expanduser()
    items = []
    try:
        with open(path, "rb") as handle:
            for number, line in enumerate(handle, 1):
                if line.strip():
                    where = f"{path}:{number}"
                    items.append(item_of(decoded(line, where), where, str(number)))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error
    if not items:
        raise InputError(f"{path}: no lines; expected JSON objects with prompt, response_a and response_b")
    return items


def decoded(text: bytes, where: str) -> Any:
    """The JSON value of UTF-8 bytes. Raises InputError that starts with `where`."""
    try:
        return json.loads(text.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise InputError(f"{where}: not UTF-8: {error.reason} at byte {error.start}") from error
    except json.JSONDecodeError as error:
        raise InputError(f"{where}: not JSON: {error.msg} at column {error.colno}") from error
    except RecursionError as error:
        raise InputError(f"{where}: nested too deeply") from error


def item_of(value: Any, where: str, name: str) -> Item:
    """An item of a decoded value. `where` starts the message of the InputError."""
    if not isinstance(value, dict):
        raise InputError(f"{where}: expected a JSON object, found {type(value).__name__}")
    if unknown := sorted(value.keys() - _KEYS):
        raise InputError(f"{where}: unknown key {unknown[0]!r}; known are {', '.join(sorted(_KEYS))}")
    if ("prompt" in value) == ("messages" in value):
        raise InputError(f"{where}: expected either prompt or messages")
    messages: list[Message]
    if "prompt" in value:
        messages = [{"role": "user", "content": _text(value["prompt"], "prompt", where)}]
    else:
        messages = _messages(value["messages"], where)
    first, second = (_text(value.get(key), key, where) for key in ("response_a", "response_b"))
    if first == second:
        raise InputError(f"{where}: response_a and response_b are identical")
    return Item(str(value.get("id", name)), messages, first, second)


def _messages(value: Any, where: str) -> list[Message]:
    if not isinstance(value, list) or not value:
        raise InputError(f"{where}: messages: expected a list of {{role, content}}")
    turns: list[Message] = []
    for index, turn in enumerate(value):
        key = f"messages[{index}]"
        if not isinstance(turn, dict):
            raise InputError(f"{where}: {key}: expected {{role, content}}")
        role, content = (_text(turn.get(part), f"{key}.{part}", where) for part in ("role", "content"))
        if role not in ROLES:
            raise InputError(f"{where}: {key}.role: expected one of {', '.join(ROLES)}, found {role!r}")
        turns.append({"role": role, "content": content})
    if turns[-1]["role"] != "user":
        raise InputError(f"{where}: messages: the last turn must be the user's")
    return turns


def _text(value: Any, key: str, where: str) -> str:
    if not isinstance(value, str) or not value.strip():
        raise InputError(f"{where}: {key}: expected a text that is not empty")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise InputError(f"{where}: {key}: a lone surrogate at character {error.start}") from error
    return value
