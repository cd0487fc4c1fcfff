"""The site builds without a warning, needs nothing from elsewhere, and its links are those of the repository."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from docs.hooks import READMES, rewritten
from tests.paths import REPO

URL = "https://example.org/repo"
PAGES = {"docs/index.md": "index.md", "images/README.md": "images.md", "charts/pairwise-rm/README.md": "chart.md"}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    done = subprocess.run(
        command, cwd=REPO, capture_output=True, text=True, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    )
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    return folder


def test_the_site_has_every_page(site: Path) -> None:
    pages = {path.stem for path in (REPO / "docs").glob("*.md")} | {Path(page).stem for page in READMES}
    assert {path.stem for path in site.glob("*.html")} == {*pages, "404"}
    assert "pairwise-rm trains a judge" in (site / "index.html").read_text(encoding="utf-8")
    assert "autoscaling.idleTimeoutSeconds" in (site / "chart.html").read_text(encoding="utf-8")


def test_the_site_holds_no_source_of_its_generated_pages(site: Path) -> None:
    assert [path.name for path in site.rglob("*") if path.suffix in (".py", ".yaml", ".pyc")] == []


def test_a_page_loads_nothing_from_elsewhere(site: Path) -> None:
    for page in site.glob("*.html"):
        loaded = re.findall(
            r"<(?:script|img|link)[^>]*?(?:src|href)=\"?(https?:[^\" >]+)", page.read_text(encoding="utf-8")
        )
        assert loaded == [], page.name


@pytest.mark.parametrize(
    ("page", "written", "wanted"),
    [
        ("index.md", "[images](../images/README.md#layers)", "[images](images.md#layers)"),
        ("index.md", "[code](../Makefile)", f"[code]({URL}/blob/main/Makefile)"),
        ("chart.md", "[home](../../docs/index.md)", "[home](index.md)"),
        ("index.md", "[Ray](https://ray.io)", "[Ray](https://ray.io)"),
        ("index.md", "`a[0](../x)` and [it](../Makefile)", f"`a[0](../x)` and [it]({URL}/blob/main/Makefile)"),
        ("index.md", "```\n[x](../y)\n```", "```\n[x](../y)\n```"),
    ],
)
def test_a_link_leads_to_the_page_or_to_the_file_on_github(page: str, written: str, wanted: str) -> None:
    assert rewritten(written, page, PAGES, URL) == wanted


def test_a_link_to_a_file_that_does_not_exist_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    rewritten("[x](../gone.md)", "index.md", PAGES, URL)
    assert "index.md: link to gone.md, which does not exist" in caplog.text
