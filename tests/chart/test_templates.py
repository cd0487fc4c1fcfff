"""The chart's helpers can be read: each says what it gives and what it takes, and is called by its name."""

from __future__ import annotations

import re

import pytest

from tests.chart.chart_sentences import templates
from tests.paths import CHART

ALL = {str(file.relative_to(CHART)): file.read_text() for file in (CHART / "templates").rglob("*") if file.is_file()}
DEFINED = {
    name: match
    for text in ALL.values()
    for match in re.finditer(r'\{\{- define "([^"]+)" -\}\}', text)
    for name in match.groups()
}


@pytest.mark.parametrize("name", DEFINED)
def test_a_helper_says_what_it_gives_and_what_it_takes(name: str) -> None:
    before = DEFINED[name].string[: DEFINED[name].start()].rstrip("\n")
    assert before.endswith("*/}}")
    comment = before[before.rindex("{{/*") :]
    assert re.search(r"\bInputs?: \w", comment), comment


def test_a_helper_is_included_by_its_name_and_each_is() -> None:
    included = {name for text in ALL.values() for name in re.findall(r'(?:include|template) "([^"]+)"', text)}
    assert included == set(DEFINED)
    actions = [action for text in ALL.values() for action in re.findall(r"\{\{-? *([^/].*?)\}\}", text)]
    assert [action for action in actions if re.search(r"\b(include|template) [^\"]", action)] == []


def test_each_file_of_helpers_says_what_it_holds() -> None:
    assert [file.name for file in templates() if not file.read_text().startswith("{{/*")] == []
