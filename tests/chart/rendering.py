"""The chart as `helm template` renders it, with the pinned helm of `make tools` or the one on PATH."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import yaml
from crd_schemas import REPO

CHART = REPO / "charts" / "pairwise-rm"


def helm() -> str:
    own = REPO / ".tools" / "helm"
    found = str(own) if own.is_file() else shutil.which("helm")
    assert found, "helm is needed; `make tools` installs it into .tools"
    return found


def rendered(files: list[Path], values: dict[str, Any], *options: str) -> dict[str, list[dict[str, Any]]]:
    """Objects by kind. `values` go over `files`; options are helm's."""
    command = [helm(), "template", "judge", str(CHART), *(f"--values={file}" for file in files), "--values=-", *options]
    done = subprocess.run(command, capture_output=True, text=True, input=yaml.safe_dump(values), check=False)
    assert done.returncode == 0, done.stderr
    by_kind: dict[str, list[dict[str, Any]]] = {}
    for item in filter(None, yaml.safe_load_all(done.stdout)):
        by_kind.setdefault(item["kind"], []).append(item)
    return by_kind
