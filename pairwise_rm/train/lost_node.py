"""What became of a node of the Ray cluster: by the name of its pod, and in Ray's words."""

from __future__ import annotations

import time
from typing import Any

from pairwise_rm.errors import PairwiseError, first_line
from pairwise_rm.ray_session import ray_session

_NOTICED_SECONDS = 30.0
"""Ray notices a node that is gone without a word by its missing health checks."""
_POLL_SECONDS = 2.0


def what_became_of(ip: str, device: Any) -> str | None:
    """`pod judge-a100-worker-x7 has left: received SIGTERM`; None for a node that stays, or that Ray does not know."""
    try:
        with ray_session(device, gpus=0, cpus=0):
            import ray

            end = time.monotonic() + _NOTICED_SECONDS
            while True:
                nodes = [node for node in ray.nodes() if node["NodeManagerAddress"] == ip]
                if gone := [node for node in nodes if not node["Alive"]]:
                    return _has_left(gone[-1])
                if not nodes or time.monotonic() >= end:
                    return None
                time.sleep(_POLL_SECONDS)
    except PairwiseError as error:
        return f"and then {first_line(error)}"


def _has_left(node: dict[str, Any]) -> str:
    why = " ".join(str(node.get("DeathReasonMessage") or "").split())
    return f"pod {node['NodeManagerHostname']} has left{f': {why}' if why else ''}"
