"""Workflows and hooks: checks find nothing, actions are pinned by commit, and what they call is there."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.paths import REPO

WORKFLOWS = sorted((REPO / ".github" / "workflows").glob("*.yaml"))
PINNED = re.compile(r"uses: [\w.-]+/[\w./-]+@[0-9a-f]{40} # v\d+(\.\d+)+$")


def jobs(file: Any) -> list[dict[str, Any]]:
    return list(yaml.safe_load(file.read_text())["jobs"].values())


def test_actionlint_finds_nothing() -> None:
    own = REPO / ".tools" / "actionlint"
    actionlint = str(own) if own.is_file() else shutil.which("actionlint")
    assert actionlint, "actionlint is needed; `make tools` installs it into .tools"
    shellcheck = Path(sys.executable).with_name("shellcheck")
    command = [actionlint, "-shellcheck", str(shellcheck), *map(str, WORKFLOWS)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=REPO, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@pytest.mark.parametrize("file", WORKFLOWS, ids=lambda file: file.name)
def test_a_workflow_pins_its_actions_reads_only_and_has_an_end(file: Any) -> None:
    uses = [line.strip().removeprefix("- ") for line in file.read_text().splitlines() if "uses:" in line]
    assert uses
    assert [line for line in uses if not PINNED.fullmatch(line)] == []
    assert yaml.safe_load(file.read_text())["permissions"] == {"contents": "read"}
    assert all(job["timeout-minutes"] <= 60 and job["runs-on"] != "ubuntu-latest" for job in jobs(file))


def parts(job: dict[str, Any]) -> set[str]:
    """What stands for `matrix.part` in a job."""
    matrix = job.get("strategy", {}).get("matrix", {})
    return {*matrix.get("part", []), *(case["part"] for case in matrix.get("include", []) if "part" in case)}


def test_no_job_may_write_but_those_that_publish_a_release() -> None:
    granted = {
        name: job["permissions"]
        for file in WORKFLOWS
        for name, job in yaml.safe_load(file.read_text())["jobs"].items()
        if "permissions" in job
    }
    pushes = {"contents": "read", "packages": "write", "id-token": "write"}
    assert granted == {"image": pushes, "chart": pushes, "release": {"contents": "write", "packages": "read"}}


def test_unit_tests_run_on_every_python_that_the_package_takes() -> None:
    [matrix] = [job["strategy"]["matrix"] for job in jobs(REPO / ".github" / "workflows" / "ci.yaml") if parts(job)]
    pythons = {*matrix["python"], *(case["python"] for case in matrix["include"] if case["part"] == "unit")}
    makefile = (REPO / "Makefile").read_text()
    assert "3, 10) <= v <= (3, 12)" in makefile
    assert pythons == {"3.10", "3.11", "3.12"}


def test_the_workflows_call_targets_that_the_makefile_has() -> None:
    targets = set(re.findall(r"^([a-z][a-z0-9-]*):", (REPO / "Makefile").read_text(), re.MULTILINE))
    called = set()
    for file in WORKFLOWS:
        for job in jobs(file):
            called |= parts(job)
            for step in job["steps"]:
                called |= set(re.findall(r"\bmake ([a-z][a-z0-9-]*)", step.get("run", "")))
    assert {"lint", "unit", "chart-test", "e2e", "release-check", "image-cpu"} <= called
    assert called <= targets


def test_the_modules_that_the_release_runs_are_there() -> None:
    text = (REPO / ".github" / "workflows" / "release.yaml").read_text()
    modules = set(re.findall(r"python3 -m (release\.\w+)", text))
    assert modules == {"release.chart", "release.changelog"}
    assert all((REPO / (module.replace(".", "/") + ".py")).is_file() for module in modules)


def test_every_shell_script_is_clean_to_shellcheck() -> None:
    names = subprocess.run(["git", "ls-files"], capture_output=True, text=True, cwd=REPO, check=True).stdout.split("\n")
    scripts = [name for name in names if is_shell(REPO / name)]
    assert {".ci/run", "images/build", "images/check_base.sh", "tests/e2e/run"} <= set(scripts)
    shellcheck = str(Path(sys.executable).with_name("shellcheck"))
    done = subprocess.run([shellcheck, *scripts], capture_output=True, text=True, cwd=REPO, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def is_shell(file: Path) -> bool:
    if not file.is_file():
        return False
    with file.open("rb") as content:
        return bool(re.match(rb"#!.*\b(ba)?sh\n", content.readline(80)))


def test_a_hook_calls_what_make_installs() -> None:
    [repo] = yaml.safe_load((REPO / ".pre-commit-config.yaml").read_text())["repos"]
    hooks = {hook["id"]: hook["entry"].split() for hook in repo["hooks"]}
    assert {"ruff-check", "ruff-format", "mypy", "shellcheck", "actionlint", "chart", "helm-docs", "manifests"} <= set(
        hooks
    )
    locked = (REPO / "requirements" / "dev.txt").read_text()
    makefile = (REPO / "Makefile").read_text()
    for command, *_ in hooks.values():
        folder, _, name = command.rpartition("/")
        if folder == ".tools":
            assert f"$(TOOLS)/{name}: MODULE :=" in makefile
        else:
            assert folder == ".venv/bin"
            assert name == "python" or re.search(rf"^{name}(-py)?==", locked, re.MULTILINE)
