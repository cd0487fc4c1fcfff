"""The recipe file of a stage, mounted from a ConfigMap.

A running pod sees a changed ConfigMap only when kubelet syncs it, a minute or more later. The RayJob names the digest
of its recipe, and the stage waits for that content, so it never runs an older recipe.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from pairwise_rm.errors import InputError, StageError
from pairwise_rm.progress import Waiting
from pairwise_rm.recipe.load import digest_of

_SYNC_SECONDS = 300.0  # kubelet's sync period and cache together stay below two minutes
_POLL_SECONDS = 2.0


def await_recipe(path: Path, digest: str, say: Callable[[Waiting], None], timeout: float = _SYNC_SECONDS) -> None:
    """Waits until the file's content has this digest.

    Raises InputError for a folder that is not mounted, StageError when the content does not come: a later `helm
    upgrade` has replaced it, and has its own RayJob.
    """
    if not path.parent.is_dir():
        raise InputError(f"{path.parent}: no such folder; the recipe's ConfigMap is not mounted in this pod")
    end, told = time.monotonic() + timeout, False
    while True:
        # Opened again each time: an update replaces a symbolic link.
        found = digest_of(path.read_bytes()) if path.is_file() else None
        if found == digest:
            return
        if time.monotonic() >= end:
            there = f"has digest {found}" if found else "is not there"
            raise StageError(
                f"{path}: {there}, this job was made for {digest}; a later release has replaced the recipe, "
                "and the RayJob of that release runs it"
            )
        if not told:
            say(Waiting("the recipe's ConfigMap to reach this pod, up to two minutes", 0.0))
            told = True
        time.sleep(_POLL_SECONDS)
