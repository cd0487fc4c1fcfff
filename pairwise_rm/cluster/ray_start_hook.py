"""The hook that `ray start` calls on the head before it starts its processes (RAY_START_HOOK)."""

from __future__ import annotations

from typing import Any


def without_client_server(parameters: Any, head: bool) -> None:
    """Removes the Ray Client server (`ray://`, port 10001), for which `ray start` has no option.

    Nothing here uses it, it would accept any client that reaches the head, and it can prevent the head's start: when
    a busy node does not start it within 30 seconds, `ray start` fails.
    """
    if head:
        parameters.ray_client_server_port = None
