"""The verdict parser: strict, pure, and apart from the reward.

A response is valid when it is exactly

    <think>reasoning</think><preference>A|B|tie</preference>

with white space allowed between and around the parts, and around the value. Anything else is invalid and has a
reason; there is no default label. When our first runs accepted a verdict alone, the models unlearnt the reasoning.

Where the opening `<think>` stands depends on the chat template (see `pairwise_rm.contract.prompt`), and the caller
says which: in the response, at the end of the prompt, or nowhere (the prompt has closed the reasoning, as Qwen3's
template does with `enable_thinking=False`).

>>> extract_preference_from_response("<think>B ignores the query.</think><preference>A</preference>").preference
'A'
>>> extract_preference_from_response("Response B is better than Response A").reason
'no_verdict'
"""

from __future__ import annotations

import re
from typing import Literal, NamedTuple, cast

from pairwise_rm.contract.escaping import is_visible
from pairwise_rm.contract.rows import PREFERENCES, Preference

THINK_OPEN, THINK_CLOSE = "<think>", "</think>"
VERDICT_OPEN, VERDICT_CLOSE = "<preference>", "</preference>"

Thinking = Literal["response", "prompt", "closed"]
"""Where the opening tag of the reasoning stands: in the response, in the prompt, or closed in the prompt."""

InvalidReason = Literal[
    "no_verdict",
    "several_verdicts",
    "reasoning_not_opened",
    "reasoning_not_closed",
    "no_reasoning",
    "unknown_value",
    "extra_text",
]
INVALID_REASONS: tuple[InvalidReason, ...] = InvalidReason.__args__  # type: ignore[attr-defined]

_VERDICT = re.compile(r"<preference>(.*)</preference>", re.DOTALL)


class Verdict(NamedTuple):
    """`preference` is None exactly when `reason` says why the response is invalid."""

    preference: Preference | None
    reason: InvalidReason | None
    reasoning: str

    @property
    def valid(self) -> bool:
        return self.preference is not None


def extract_preference_from_response(response: str, thinking: Thinking = "response") -> Verdict:
    """Parses one response of a judge.

    `thinking`: where the opening `<think>` stands; the default is the RM-Gallery tutorial's output format.
    Never raises on any string.
    """
    body = response.strip()
    opened = body.find(VERDICT_OPEN)
    reasoning, closed, answer = body.partition(THINK_CLOSE)
    if thinking == "closed":
        reasoning, closed, answer = "", THINK_CLOSE, body

    def invalid(reason: InvalidReason) -> Verdict:
        return Verdict(None, reason, reasoning.removeprefix(THINK_OPEN).strip())

    # Tags are counted, not matched in pairs: that would take quadratic time on thousands of opening ones.
    if opened < 0 or body.find(VERDICT_CLOSE, opened) < 0:
        return invalid("no_verdict")
    if body.count(VERDICT_OPEN) != 1 or body.count(VERDICT_CLOSE) != 1:
        return invalid("several_verdicts")
    if thinking == "response" and not reasoning.startswith(THINK_OPEN):
        return invalid("reasoning_not_opened")
    if not closed:
        return invalid("reasoning_not_closed")
    if thinking == "response":
        reasoning = reasoning.removeprefix(THINK_OPEN)
    if THINK_OPEN in reasoning or THINK_OPEN in answer or THINK_CLOSE in answer:
        return invalid("extra_text")
    if thinking != "closed" and not is_visible(reasoning):
        return invalid("no_reasoning")
    if _VERDICT.search(answer) is None:
        # The only verdict stands inside the reasoning; none follows it.
        return invalid("no_verdict")
    if (found := _VERDICT.fullmatch(answer.strip())) is None:
        return invalid("extra_text")
    value = found.group(1).strip()
    if value not in PREFERENCES:
        return invalid("unknown_value")
    return Verdict(cast(Preference, value), None, reasoning.strip())
