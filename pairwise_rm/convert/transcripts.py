r"""Conversations as one text, as Anthropic's hh-rlhf has them: `\n\nHuman: ...\n\nAssistant: ...`.

>>> transcript_turns("\n\nHuman: Why?\n\nAssistant: Because.")
[{'role': 'user', 'content': 'Why?'}, {'role': 'assistant', 'content': 'Because.'}]
"""

from __future__ import annotations

import re

from pairwise_rm.contract.rows import Message

_MARKER = re.compile(r"(?:\A\s*|\n\n)(Human|Assistant):[ ]?")
_ROLES = {"Human": "user", "Assistant": "assistant"}


def is_transcript(text: str) -> bool:
    """Whether a text is a conversation: one that merely begins with the word "Human:" has no answer's marker."""
    if "Human:" not in text[:64]:
        return False
    return text.startswith("\n\nHuman:") or (text.lstrip().startswith("Human:") and "\n\nAssistant:" in text)


def transcript_turns(text: str) -> list[Message]:
    """The turns of a transcript; an `Assistant:` at its end is a turn without text."""
    _, *parts = _MARKER.split(text)
    return [{"role": _ROLES[role], "content": content} for role, content in zip(parts[::2], parts[1::2], strict=True)]
