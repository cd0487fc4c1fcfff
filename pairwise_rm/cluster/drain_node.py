"""Tells Ray that this node goes, and waits until training has let go of it: `python -m pairwise_rm.cluster.drain_node`.

For a worker pod's preStop hook. It does what `ray drain-node` does, for the node of this pod: Ray places nothing new
there, and the training that runs on it sees the notice, saves and ends (`train/preemption.py`). Ray itself ends
nothing. The hook holds up the pod's SIGTERM, so it returns as soon as no actor is left on the node, and after
the grace in any case. It always exits with 0: a node that cannot be drained goes as it would without the hook.
"""

from __future__ import annotations

import argparse
import os
import socket
import sys
import time
from typing import Any

REASON = "preemption"
_POLL_SECONDS = 0.5
_CONNECT_SECONDS = 2.0


def drain(until: float, address: str, ip: str | None = None) -> str:
    """Drains the node with this IP address (by default this machine's), and says in one line what happened.

    Args:
        until: the Unix time at which the node ends.
        address: host and port of Ray's head.
    """
    from ray._private.services import GcsClient, GcsClientOptions, get_node_ip_address
    from ray._private.state import GlobalState
    from ray.core.generated.autoscaler_pb2 import DRAIN_NODE_REASON_PREEMPTION
    from ray.core.generated.gcs_pb2 import GcsNodeInfo

    host, _, port = address.rpartition(":")
    socket.create_connection((host.strip("[]"), int(port)), _CONNECT_SECONDS).close()  # Ray itself tries for a minute
    ip = ip or get_node_ip_address(address)
    gcs = GcsClient(address=address)
    alive = gcs.get_all_node_info(timeout=_CONNECT_SECONDS, state_filter=GcsNodeInfo.GcsNodeState.ALIVE)
    mine = [info for info in alive.values() if info.node_manager_address == ip]
    if not mine:
        return f"no node with the address {ip} in the Ray cluster of {address}; nothing to drain"
    (info, *_) = mine
    if info.is_head_node:
        return f"{ip} is the head; it is not drained, since it would end at once"
    node = info.node_id.hex()
    accepted, refusal = gcs.drain_node(node, DRAIN_NODE_REASON_PREEMPTION, REASON, int(until * 1000))
    if not accepted:
        return f"Ray refuses to drain {ip}: {refusal}"
    # Ray's tables, without becoming one of its drivers.
    state = GlobalState()
    state._initialize_global_state(
        GcsClientOptions.create(address, None, allow_cluster_id_nil=True, fetch_cluster_id_if_nil=True)
    )
    began = time.time()
    while True:
        actors = state.actor_table(None, actor_state_name="ALIVE").values()
        held = sum(actor["Address"]["NodeID"] == node for actor in actors)
        if not held:
            return f"{ip} is drained: nothing runs on it after {time.time() - began:.0f} s"
        if (left := until - time.time()) <= 0:
            return f"{ip} is going with {held} actors on it: the time is over"
        time.sleep(min(_POLL_SECONDS, left))


def main(arguments: list[str] | None = None) -> int:
    began = time.time()
    parser = argparse.ArgumentParser(prog="python -m pairwise_rm.cluster.drain_node", description=__doc__)
    parser.add_argument("--grace", type=float, required=True, metavar="SECONDS", help="how long to wait at most")
    parser.add_argument("--address", default=os.environ.get("RAY_ADDRESS"), help="of Ray's head; default: $RAY_ADDRESS")
    parser.add_argument("--ip", help="of the node; default: this machine's")
    options: Any = parser.parse_args(arguments)
    if not options.address:
        print("RAY_ADDRESS is not set: this is no node of a Ray cluster; nothing to drain")
        return 0
    from ray.exceptions import RayError

    try:
        print(drain(began + options.grace, options.address, options.ip), flush=True)
    except (OSError, RuntimeError, ValueError, RayError) as error:
        print(f"{options.address}: Ray cannot be asked to drain this node: {error}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
