"""The hook that `ray start` calls on the head before it starts its processes (RAY_START_HOOK)."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from typing import Any

TOKEN_FILE = "PAIRWISE_RM_TOKEN_FILE"
"""Variable with the file to which the head writes Ray's token, for the autoscaler's standby beside it."""

END_FILE = "end-ray-head"
"""In the home that the head's containers share: its appearance ends Ray's head."""
_LOOK_SECONDS = 2.0


def on_start(parameters: Any, head: bool) -> None:
    """All that is to be done before `ray start`."""
    without_client_server(parameters, head)
    if head:
        hand_on_token()
        end_when_told()


def end_when_told() -> None:
    """Ends `ray start` and its container once the file is there: no other container may signal its processes."""
    threading.Thread(target=_end_at, args=(Path.home() / END_FILE,), daemon=True).start()


def _end_at(file: Path) -> None:
    while not file.exists():
        time.sleep(_LOOK_SECONDS)
    print(f"{file}: {file.read_text(encoding='utf-8')}", flush=True)
    os._exit(1)


def hand_on_token() -> None:
    """Writes Ray's token into a file in memory: KubeRay gives it to its own containers of the pod and to no other."""
    file, token = os.environ.get(TOKEN_FILE), os.environ.get("RAY_AUTH_TOKEN")
    if file and token:
        Path(file).touch(mode=0o600)
        Path(file).write_text(token, encoding="utf-8")


def without_client_server(parameters: Any, head: bool) -> None:
    """Removes the Ray Client server (`ray://`, port 10001), for which `ray start` has no option.

    Nothing here uses it, it would accept any client that reaches the head, and it can prevent the head's start: when
    a busy node does not start it within 30 seconds, `ray start` fails.
    """
    if head:
        parameters.ray_client_server_port = None
