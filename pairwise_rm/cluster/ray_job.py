"""A stage's job as Ray's dashboard on the head knows it: whether a stage that no longer writes was killed.

Asked over HTTP with the standard library: a stage that waits for hours does not load Ray for it.
"""

from __future__ import annotations

import json
import os
import urllib.request
from pathlib import Path

from pairwise_rm.ray_session import SUBMITTED_VARIABLE

DASHBOARD = "http://127.0.0.1:8265"
_ENDED = ("FAILED", "STOPPED", "SUCCEEDED")
_SECONDS = 5.0


def own_submission_id() -> str | None:
    """The id under which this process was submitted to Ray; None for any other process."""
    try:
        return str(json.loads(os.environ[SUBMITTED_VARIABLE])["metadata"]["job_submission_id"])
    except (KeyError, ValueError, TypeError):
        return None


def how_ended(submission_id: str) -> str | None:
    """FAILED, STOPPED or SUCCEEDED; None while the job runs, and where nothing is known of it.

    The job of another Ray cluster is not known here, and a dashboard may be away for a while.
    """
    request = urllib.request.Request(f"{DASHBOARD}/api/jobs/{submission_id}", headers=_authorization())
    try:
        with urllib.request.urlopen(request, timeout=_SECONDS) as answer:
            status = json.load(answer).get("status")
    except (OSError, ValueError, AttributeError):
        return None
    return status if status in _ENDED else None


def _authorization() -> dict[str, str]:
    token = os.environ.get("RAY_AUTH_TOKEN", "").strip()
    if not token and (path := os.environ.get("RAY_AUTH_TOKEN_PATH")) and Path(path).is_file():
        token = Path(path).read_text(encoding="utf-8").strip()
    return {"Authorization": f"Bearer {token}"} if token else {}
