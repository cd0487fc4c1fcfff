"""The version: `pairwise_rm/__init__.py` has it, and every file that names it says the same.

    python -m release.versions           checks that they agree
    python -m release.versions 0.2.0     writes it into all of them (then: make manifests)

pyproject reads it from there. Helm, Docker and kubectl read files of their own, so those hold a copy each.
"""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from release import ROOT, ReleaseError

# PEP 440 and SemVer write X.Y.Z alike, and nothing beyond it.
VERSION = re.compile(r"\d+\.\d+\.\d+")
HOME = "pairwise_rm/__init__.py"
_X = r"(?P<version>\d+\.\d+\.\d+)"
# What names our version, by the files in which it does ("": all).
_PATTERNS: list[tuple[str, re.Pattern[str]]] = [
    (HOME, re.compile(rf'^__version__ = "{_X}"$', re.MULTILINE)),
    ("charts/pairwise-rm/Chart.yaml", re.compile(rf"^(?:version|appVersion): \"?{_X}\"?$", re.MULTILINE)),
    ("images/Dockerfile", re.compile(rf"^ARG VERSION={_X}$", re.MULTILINE)),
    ("", re.compile(rf"app\.kubernetes\.io/version: \"?{_X}\b")),
    ("", re.compile(rf"\bpairwise-rm:{_X}\b")),
    ("", re.compile(rf"\bpairwise-rm-{_X}\.tgz")),
    ("", re.compile(rf"\bpairwise-rm\b.* --version {_X}\b")),
    ("", re.compile(rf"\b(?:VERSION=|image\.tag=|refs/tags/v){_X}\b")),
    ("manifests/gitops/", re.compile(rf"\b(?:targetRevision: |tag: )v?{_X}\b")),
]
# History, other projects' versions, and tests, whose cases name versions of their own.
_LEFT_OUT = re.compile(r"^(CHANGELOG\.md|requirements/|tests/|pairwise_rm/(?!__init__\.py)|release/)")


@dataclass(frozen=True)
class Mention:
    """A place that names the version."""

    file: str
    line: int
    begin: int
    version: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.version}"


def mentions_in(file: str, text: str) -> list[Mention]:
    found = {}
    for prefix, pattern in _PATTERNS:
        if file.startswith(prefix):
            for match in pattern.finditer(text):
                begin = match.start("version")
                found[begin] = Mention(file, text.count("\n", 0, begin) + 1, begin, match["version"])
    return [found[begin] for begin in sorted(found)]


def mentions(root: Path = ROOT) -> list[Mention]:
    """Of all files that git has or would take."""
    command = ["git", "-C", str(root), "ls-files", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    files = sorted({name for name in names if not _LEFT_OUT.match(name) and (root / name).is_file()})
    return [mention for name in files for mention in mentions_in(name, _text(root / name))]


def version_of_package(root: Path = ROOT) -> str:
    """Read, not imported: what is installed may be another checkout."""
    [found] = [mention for mention in mentions_in(HOME, _text(root / HOME)) if mention.file == HOME]
    return found.version


def check(version: str, root: Path = ROOT) -> list[Mention]:
    """All mentions, which agree. Raises ReleaseError that tells those which do not."""
    if not VERSION.fullmatch(version):
        raise ReleaseError(f"VERSION={version}: X.Y.Z is needed")
    found = mentions(root)
    if wrong := [str(mention) for mention in found if mention.version != version]:
        more = f" and {len(wrong) - 5} more" if len(wrong) > 5 else ""
        raise ReleaseError(f"not {version}: {', '.join(wrong[:5])}{more}; `make bump VERSION={version}` sets it")
    return found


def bump(version: str, root: Path = ROOT) -> list[str]:
    """Writes the version into every file that names it; returns these files."""
    if not VERSION.fullmatch(version):
        raise ReleaseError(f"VERSION={version}: X.Y.Z is needed")
    by_file: dict[str, list[Mention]] = {}
    for mention in mentions(root):
        by_file.setdefault(mention.file, []).append(mention)
    for name, found in by_file.items():
        text = _text(root / name)
        for mention in reversed(found):
            text = text[: mention.begin] + version + text[mention.begin + len(mention.version) :]
        (root / name).write_text(text, encoding="utf-8")
    return sorted(by_file)


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace")


def main() -> None:
    try:
        if len(sys.argv) > 1:
            print(f"{sys.argv[1]} in {', '.join(bump(sys.argv[1]))}")
        else:
            print(f"{version_of_package()} in {len(check(version_of_package()))} places")
    except ReleaseError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
