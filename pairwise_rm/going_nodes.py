"""Nodes of the Ray cluster that are about to go, because somebody drains them (`cluster/drain_node.py`)."""

from __future__ import annotations

from typing import NamedTuple


class GoingNode(NamedTuple):
    """`deadline`: the Unix time of its end, or None; `actors`: the ids of this job's actors that are on it."""

    name: str
    deadline: float | None
    actors: frozenset[str]


def going_nodes() -> list[GoingNode]:
    """Those that hold actors of this Ray job, the first to go first. About a millisecond where none is draining.

    Raises RuntimeError, OSError or ValueError when Ray's head does not answer.
    """
    import ray
    from ray._private.state import actors, state

    deadlines = state.get_draining_nodes()  # milliseconds; 0: none
    if not deadlines:
        return []
    alive = actors(job_id=ray.get_runtime_context().job_id, actor_state_name="ALIVE")
    names = {entry["NodeID"]: entry["NodeManagerHostname"] for entry in ray.nodes()}
    found = []
    for node, at in sorted(deadlines.items(), key=lambda item: (item[1] or float("inf"), item[0])):
        held = frozenset(actor for actor, entry in alive.items() if entry["Address"]["NodeID"] == node)
        if held:
            found.append(GoingNode(names.get(node, node), at / 1000 if at else None, held))
    return found
