"""A process beside a stage that withdraws the stage's GPU request when the stage itself could not.

Ray keeps a request until another one replaces it. A stage that is killed cannot withdraw its own, and deleting a RayJob
runs `ray job stop`, which kills three seconds after SIGTERM: a pool of A100s would stay up for nobody. The guard waits
for the end of a pipe that only the stage holds; it ends however the stage ends. Ray is imported only then.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys

_DISMISSED = b"dismissed"


class Guard:
    """From its start to `dismiss`. Needs RAY_ADDRESS, as the stage does."""

    def __init__(self) -> None:
        command = [sys.executable, "-m", "pairwise_rm.cluster.gpu_request_guard"]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)
        self._process.wait()  # it has gone on as an orphan

    def dismiss(self) -> None:
        """There is nothing left to withdraw."""
        assert self._process.stdin
        with contextlib.suppress(BrokenPipeError):  # the guard itself was killed: nobody to dismiss
            self._process.stdin.write(_DISMISSED)
            self._process.stdin.close()


def withdraw() -> None:
    """Asks for no GPUs. Raises StageError when the Ray cluster cannot be reached."""
    from ray.autoscaler.sdk import request_resources

    from pairwise_rm.ray_session import ray_session

    with ray_session("cuda", gpus=0, cpus=0):
        request_resources(bundles=[])


def main() -> None:
    # An orphan, since Ray kills a job's children with it.
    if os.fork():
        os._exit(0)
    if sys.stdin.buffer.read() == _DISMISSED:
        return
    from pairwise_rm.errors import PairwiseError

    try:
        withdraw()
    except PairwiseError as error:
        sys.exit(f"the stage ended, and the request for GPUs that it left could not be withdrawn: {error}")
    print("the stage ended: the request for GPUs that it left is withdrawn", flush=True)


if __name__ == "__main__":
    main()
