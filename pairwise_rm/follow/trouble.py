"""What keeps a release from going on: the object, and a sentence with its own words and the value to change."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Trouble:
    """`hopeless`: it stays so until somebody changes something, so that waiting longer is no use."""

    subject: str
    text: str
    hopeless: bool = False

    def __str__(self) -> str:
        return f"{self.subject} {self.text}"


def merged(troubles: list[Trouble]) -> list[Trouble]:
    """Troubles of the same words as one, the hopeless ones first: eight workers lack one image, not eight."""
    alike: dict[tuple[str, bool], list[str]] = {}
    for trouble in troubles:
        subjects = alike.setdefault((trouble.text, trouble.hopeless), [])
        if trouble.subject not in subjects:
            subjects.append(trouble.subject)
    found = []
    for (text, hopeless), subjects in alike.items():
        more = f" (and {len(subjects) - 1} more like it)" if len(subjects) > 1 else ""
        found.append(Trouble(subjects[0] + more, text, hopeless))
    return sorted(found, key=lambda trouble: not trouble.hopeless)


def shortened(text: str, most: int = 64) -> str:
    """The beginning of a line."""
    line = " ".join(text.split())
    return line if len(line) <= most else f"{line[: most - 1].rstrip()}…"


def clipped(text: str, most: int = 240) -> str:
    """One line of bounded length: messages of runtimes nest, and tell the cause at their end."""
    line = " ".join(text.split())
    if len(line) <= most:
        return line
    begin = most // 3
    return f"{line[:begin].rstrip()} … {line[begin + 3 - most :].lstrip()}"
