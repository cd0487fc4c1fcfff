"""CHANGELOG.md, as Keep a Changelog has it: a section for each version, with its date, and Unreleased above them.

python -m release.changelog 0.1.0    prints the section's text, which becomes the release's
"""

from __future__ import annotations

import re
import sys
from datetime import date

from release import ROOT, ReleaseError

FILE = ROOT / "CHANGELOG.md"
_HEAD = re.compile(r"^## \[(?P<name>[^\]]+)\](?: - (?P<date>\S+))?$", re.MULTILINE)
_LINKS = re.compile(r"^\[[^\]]+\]: \S+$", re.MULTILINE)


def section(text: str, version: str) -> str:
    """The text below a version's heading. Raises ReleaseError where it is absent, empty or without a date."""
    heads = list(_HEAD.finditer(text))
    for head, end in zip(heads, [*(head.start() for head in heads[1:]), len(text)], strict=False):
        if head["name"] != version:
            continue
        try:
            date.fromisoformat(head["date"] or "")
        except ValueError:
            raise ReleaseError(f"CHANGELOG.md: `{head[0]}` needs a date, as in `## [{version}] - 2026-01-31`") from None
        body = _LINKS.sub("", text[head.end() : end]).strip()
        if not re.search(r"^- ", body, re.MULTILINE):
            raise ReleaseError(f"CHANGELOG.md: section {version} has no entry")
        return body
    names = ", ".join(head["name"] for head in heads) or "none"
    raise ReleaseError(f"CHANGELOG.md has no section {version} (has {names})")


def main() -> None:
    try:
        print(section(FILE.read_text(encoding="utf-8"), sys.argv[1]))
    except ReleaseError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
