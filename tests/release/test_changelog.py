"""The changelog's sections, one of which becomes a release's text."""

from __future__ import annotations

import pytest

import pairwise_rm
from release import ReleaseError, changelog

TEXT = """# Changelog

## [Unreleased]

## [0.2.0] - 2026-02-03

### Added

- Two.

## [0.1.0] - 2026-01-31

- One.

[Unreleased]: https://example.com/compare
[0.1.0]: https://example.com/v0.1.0
"""


def test_a_section_is_what_stands_below_its_heading() -> None:
    assert changelog.section(TEXT, "0.2.0") == "### Added\n\n- Two."


def test_the_last_section_goes_without_the_links() -> None:
    assert changelog.section(TEXT, "0.1.0") == "- One."


@pytest.mark.parametrize(
    ("text", "version", "told"),
    [
        (TEXT, "0.3.0", "CHANGELOG.md has no section 0.3.0 (has Unreleased, 0.2.0, 0.1.0)"),
        ("", "0.3.0", "CHANGELOG.md has no section 0.3.0 (has none)"),
        (TEXT.replace("- Two.", ""), "0.2.0", "CHANGELOG.md: section 0.2.0 has no entry"),
        (TEXT.replace(" - 2026-02-03", ""), "0.2.0", "CHANGELOG.md: `## [0.2.0]` needs a date"),
        (TEXT.replace("2026-02-03", "2026-02-30"), "0.2.0", "CHANGELOG.md: `## [0.2.0] - 2026-02-30` needs a date"),
    ],
)
def test_a_section_that_cannot_be_a_releases_text_is_refused(text: str, version: str, told: str) -> None:
    with pytest.raises(ReleaseError) as error:
        changelog.section(text, version)
    assert str(error.value).startswith(told)


def test_the_packages_version_has_a_section() -> None:
    assert "- " in changelog.section(changelog.FILE.read_text(encoding="utf-8"), pairwise_rm.__version__)


def test_the_changelog_has_a_section_for_what_is_not_released() -> None:
    assert "\n## [Unreleased]\n" in changelog.FILE.read_text(encoding="utf-8")
