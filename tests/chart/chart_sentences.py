"""The sentences with which the chart's templates refuse, as patterns, so that a test can tell whether each is shown."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from tests.paths import CHART


def templates() -> list[Path]:
    """All files in which the chart's helpers are defined."""
    return sorted((CHART / "templates").glob("_*.tpl"))


def sentences(names: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Each `fail` of these templates: where and how it is written, and a pattern of what helm then says."""
    for name in names:
        for match in re.finditer(r'fail (?:\(printf )?"((?:[^"\\]|\\.)*)"', (CHART / "templates" / name).read_text()):
            written = match[1].replace('\\"', '"')
            yield f"{name}: {written}", ".*".join(re.escape(part) for part in re.split(r"%[sqvd]", written))
