"""Fits a pair's prompt to the token limit; tokenises only where an estimate does not suffice.

A prompt that is too long is dropped and counted, or both its responses are cut evenly; the query, the rubric and the
output requirement are never cut. Both orders of a pair are cut alike, since the cut does not depend on a response's
position.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

from pairwise_rm.contract.prompt import PairwiseComparisonTemplate, chat_tokens
from pairwise_rm.contract.rows import Message, Row

TOO_LONG = "prompt_too_long"
CUT_MARK = " […]"

_WORD = re.compile(r" ?[A-Za-z]+")
_LONGEST_WORD = 32  # letters; longer words rarely occur again
_MOST_WORDS = 200_000
_NEAR_LIMIT = 32  # tokens; far more than the two orders of a pair can differ by


@dataclass
class TokenEstimate:
    """An upper bound of a text's tokens, many times faster than tokenising it.

    A word is tokenised once and remembered; every other byte counts as a token, since a byte-level token holds
    at least one. Tokens that span the boundary of a word are counted as several, so the estimate is about 5 % too
    high for English, and more for digits, code and other scripts.
    """

    tokenizer: Any
    _known: dict[str, int] = field(default_factory=dict, repr=False)

    def may_exceed(self, text: str, limit: int) -> bool:
        """Whether the text may have more than `limit` tokens; False is certain, True is not."""
        size = len(text.encode())
        return size > limit and self._bound(text, size) > limit

    def _bound(self, text: str, size: int) -> int:
        words = [word for word in _WORD.findall(text) if len(word) <= _LONGEST_WORD]
        if len(self._known) > _MOST_WORDS:
            self._known.clear()
        new = list({word for word in words if word not in self._known})
        if new:
            encoded = self.tokenizer(new, add_special_tokens=False)["input_ids"]
            self._known.update((word, min(len(ids), len(word))) for word, ids in zip(new, encoded, strict=True))
        return size - sum(map(len, words)) + sum(map(self._known.__getitem__, words))


@dataclass(frozen=True)
class PromptFitter:
    """Renders rows into chat messages of at most `max_tokens` tokens, chat template included."""

    tokenizer: Any
    template: PairwiseComparisonTemplate
    max_tokens: int
    overlong: Literal["drop", "cut"] = "cut"
    system: str | None = None
    chat_template_kwargs: Mapping[str, Any] | None = None

    @cached_property
    def _estimate(self) -> TokenEstimate:
        return TokenEstimate(self.tokenizer)

    @cached_property
    def _frame(self) -> int:
        """Tokens of the chat template and the system message around an empty prompt."""
        system: list[Message] = [{"role": "system", "content": self.system}] if self.system else []
        return len(self.tokens([*system, {"role": "user", "content": ""}]))

    def messages(self, row: Row, responses: Sequence[str] | None = None) -> list[Message]:
        shown: Mapping[str, Any] = row if responses is None else {**row, "responses": responses}
        return self.template.messages(shown, self.system)

    def tokens(self, messages: Sequence[Message]) -> list[int]:
        """The prompt's token ids, as rollout, training and evaluation see them."""
        return chat_tokens(self.tokenizer, messages, self.chat_template_kwargs)

    def fit(self, row: Row) -> tuple[str, str] | None:
        """The row's responses, whole or cut so that the prompt fits; None when it cannot fit.

        A row fits only if the pair's other order does too, so that both are kept, cut or dropped together.
        """
        first, second = row["responses"]
        if self._fits(row):
            return first, second
        if self.overlong == "drop":
            return None
        return self._cut(row, (first, second))

    def _fits(self, row: Row) -> bool:
        messages = self.messages(row)
        # Tokens that merge at the content's edges make the prompt shorter, hardly ever one token longer.
        if not self._estimate.may_exceed(messages[-1]["content"], self.max_tokens - self._frame - 8):
            return True
        room = self.max_tokens - len(self.tokens(messages))
        if room > _NEAR_LIMIT or room < 0:
            return room >= 0
        return self._excess(row, row["responses"]) <= 0

    def _excess(self, row: Row, responses: Sequence[str]) -> int:
        """Tokens above the limit, in the longer one of the two orders."""
        orders = (responses, responses[::-1])
        return max(len(self.tokens(self.messages(row, shown))) for shown in orders) - self.max_tokens

    def _cut(self, row: Row, responses: tuple[str, str]) -> tuple[str, str] | None:
        budget = -self._excess(row, (CUT_MARK, CUT_MARK))
        ends = [self._token_ends(text) for text in responses]
        for _ in range(6):
            if budget < 2:
                return None
            shares = _share([len(found) for found in ends], budget)
            first, second = (
                _shorten(text, found, keep) for text, found, keep in zip(responses, ends, shares, strict=True)
            )
            excess = self._excess(row, (first, second))
            if excess <= 0:
                return first, second
            budget -= excess + 2
        return None

    def _token_ends(self, text: str) -> list[int]:
        """Where each token of the text ends, in characters."""
        if not self.tokenizer.is_fast:
            count = len(self.tokenizer.encode(text, add_special_tokens=False))
            return [len(text) * number // count for number in range(1, count + 1)]
        encoded = self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        return [end for _, end in encoded["offset_mapping"]]


def _share(lengths: Sequence[int], budget: int) -> tuple[int, int]:
    """How many tokens each response keeps: the same number, or all of a short one and the rest for the other."""
    half = budget // 2
    first, second = lengths
    if first <= half:
        return first, min(second, budget - first)
    if second <= half:
        return min(first, budget - second), second
    return half, half


def _shorten(text: str, ends: Sequence[int], keep: int) -> str:
    if keep >= len(ends):
        return text
    return text[: ends[keep - 1] if keep else 0].rstrip() + CUT_MARK
