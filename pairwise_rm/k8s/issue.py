"""An issue that blocks a release: the object, and a sentence with the cluster's message and the value to change."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Issue:
    """`terminal`: it stays so until somebody changes something, so that waiting longer is no use."""

    subject: str
    text: str
    terminal: bool = False

    def __str__(self) -> str:
        return f"{self.subject} {self.text}"


def merged(issues: list[Issue]) -> list[Issue]:
    """Troubles of the same words as one, the terminal ones first: eight workers lack one image, not eight."""
    alike: dict[tuple[str, bool], list[str]] = {}
    for issue in issues:
        subjects = alike.setdefault((issue.text, issue.terminal), [])
        if issue.subject not in subjects:
            subjects.append(issue.subject)
    found = []
    for (text, terminal), subjects in alike.items():
        more = f" (and {len(subjects) - 1} more like it)" if len(subjects) > 1 else ""
        found.append(Issue(subjects[0] + more, text, terminal))
    return sorted(found, key=lambda issue: not issue.terminal)


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
