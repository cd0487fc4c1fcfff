"""What is generated is what its generator gives: `make chart` and `make manifests` would leave the tree as it is."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable

import pytest

from charts import generate, manifests
from tests.paths import CHART, REPO


@pytest.mark.parametrize("generator", [generate.main, manifests.main], ids=["make chart", "make manifests"])
def test_files_are_what_their_generator_writes(
    generator: Callable[[bool], int], capsys: pytest.CaptureFixture[str]
) -> None:
    code = generator(True)
    assert (code, capsys.readouterr().out) == (0, "")


def test_the_readme_is_what_helm_docs_writes() -> None:
    own = REPO / ".tools" / "helm-docs"
    found = str(own) if own.is_file() else shutil.which("helm-docs")
    assert found, "helm-docs is needed; `make tools` installs it into .tools"
    options = ["--chart-search-root=charts", "--sort-values-order=file", "--log-level=warning", "--dry-run"]
    made = subprocess.run([found, *options], capture_output=True, text=True, cwd=REPO, check=True)
    assert made.stdout.strip() == (CHART / "README.md").read_text().strip()
