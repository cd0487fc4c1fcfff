"""The hook that `ray start` calls on the head before it starts its processes (RAY_START_HOOK)."""

from __future__ import annotations

from typing import Any


def without_client_server(parameters: Any, head: bool) -> None:
    """Leaves out the server for `ray://` clients, which `ray start` itself has no option for.

    Nobody uses it here, it would listen for whoever reaches the head (10001), and it takes the head down: where the
    node is so busy that it does not start within 30 seconds, `ray start` ends.
    """
    if head:
        parameters.ray_client_server_port = None
