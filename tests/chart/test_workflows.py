"""GitHub's workflows: actionlint finds nothing, actions are pinned by commit, and what they call is there."""

from __future__ import annotations

import re
import shutil
import subprocess
from typing import Any

import pytest
import yaml
from crd_schemas import REPO

WORKFLOWS = sorted((REPO / ".github" / "workflows").glob("*.yaml"))
PINNED = re.compile(r"uses: [\w.-]+/[\w./-]+@[0-9a-f]{40} # v\d+(\.\d+)+$")


def jobs(file: Any) -> list[dict[str, Any]]:
    return list(yaml.safe_load(file.read_text())["jobs"].values())


def test_actionlint_finds_nothing() -> None:
    own = REPO / ".tools" / "actionlint"
    actionlint = str(own) if own.is_file() else shutil.which("actionlint")
    assert actionlint, "actionlint is needed; `make tools` installs it into .tools"
    done = subprocess.run([actionlint, *map(str, WORKFLOWS)], capture_output=True, text=True, cwd=REPO, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@pytest.mark.parametrize("file", WORKFLOWS, ids=lambda file: file.name)
def test_a_workflow_pins_its_actions_reads_only_and_has_an_end(file: Any) -> None:
    uses = [line.strip().removeprefix("- ") for line in file.read_text().splitlines() if "uses:" in line]
    assert uses
    assert [line for line in uses if not PINNED.fullmatch(line)] == []
    assert yaml.safe_load(file.read_text())["permissions"] == {"contents": "read"}
    assert all(job["timeout-minutes"] <= 60 and job["runs-on"] != "ubuntu-latest" for job in jobs(file))


def test_the_workflows_call_targets_that_the_makefile_has() -> None:
    targets = set(re.findall(r"^([a-z][a-z0-9-]*):", (REPO / "Makefile").read_text(), re.MULTILINE))
    called = set()
    for file in WORKFLOWS:
        for job in jobs(file):
            called |= set(job.get("strategy", {}).get("matrix", {}).get("part", []))
            for step in job["steps"]:
                called |= set(re.findall(r"\bmake ([a-z][a-z0-9-]*)", step.get("run", "")))
    assert {"lint", "unit", "e2e"} <= called
    assert called <= targets
