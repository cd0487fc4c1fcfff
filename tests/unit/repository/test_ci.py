"""`.ci/run`, with a `make` that only prints: what it says at its end, and how it ends."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.paths import REPO

SMOKE = "accuracy 0.51 -> 0.97 (held out, both orders) · report: runs/smoke/evaluation/report.html"
MAKE = f"""#!/bin/sh
case "$1" in
run) echo "{SMOKE}" ;;
test)
  echo "3 passed, 2 skipped"
  echo "SKIPPED [2] tests/a.py:1: needs data"
  echo "SKIPPED [1] b.py:9: no Go"
  ;;
release-check) echo "SKIPPED [4] c.py:2: no registry" >&2 ;;
esac
[ "$1" != "$FAILS" ]
"""


def ci(folder: Path, fails: str = "") -> subprocess.CompletedProcess[str]:
    (folder / "make").write_text(MAKE)
    (folder / "make").chmod(0o755)
    environment = {key: value for key, value in os.environ.items() if key != "KUBECONFIG"}
    environment |= {"PATH": f"{folder}:{os.environ['PATH']}", "FAILS": fails, "PAIRWISE_RM_SHARED": str(folder)}
    return subprocess.run([REPO / ".ci" / "run"], env=environment, capture_output=True, text=True, check=False)


def test_ci_counts_the_tests_that_all_parts_skipped_and_lists_the_reasons(tmp_path: Path) -> None:
    done = ci(tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-4:] == [
        "skipped tests: 7",
        "[2] tests/a.py:1: needs data",
        "[1] b.py:9: no Go",
        "[4] c.py:2: no registry",
    ]


def test_ci_says_that_no_end_to_end_test_ran_where_there_is_no_cluster(tmp_path: Path) -> None:
    assert "END-TO-END TESTS ON KUBERNETES DID NOT RUN" in ci(tmp_path).stdout


@pytest.mark.parametrize("fails", ["install", "run", "test", "release-check"])
def test_ci_fails_with_any_of_its_parts(tmp_path: Path, fails: str) -> None:
    assert ci(tmp_path, fails).returncode != 0
