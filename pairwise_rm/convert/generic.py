"""Any preference rows: the field names of the generic converter, which guesses no others.

prompt      `prompt` (text, or a list of turns) or `messages` (a list of turns), ending with the user's turn
responses   `response_1`/`response_2`, `response_a`/`response_b`, or `chosen`/`rejected`; text, or a list
            that holds one assistant turn
label       `preferred`: "A" (the first response), "B" or "tie", with an optional `strength` from 0 to 3; or
            `preference_strength` from -3 to 3 (above 0: the second is better). Both may be given if they agree.
            `chosen`/`rejected` is its own label (chosen is the first) and admits `strength`
optional    `subset` (text or an integer), `split` (train, or val, validation, test), and the row's id: `id`, `pair_id`,
            `question_id` or `idx`
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from pairwise_rm.contract.rows import MAX_STRENGTH, PREFERENCES, Message, Pair, Preference
from pairwise_rm.convert import fields
from pairwise_rm.convert.fields import RowError, shown

RESPONSE_FIELDS = (("response_1", "response_2"), ("response_a", "response_b"), ("chosen", "rejected"))
CHOSEN = "chosen"
FIELDS = fields.OPTIONAL | {"prompt", "messages", "preferred", "strength", "preference_strength"}.union(
    *RESPONSE_FIELDS
)


def generic_pair(row: Mapping[str, Any], source: str) -> Pair:
    """The row's pair. Raises RowError for absent fields, two of a kind, or labels that contradict each other."""
    first, second = _response_fields(row)
    responses = _response(row, first), _response(row, second)
    preferred, strength = _chosen_label(row) if first == CHOSEN else _label(row)
    subset, source_id = fields.category(row, "subset"), fields.source_id(row)
    return Pair(_prompt(row), responses, preferred, strength, source, subset, source_id)


def _prompt(row: Mapping[str, Any]) -> list[Message]:
    if "prompt" in row and "messages" in row:
        raise RowError("ambiguous_fields", "prompt and messages: both present, expected one")
    if "messages" in row:
        return fields.prompt_checked("messages", fields.messages(row, "messages"))
    if isinstance(row.get("prompt"), list):
        return fields.prompt_checked("prompt", fields.messages(row, "prompt"))
    if "prompt" not in row:
        raise RowError("missing_field", "prompt: missing, expected prompt or messages")
    return fields.prompt_checked("prompt", [{"role": "user", "content": fields.text(row, "prompt")}])


def _response_fields(row: Mapping[str, Any]) -> tuple[str, str]:
    found = [names for names in RESPONSE_FIELDS if names[0] in row or names[1] in row]
    choices = ", ".join("/".join(names) for names in RESPONSE_FIELDS)
    if not found:
        raise RowError("missing_field", f"responses: missing, expected one of {choices}")
    if len(found) > 1:
        both = " and ".join("/".join(names) for names in found)
        raise RowError("ambiguous_fields", f"{both}: all present, expected one of them")
    return found[0]


def _response(row: Mapping[str, Any], key: str) -> str:
    if not isinstance(row.get(key), list):
        return fields.text(row, key)
    turns = fields.messages(row, key)
    if len(turns) != 1 or turns[0]["role"] != "assistant":
        raise RowError("wrong_type", f"{key}: {len(turns)} turns, expected text or one assistant turn")
    return turns[0]["content"]


def _strength(row: Mapping[str, Any], preferred: Preference) -> int | None:
    if row.get("strength") is None:
        return 0 if preferred == "tie" else None
    strength = fields.integer(row, "strength", 0, MAX_STRENGTH)
    if (strength == 0) != (preferred == "tie"):
        raise RowError("contradictory_label", f"strength: {strength} with preferred {preferred!r}; 0 means a tie")
    return strength


def _chosen_label(row: Mapping[str, Any]) -> tuple[Preference, int | None]:
    for key in ("preferred", "preference_strength"):
        if row.get(key) is not None:
            raise RowError("ambiguous_fields", f"{key}: chosen/rejected says already which response is preferred")
    return "A", _strength(row, "A")


def _label(row: Mapping[str, Any]) -> tuple[Preference, int | None]:
    if row.get("preferred") is None and "preference_strength" in row:
        return fields.signed_strength(row, "preference_strength")
    if "preferred" not in row:
        raise RowError("missing_field", "preferred: missing, expected preferred or preference_strength")
    if row["preferred"] not in PREFERENCES:
        raise fields.wrong_type("preferred", row["preferred"], 'one of "A", "B", "tie"')
    preferred = cast(Preference, row["preferred"])
    if row.get("preference_strength") is None:
        return preferred, _strength(row, preferred)
    signed, strength = fields.signed_strength(row, "preference_strength")
    if signed != preferred:
        value = shown(row["preference_strength"])
        raise RowError("contradictory_label", f"preference_strength: {value} says {signed}, preferred says {preferred}")
    return preferred, strength
