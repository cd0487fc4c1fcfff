"""Escapes markup in the text of a row, so that it stays text in the prompt of a judge.

Markup is what has a meaning in a prompt: our own tags, the control tokens of a tokenizer, and the lines and tags by
which the template tells its parts apart. A tag or token is broken after its first character (`<think>` becomes
`&lt;think>`, `[INST]` becomes `[\\INST]`), a line gets a backslash before it. All the rest of a text stays as it is.

Text is compared as it looks, and as a tokenizer's normaliser may change it: without characters that are invisible, with
look-alike brackets, bars and letters as their ASCII forms, and with every kind of line break.

>>> MarkupEscaper(["<think>"], []).escape("<think>, <\\u200bthink>, \\uff1cthink\\uff1e and <b>")
'&lt;think>, &lt;\\u200bthink>, &lt;think\\uff1e and <b>'
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import jinja2

RENDER_ERRORS = (
    *(jinja2.TemplateError, TypeError, ValueError, AttributeError, LookupError, ArithmeticError, RecursionError),
)
"""What a template of somebody else's can raise while it renders."""

_LINE_BREAKS = "\r\v\f\x1c\x1d\x1e\x85\u2028\u2029"
_LOOK_ALIKE = {
    "<": "\u02c2\u1438\u16b2\u2039\u2329\u276e\u2770\u27e8\u3008\u29fc\u00ab\u226a\u300a\u2264\ufe3f",
    ">": "\u02c3\u1433\u16b3\u203a\u232a\u276f\u2771\u27e9\u3009\u29fd\u00bb\u226b\u300b\u2265\ufe40",
    "|": "\u01c0\u05c0\u2223\u23d0\u2502\u2503\u2758\u2759\u275a\u00a6",
    "[": "\u27e6\u3010\u3014\u301a\u2045",
    "]": "\u27e7\u3011\u3015\u301b\u2046",
    "/": "\u2044\u2215\u29f8\u2571",
    "#": "\u266f",
    ":": "\u02d0\u02f8\u0589\u05c3\u2236\ua789",
    "_": "\u2581\u02cd",
    # Cyrillic and Greek letters with the shape of Latin ones.
    "a": "\u0430\u03b1",
    "b": "\u044c",
    "c": "\u0441\u03f2",
    "e": "\u0435",
    "f": "\u0192",
    "h": "\u04bb",
    "i": "\u0456\u03b9\u0131",
    "j": "\u0458",
    "k": "\u043a\u03ba",
    "n": "\u0578",
    "o": "\u043e\u03bf",
    "p": "\u0440\u03c1",
    "r": "\u0433",
    "s": "\u0455",
    "t": "\u0442\u03c4",
    "u": "\u03c5",
    "x": "\u0445\u03c7",
    "y": "\u0443",
    "A": "\u0410\u0391",
    "B": "\u0412\u0392",
    "E": "\u0415\u0395",
    "I": "\u0406\u0399",
    "N": "\u039d",
    "O": "\u041e\u039f",
    "P": "\u0420\u03a1",
    "R": "\u0280",
    "S": "\u0405",
    "T": "\u0422\u03a4",
}
_JOINING = range(0xFE00, 0xFE10), range(0xE0100, 0xE01F0)  # variation selectors
_INVISIBLE = "\u034f\u115f\u1160\u17b4\u17b5\u3164\uffa0\u2800"

_TAG = re.compile(r"<[^<>\[\]\s]{1,80}>")
_BRACKETED = re.compile(r"\[[^<>\[\]\s]{1,80}\]")
_CONTROL_TOKEN = re.compile(r"<\|[^<>\[\]\s]{1,80}\|>")
_NAME = re.compile(r"</?([a-z]+)>")
_MOST_PASSES = 8
# Horizontal white space; a class that held line breaks would be tried again from each of many empty lines.
_SPACE = r"[^\S\n]"


class _Fold(dict[int, str]):
    """What a character counts as, for str.translate; found when it is first asked for."""

    def __missing__(self, code: int) -> str:
        self[code] = found = _folded(chr(code))
        return found


def _folded(character: str) -> str:
    if character in "\t\n":
        return character
    if character in _LINE_BREAKS:
        return "\n"
    invisible = unicodedata.category(character) in ("Cc", "Cf") or character in _INVISIBLE
    if invisible or any(ord(character) in codes for codes in _JOINING):
        return ""
    for ascii_form, others in _LOOK_ALIKE.items():
        if character in others:
            return ascii_form
    compatible = unicodedata.normalize("NFKC", character)
    return compatible if compatible.isascii() else character


_FOLD = _Fold()


def is_visible(text: str) -> bool:
    """Whether anything of the text can be seen."""
    return bool(text.translate(_FOLD).strip())


class MarkupEscaper:
    """Escapes `markers` anywhere, `lines` where they are a line, and `labels` where a line begins with them.

    Whatever looks like `<|a_token|>` is a marker, given or not. Escaping a text twice is escaping it once.
    """

    def __init__(self, markers: Iterable[str], lines: Iterable[str] = (), labels: Iterable[str] = ()) -> None:
        folded = {marker.translate(_FOLD).casefold() for marker in markers}
        folded = {marker for marker in folded if marker.strip()}
        tags = {marker for marker in folded if _TAG.fullmatch(marker) or _BRACKETED.fullmatch(marker)}
        self._tags = frozenset(tags)
        patterns = [_spaced(match.group(1)) for marker in tags if (match := _NAME.fullmatch(marker))]
        patterns += [re.escape(marker) for marker in sorted(folded - tags, key=len, reverse=True)]
        self._others = _any_of(sorted(set(patterns), key=len, reverse=True))
        shapes = [rf"{_line(line)}(?:{_SPACE}|[:.#*_])*$" for line in _distinct(lines)]
        shapes += [_line(label) for label in _distinct(labels)]
        self._lines = re.compile(f"^{_SPACE}*(?:{'|'.join(shapes)})", re.MULTILINE | re.IGNORECASE) if shapes else None

    def escape(self, text: str) -> str:
        # A marker may overlap one that is escaped before it.
        for _ in range(_MOST_PASSES):
            escaped = self._once(text)
            if escaped == text:
                break
            text = escaped
        return text

    def _once(self, text: str) -> str:
        folded = text.translate(_FOLD)
        edits: dict[int, str] = {}
        places: Sequence[int] | None = None
        for start, size, is_line in self._found(folded):
            if places is None:
                places = range(len(text)) if len(folded) == len(text) else _places(text)
            at = places[start]
            edits[at] = f"\\{text[at]}" if is_line else _broken(text[at], folded[start], size)
        if not edits:
            return text
        parts, done = [], 0
        for at, replacement in sorted(edits.items()):
            parts += [text[done:at], replacement]
            done = at + 1
        return "".join([*parts, text[done:]])

    def _found(self, folded: str) -> Iterator[tuple[int, int, bool]]:
        """Start and length of each piece of markup, and whether it is a line; lines first."""
        if self._lines:
            for match in self._lines.finditer(folded):
                whole = match.group()
                yield match.end() - len(whole.lstrip()), len(whole), True
        for shape in (_TAG, _BRACKETED):
            for match in shape.finditer(folded):
                if _CONTROL_TOKEN.fullmatch(match.group()) or match.group().casefold() in self._tags:
                    yield match.start(), len(match.group()), False
        if self._others:
            for match in self._others.finditer(folded):
                yield match.start(), len(match.group()), False


def _distinct(texts: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(text.translate(_FOLD).strip() for text in texts if text.strip()))


def _any_of(patterns: Sequence[str]) -> re.Pattern[str] | None:
    return re.compile("|".join(patterns), re.IGNORECASE) if patterns else None


def _spaced(name: str) -> str:
    """A tag of our kind, also with white space in it, or closing itself."""
    return rf"<{_SPACE}*/?{_SPACE}*{name}{_SPACE}*/?{_SPACE}*>"


def _line(text: str) -> str:
    """A line of the template with any white space between its words, and, of a heading, any depth."""
    words = [re.escape(word) for word in text.lstrip("#").split()]
    body = rf"{_SPACE}+".join(words)
    return rf"#{{1,6}}{_SPACE}*{body}" if text.startswith("#") else body


def _places(text: str) -> list[int]:
    """The index in `text` of each character of the folded text."""
    return [at for at, character in enumerate(text) for _ in _FOLD[ord(character)]]


def _broken(first: str, folded: str, size: int) -> str:
    if folded == "<":
        return "&lt;"
    return f"\\u{ord(first):04x}" if size == 1 else f"{first}\\"


def control_tokens(tokenizer: Any) -> list[str]:
    """What a text must not hold as it is: a tokenizer's special tokens, and what its chat template marks turns with.

    `all_special_tokens` is not enough: Llama 3 names three there, and has `<|start_header_id|>` and 250 others
    among its added tokens. Of added tokens that are not special, such as Gemma's `<table>`, only those are taken that
    the chat template has; a marker of the chat template need not be a token at all (Llama 2's `[INST]`).
    """
    found = dict.fromkeys(map(str, tokenizer.all_special_tokens))
    source = str(getattr(tokenizer, "chat_template", None) or "")
    for token in getattr(tokenizer, "added_tokens_decoder", {}).values():
        if token.special or token.content in source:
            found[token.content] = None
    found.update(dict.fromkeys(_template_markers(tokenizer)))
    return [token for token in found if token.strip()]


_TURN_MARKS = re.compile(r"<</?[A-Z_]+>>|<[^<>\[\]\s]{1,80}>|\[/?[A-Z_]{2,40}\]|^#+ [^\n]*:(?=\s*$)", re.MULTILINE)


def _template_markers(tokenizer: Any) -> Iterator[str]:
    """Marks in what the chat template writes around the texts of a conversation."""
    turns = [{"role": role, "content": "x"} for role in ("user", "assistant", "user")]
    for messages in (turns, [{"role": "system", "content": "x"}, *turns]):
        try:
            shown = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
        except RENDER_ERRORS:  # a template may refuse a role; who renders prompts says so
            continue
        yield from _TURN_MARKS.findall(str(shown))
