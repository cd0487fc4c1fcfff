"""Where tests find files that are no part of the package: the repository, and the folder `shared` beside it.

`shared` has what a clone does not bring: real preference pairs (`data`), schemas of other projects
(`reference/schemas`) and a cluster for one machine (`cluster`). PAIRWISE_RM_SHARED names another folder.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[1]
CHART = REPO / "charts" / "pairwise-rm"
SHARED = Path(os.environ.get("PAIRWISE_RM_SHARED") or REPO.parent / "shared")


def shared(name: str) -> Path:
    """A file or folder of `shared`; the test is skipped where it is missing."""
    path = SHARED / name
    if not path.exists():
        pytest.skip(f"needs {name} of {SHARED}, which is missing: set PAIRWISE_RM_SHARED to a folder that has it")
    return path
