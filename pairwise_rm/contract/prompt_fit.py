"""Fits a pair's prompt to the token limit; tokenises only where an estimate does not suffice.

A prompt that is too long is dropped and counted, or cut: the longer response first, to the length of the other one, and
then both. Only a query that would leave the responses less than a quarter of what the prompt has room for is cut too,
out of its middle; the rubric and the output requirement never are. Both orders of a pair are cut alike, since the cut
does not depend on a response's position.
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
_LEAST_SHARE = 0.25  # of the room for query and responses, kept for the responses
_TRIES = 6
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
        text = self._normalised(text)
        size = len(text.encode())
        return size > limit and self._bound(text, size) > limit

    def _normalised(self, text: str) -> str:
        # Composing (Qwen's NFC) makes some characters longer, a musical note three times as long.
        if text.isascii():
            return text
        normalizer = getattr(getattr(self.tokenizer, "backend_tokenizer", None), "normalizer", None)
        return str(normalizer.normalize_str(text)) if normalizer else text

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

    def messages(self, row: Row) -> list[Message]:
        return self.template.messages(row, self.system)

    def tokens(self, messages: Sequence[Message]) -> list[int]:
        """The prompt's token ids, as rollout, training and evaluation see them."""
        return chat_tokens(self.tokenizer, messages, self.chat_template_kwargs)

    def fit(self, row: Row) -> Row | None:
        """The row, or one whose responses and, if it must be, query are cut so that the prompt fits; None if it cannot.

        A row fits only if the pair's other order does too, so that both are kept, cut or dropped together.
        """
        if self._fits(row):
            return row
        if self.overlong == "drop":
            return None
        return self._cut(row)

    def _fits(self, row: Row) -> bool:
        messages = self.messages(row)
        # Tokens that merge at the content's edges make the prompt shorter, hardly ever one token longer.
        if not self._estimate.may_exceed(messages[-1]["content"], self.max_tokens - self._frame - 8):
            return True
        room = self.max_tokens - len(self.tokens(messages))
        if room > _NEAR_LIMIT or room < 0:
            return room >= 0
        return self._excess(row) <= 0

    def _excess(self, row: Row) -> int:
        """Tokens above the limit, in the longer one of the two orders."""
        orders = (row["responses"], row["responses"][::-1])
        counts = [len(self.tokens(self.messages({**row, "responses": list(shown)}))) for shown in orders]
        return max(counts) - self.max_tokens

    def _cut(self, row: Row) -> Row | None:
        responses = [self._text(text) for text in row["responses"]]
        query = [self._text(turn["content"]) for turn in row["messages"]]
        cut: Row = {**row, "responses": [CUT_MARK, CUT_MARK]}
        budget = -self._excess(cut)
        room = budget + _tokens(query)
        if room < 2:
            return None
        least = min(_tokens(responses), max(2, int(room * _LEAST_SHARE)))
        for_query = room - least
        for _ in range(_TRIES):
            if budget >= least or for_query < 1:
                break
            cut["messages"] = _without_middles(row["messages"], query, for_query)
            budget = -self._excess(cut)
            for_query -= max(0, least - budget)
        for _ in range(_TRIES):
            if budget < min(2, least):
                return None
            shares = _shares([len(text.ends) for text in responses], budget)
            cut["responses"] = [text.beginning(keep) for text, keep in zip(responses, shares, strict=True)]
            excess = self._excess(cut)
            if excess <= 0:
                return cut
            budget -= excess + 2
        return None

    def _text(self, text: str) -> _Text:
        # What is one token before it is escaped may be ten after.
        shown = self.template.defuse(text)
        if not self.tokenizer.is_fast:
            count = len(self.tokenizer.encode(shown, add_special_tokens=False))
            return _Text(text, shown, [len(shown) * number // count for number in range(1, count + 1)])
        encoded = self.tokenizer(shown, add_special_tokens=False, return_offsets_mapping=True)
        return _Text(text, shown, [end for _, end in encoded["offset_mapping"]])


@dataclass(frozen=True)
class _Text:
    """A text, how it is shown, and where each token of that ends, in characters."""

    whole: str
    shown: str
    ends: Sequence[int]

    def beginning(self, keep: int) -> str:
        """Its first `keep` tokens."""
        if keep >= len(self.ends):
            return self.whole
        return self.shown[: self.ends[keep - 1] if keep else 0].rstrip() + CUT_MARK

    def without_middle(self, keep: int) -> str:
        """`keep` of its tokens, from both its ends: a question may stand before or after what it is about."""
        if keep >= len(self.ends):
            return self.whole
        last = keep // 2
        rest = self.shown[self.ends[-last - 1] :].lstrip() if last else ""
        return f"{self.beginning(keep - last)} {rest}".rstrip()


def _without_middles(turns: Sequence[Message], texts: Sequence[_Text], budget: int) -> list[Message]:
    """The turns with `budget` tokens in all, the longest of them cut first."""
    shares = _shares([len(text.ends) for text in texts], budget)
    shown = [text.without_middle(keep) for text, keep in zip(texts, shares, strict=True)]
    return [{"role": turn["role"], "content": text} for turn, text in zip(turns, shown, strict=True)]


def _tokens(texts: Sequence[_Text]) -> int:
    return sum(len(text.ends) for text in texts)


def _shares(lengths: Sequence[int], budget: int) -> list[int]:
    """How many tokens each text keeps: the longest is cut first, to the length of the next, and then both alike."""
    level, rest = 0, budget
    for place, length in enumerate(ordered := sorted(lengths)):
        level = rest // (len(ordered) - place)
        if length > level:
            break
        rest -= length
    else:
        return list(lengths)
    return [min(length, level) for length in lengths]
