"""Making a pair's prompt fit: estimate first, tokenise only where the estimate cannot tell.

What does not fit is dropped and counted, or loses text from its responses, evenly; the query, the rubric and
the output requirement are never cut. Both orders of a pair are cut alike, since the cut looks at each
response and not at its place.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pairwise_rm.rows import Message, Row
from pairwise_rm.template import PairwiseComparisonTemplate

TOO_LONG = "prompt_too_long"
CUT_MARK = " […]"

_LETTERS = bytes(range(65, 91)) + bytes(range(97, 123)) + b" \n"
_UNBROKEN = re.compile(r"\S{48,}")


def may_exceed(text: str, limit: int) -> bool:
    """Whether the text may have more than `limit` tokens, judged without tokenising it.

    Letters and spaces count half a token, every other UTF-8 byte a whole one: about twice what English takes
    in a byte-pair vocabulary, and more than digits, code or other scripts take. An unbroken run of 48
    characters (base64, hashes) defeats the estimate, so such a text is always tokenised. Every text of at
    most `limit` bytes fits, since a byte-level token holds at least one byte.
    """
    encoded = text.encode()
    if len(encoded) <= limit:
        return False
    others = len(encoded.translate(None, _LETTERS))
    return others + (len(encoded) - others) // 2 > limit or _UNBROKEN.search(text) is not None


@dataclass(frozen=True)
class PromptFitter:
    """Renders rows into chat messages of at most `max_tokens` tokens, chat template included."""

    tokenizer: Any
    template: PairwiseComparisonTemplate
    max_tokens: int
    overlong: Literal["drop", "cut"] = "cut"
    system: str | None = None
    chat_template_kwargs: Mapping[str, Any] | None = None

    def messages(self, row: Row, responses: Sequence[str] | None = None) -> list[Message]:
        shown: Mapping[str, Any] = row if responses is None else {**row, "responses": responses}
        return self.template.messages(shown, self.system)

    def tokens(self, messages: Sequence[Message]) -> list[int]:
        """The prompt's token ids, as rollout, training and evaluation see them."""
        ids = self.tokenizer.apply_chat_template(
            messages, add_generation_prompt=True, tokenize=True, return_dict=False, **(self.chat_template_kwargs or {})
        )
        return list(ids)

    def fit(self, row: Row) -> tuple[str, str] | None:
        """The row's responses, whole or cut so that the prompt fits; None when it cannot fit."""
        first, second = row["responses"]
        if not self._too_long(self.messages(row)):
            return first, second
        if self.overlong == "drop":
            return None
        return self._cut(row, (first, second))

    def _too_long(self, messages: Sequence[Message]) -> bool:
        # The template's own tokens are few; 64 bytes cover the role markers of every turn.
        text = "".join(message["content"] for message in messages)
        if not may_exceed(text, self.max_tokens - 64 * len(messages)):
            return False
        return len(self.tokens(messages)) > self.max_tokens

    def _cut(self, row: Row, responses: tuple[str, str]) -> tuple[str, str] | None:
        frame = len(self.tokens(self.messages(row, (CUT_MARK, CUT_MARK))))
        lengths = [len(self.tokenizer.encode(text, add_special_tokens=False)) for text in responses]
        budget = self.max_tokens - frame
        for _ in range(6):
            if budget < 2:
                return None
            kept = [
                _shorten(text, length, keep)
                for text, length, keep in zip(responses, lengths, _share(lengths, budget), strict=True)
            ]
            excess = len(self.tokens(self.messages(row, kept))) - self.max_tokens
            if excess <= 0:
                return kept[0], kept[1]
            budget -= excess + 2
        return None


def _share(lengths: Sequence[int], budget: int) -> tuple[int, int]:
    """How many tokens each response keeps: the same number, or all of a short one and the rest for the other."""
    half = budget // 2
    first, second = lengths
    if first <= half:
        return first, min(second, budget - first)
    if second <= half:
        return min(first, budget - second), second
    return half, half


def _shorten(text: str, tokens: int, keep: int) -> str:
    if keep >= tokens:
        return text
    return text[: len(text) * keep // max(tokens, 1)].rstrip() + CUT_MARK
