"""The processes of one attempt, on every node: their stacks when it hangs, and their end when it is over.

A variable in their environment marks them: the driver's environment on this machine, Ray's runtime environment on the
others; whatever an actor starts inherits it (vLLM's engine, which outlives an actor that is killed).
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from pairwise_rm.errors import PairwiseError
from pairwise_rm.ray_session import cluster_address, ray_session

MARK = "PAIRWISE_RM_ATTEMPT"
_NODE_SECONDS = 60.0
_DUMP_SECONDS = 20.0
_PROC = Path("/proc")


def pids_of(attempt: str) -> list[int]:
    """This machine's processes of an attempt, but for this one; none where there is no /proc."""
    wanted = f"{MARK}={attempt}".encode()
    found = []
    for folder in _PROC.glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended, or it is another user's
            if wanted in (folder / "environ").read_bytes().split(b"\0") and int(folder.name) != os.getpid():
                found.append(int(folder.name))
    return sorted(found)


def kill_here(attempt: str) -> int:
    """Kills this machine's processes of an attempt; returns how many there were."""
    killed: set[int] = set()
    end = time.monotonic() + 10
    while (there := pids_of(attempt)) and time.monotonic() < end:
        for pid in there:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        killed |= set(there)
        time.sleep(0.1)
    return len(killed)


def stacks_here(attempt: str) -> str:
    """The Python stacks of this machine's processes of an attempt, by py-spy."""
    tool = shutil.which("py-spy", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]))
    if tool is None:
        return "py-spy is not installed: no stacks\n"
    return "\n".join(_stack(tool, pid) for pid in pids_of(attempt) if _is_python(pid))


def _is_python(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return "python" in os.path.basename(os.readlink(_PROC / str(pid) / "exe"))
    return False


def _stack(tool: str, pid: int) -> str:
    name = ""
    with contextlib.suppress(OSError):
        name = (_PROC / str(pid) / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    # Without --nonblocking py-spy waits for a process that is stopped.
    command = [tool, "dump", "--nonblocking", "--pid", str(pid)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_DUMP_SECONDS)
        text = done.stdout if done.returncode == 0 else done.stderr
    except subprocess.TimeoutExpired:
        text = f"py-spy had no answer after {_DUMP_SECONDS:g} s\n"
    return f"== process {pid}: {name[:200]}\n{text}"


def stacks(attempt: str, device: Any) -> str:
    """The stacks on this machine and, on a cluster, on all its nodes, each under a title."""
    return "\n".join(f"==== {node}\n{text}" for node, text in _everywhere(stacks_here, attempt, device))


def kill(attempt: str, device: Any) -> str | None:
    """Kills what is left of an attempt, on all nodes. Returns what could not be reached, in a sentence."""
    failed = [text for _, text in _everywhere(kill_here, attempt, device) if isinstance(text, str)]
    return "; ".join(failed) or None


def _everywhere(work: Callable[[str], Any], attempt: str, device: Any) -> Iterator[tuple[str, Any]]:
    """(node, what the work returned there, or why it could not be done)."""
    yield os.uname().nodename, work(attempt)
    if cluster_address() is None:
        return
    try:
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        with ray_session(device, gpus=0, cpus=0):
            task = ray.remote(num_cpus=0, max_retries=0)(work)
            jobs = {}
            for node in ray.nodes():
                if node["Alive"] and node["NodeManagerHostname"] != os.uname().nodename:
                    place = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
                    jobs[task.options(scheduling_strategy=place).remote(attempt)] = node["NodeManagerHostname"]
            ready, late = ray.wait(list(jobs), num_returns=len(jobs), timeout=_NODE_SECONDS) if jobs else ([], [])
            for job in ready:
                try:
                    yield jobs[job], ray.get(job)
                except ray.exceptions.RayError as error:
                    yield jobs[job], f"{jobs[job]}: {type(error).__name__}\n"
            for job in late:
                ray.cancel(job, force=True)
                yield jobs[job], f"{jobs[job]}: no answer after {_NODE_SECONDS:g} s\n"
    except PairwiseError as error:
        yield "the Ray cluster", f"{error}\n"
