r"""Conversations as one text, as Anthropic's hh-rlhf has them: `\n\nHuman: ...\n\nAssistant: ...`.

>>> transcript_turns("\n\nHuman: Why?\n\nAssistant: Because.")
[{'role': 'user', 'content': 'Why?'}, {'role': 'assistant', 'content': 'Because.'}]
"""

from __future__ import annotations

import re

from pairwise_rm.contract.rows import Message

_MARKER = re.compile(r"(?:\A\s*|\r?\n\r?\n)(Human|Assistant):[ ]?")
_ANSWER = re.compile(r"\r?\n\r?\nAssistant:")
_ROLES = {"Human": "user", "Assistant": "assistant"}


def is_transcript(text: str) -> bool:
    """Whether a text is a conversation: one that merely begins with the word "Human:" has no answer's marker."""
    if "Human:" not in text[:64]:
        return False
    if text.startswith(("\n\nHuman:", "\r\n\r\nHuman:")):
        return True
    return text.lstrip().startswith("Human:") and _ANSWER.search(text) is not None


def transcript_turns(text: str) -> list[Message]:
    """The turns of a transcript; an `Assistant:` at its end is a turn without text."""
    _, *parts = _MARKER.split(text)
    return [{"role": _ROLES[role], "content": content} for role, content in zip(parts[::2], parts[1::2], strict=True)]
