"""The gate before the gpu image's first pip, and the table of layers after its build."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.paths import REPO

DOCKERFILE = (REPO / "images" / "Dockerfile").read_text(encoding="utf-8")
# Answers as python3 does: its version, `-m pip`, the folder of its headers.
PYTHON = """#!/bin/sh
case "$*" in
  *version_info*) echo {version} ;;
  *pip*) exit {pip} ;;
  *sysconfig*) echo {headers} ;;
esac
"""


def check(folder: Path, version: str = "3.12", pip: bool = True, headers: bool = True) -> tuple[int, str]:
    """Exit code and words of the gate, in a base with such a Python."""
    include = folder / "include"
    include.mkdir()
    if headers:
        (include / "Python.h").touch()
    python = folder / "python3"
    python.write_text(PYTHON.format(version=version, pip=int(not pip), headers=include))
    python.chmod(0o755)
    return run(folder)


def run(path: Path) -> tuple[int, str]:
    command = ["/bin/sh", str(REPO / "images" / "check_base.sh"), "3.12"]
    done = subprocess.run(command, capture_output=True, text=True, env={"PATH": str(path)}, check=False)
    return done.returncode, done.stdout + done.stderr


def test_a_base_with_the_locks_python_and_pip_passes_in_silence(tmp_path: Path) -> None:
    assert check(tmp_path) == (0, "")


def test_a_base_without_python_is_refused(tmp_path: Path) -> None:
    code, said = run(tmp_path)
    assert (code, said.count("\n")) == (1, 1)
    assert said.endswith("BASE_IMAGE has no python3\n")


@pytest.mark.parametrize(
    ("base", "told"),
    [
        ({"version": "3.11"}, "BASE_IMAGE has Python 3.11\n"),
        ({"version": "3.13"}, "BASE_IMAGE has Python 3.13\n"),
        ({"pip": False}, "BASE_IMAGE has no pip\n"),
        ({"headers": False}, "BASE_IMAGE has no headers of Python ({folder}/include/Python.h)\n"),
    ],
)
def test_another_base_is_refused_in_one_line_that_says_which_is_needed(
    tmp_path: Path, base: dict[str, str], told: str
) -> None:
    code, said = check(tmp_path, **base)  # type: ignore[arg-type]
    assert (code, said.count("\n")) == (1, 1)
    assert said.startswith("error: the gpu image needs a base with Python 3.12, its headers and pip")
    assert said.endswith(told.format(folder=tmp_path))


def test_the_gate_wants_the_python_that_the_lock_is_for_and_the_base_has_it() -> None:
    [wanted] = re.findall(r"^RUN sh /tmp/check_base.sh (\S+)$", DOCKERFILE, re.MULTILINE)
    makefile = (REPO / "Makefile").read_text(encoding="utf-8")
    assert re.search(rf"--python-version {re.escape(wanted)} requirements/gpu\.in", makefile)
    [_, base] = re.findall(r"^FROM \$\{BASE_IMAGE:-(.+?)\}", DOCKERFILE, re.MULTILINE)
    assert f"python:{wanted}-" in base


def test_the_gate_stands_before_the_first_pip() -> None:
    gpu = DOCKERFILE[DOCKERFILE.index("AS gpu-dependencies") :]
    assert 0 < gpu.index("check_base.sh 3.12") < gpu.index("apt-get") < gpu.index("pip")


# ---- layers --------------------------------------------------------------------------------------


def layers(text: str, *options: str) -> list[str]:
    command = [sys.executable, str(REPO / "images" / "layers.py"), *options]
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=True)
    return [line.strip() for line in done.stdout.splitlines()]


def test_buildahs_layers_are_told_with_the_command_that_made_them() -> None:
    history = [
        {"created_by": "/bin/sh"},
        {"created_by": "/bin/sh -c #(nop) ARG VERSION", "empty_layer": True},
        {"created_by": "|1 UV=1 /bin/sh -c pip install   torch"},
    ]
    manifest = json.dumps({"layers": [{"size": 200_000_000}, {"size": 3_400_000_000}]})
    told = layers(json.dumps({"Manifest": manifest, "OCIv1": {"history": history}}))
    assert told == ["200.0 MB  /bin/sh", "3400.0 MB  pip install torch", "3600.0 MB  all layers"]


def test_dockers_history_is_told_from_the_base_upwards_without_what_is_empty() -> None:
    told = layers("2000000 RUN /bin/sh -c pip install # buildkit\n0 ARG VERSION\n100000000 base\n", "--history")
    assert told == ["100.0 MB  base", "2.0 MB  pip install # buildkit", "102.0 MB  all layers"]
