"""`helm lint --strict` has nothing to say, whichever preset is linted."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.chart.rendering import helm
from tests.chart.renderings import PRESETS
from tests.paths import CHART


@pytest.mark.parametrize("file", [None, *PRESETS.values()], ids=["default", *PRESETS])
def test_lint_has_nothing_to_say(file: Path | None) -> None:
    values = [f"--values={file}"] if file else []
    done = subprocess.run(
        [helm(), "lint", "--strict", "--quiet", str(CHART), *values], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout.strip(), done.stderr.strip()) == (0, "", "")
