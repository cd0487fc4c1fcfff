"""Ray for one stage: the cluster that RAY_ADDRESS names, or a local one that ends with the stage.

A command started on a cluster's head has neither GPUs nor much memory, so what needs either runs as a Ray
actor or task that asks for it. On a CPU-only machine a local Ray gets logical GPUs, so that the same requests are
granted. Variables for the workers go into Ray's runtime environment, since the driver's environment does not reach the
other nodes.

    with ray_session("cuda", gpus=2, cpus=2):
        with reserved([{"GPU": 1, "CPU": 1}] * 2, deadline=600) as group:
            ...
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal

from pairwise_rm.errors import InputError, StageError, first_line

ADDRESS_VARIABLE = "RAY_ADDRESS"
_CONNECT_SECONDS = 10.0  # a head that is just starting
_STARTS = 3
"""Of a local Ray: a machine that is busy for a moment is no reason to end a run."""
_SLOW_START = "timed out during startup"
SUBMITTED_VARIABLE = "RAY_JOB_CONFIG_JSON_ENV_VAR"
"""Set in what was submitted to Ray as a job."""
_JOB_STOP_VARIABLE, _JOB_STOP_SECONDS = "RAY_JOB_STOP_WAIT_TIME_S", 3.0
"""How long Ray waits, and by default, after the SIGTERM with which it stops a job, before it kills all of it."""
_END_SECONDS = 2.0
"""For the stage's own end: its engines, its state file."""
_LOCAL_OBJECT_STORE = 256 << 20  # bytes; prompts and responses are small


@contextlib.contextmanager
def ray_session(
    device: Literal["cuda", "cpu"], gpus: int, cpus: int, env: Mapping[str, str] | None = None
) -> Iterator[None]:
    """Connects to Ray, and leaves (or ends, where it is local) at the end.

    Args:
        device: on "cpu" a local Ray gets `gpus` logical GPUs; on "cuda" it finds the machine's own.
        gpus, cpus: what the stage will request; a local Ray has at least these CPUs.
        env: variables of every worker process.

    An already connected driver is left as it is, and so is a handler of SIGTERM, which Ray replaces by its own. Raises
    StageError when the cluster cannot be reached.
    """
    import ray

    if ray.is_initialized():
        yield
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    address = cluster_address()
    options: dict[str, Any] = {
        "runtime_env": {"env_vars": dict(env or {})},
        "log_to_driver": False,
        "logging_level": logging.ERROR,
    }
    if address:
        _check_reachable(address)
        options["address"] = address
    else:
        # Without an address Ray would join any cluster that it finds on this machine.
        options |= {
            "address": "local",
            "num_cpus": max(cpus, os.cpu_count() or 1),
            "include_dashboard": False,
            "object_store_memory": _LOCAL_OBJECT_STORE,
        }
        if device == "cpu":
            options["num_gpus"] = gpus
    handler = signal.getsignal(signal.SIGTERM)
    try:
        _connect(options, f"{ADDRESS_VARIABLE}={address}" if address else "a local Ray")
        if callable(handler):  # without one of ours Ray's own ends a local Ray
            _handle_sigterm(handler)
        yield
    finally:
        ray.shutdown()
        _handle_sigterm(handler)


def _connect(options: dict[str, Any], where: str) -> None:
    import ray

    try:
        with_slow_starts(lambda: ray.init(**options))
    except Exception as error:
        # A start that is slow three times is an Exception without a type of its own.
        if _SLOW_START not in str(error) and not isinstance(error, ConnectionError | ValueError | RuntimeError):
            raise
        ray.shutdown()
        raise StageError(f"{where}: cannot connect: {first_line(error)}") from error


def with_slow_starts(action: Callable[[], object]) -> None:
    """Calls what starts a local Ray, up to three times where that takes longer than the 30 s that Ray gives it."""
    import ray

    for left in reversed(range(_STARTS)):
        try:
            action()
            return
        except Exception as error:
            if _SLOW_START not in str(error) or ray.is_initialized() or not left:
                raise
            print(f"{first_line(error)}; once more", file=sys.stderr, flush=True)  # stdout may be JSON
            ray.shutdown()


def _handle_sigterm(handler: Any) -> None:
    if handler is not None and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, handler)


def seconds_after_sigterm(wanted: float) -> float:
    """So many of these seconds as this process has for its work after SIGTERM: few where it is a job of Ray's."""
    if SUBMITTED_VARIABLE not in os.environ:
        return wanted
    try:
        given = float(os.environ.get(_JOB_STOP_VARIABLE, _JOB_STOP_SECONDS))
    except ValueError:
        given = _JOB_STOP_SECONDS
    return max(0.0, min(wanted, given - _END_SECONDS))


def cluster_address() -> str | None:
    """The cluster that RAY_ADDRESS names; None where a local Ray is wanted."""
    address = os.environ.get(ADDRESS_VARIABLE, "").strip()
    return None if address in ("", "local") else address


def _check_reachable(address: str) -> None:
    """Raises StageError when nothing listens there: Ray itself retries for minutes before it fails."""
    if address.startswith(("http://", "https://")):
        raise InputError(f"{ADDRESS_VARIABLE}={address}: where jobs are submitted; expected host:port of the cluster")
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not colon or not port.isdigit():
        return  # `auto`, which Ray resolves by itself
    end = time.monotonic() + _CONNECT_SECONDS
    while True:
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=5).close()
            return
        except OSError as error:
            if time.monotonic() >= end:
                reason = error.strerror or str(error)
                raise StageError(f"{ADDRESS_VARIABLE}={address}: no Ray cluster answers there: {reason}") from error
            time.sleep(1)


@contextlib.contextmanager
def reserved(bundles: Sequence[Mapping[str, float]], deadline: float) -> Iterator[Any]:
    """Yields a placement group with these bundles, and frees it at the end.

    Waits up to `deadline` seconds on a cluster, which may have to scale up for it. A local Ray does not scale: too few
    resources are an error at once. Raises StageError with the numbers wanted and present.
    """
    import ray
    from ray.util import placement_group, remove_placement_group

    if cluster_address() is None and (lack := _lack(bundles, ray.cluster_resources())):
        raise StageError(f"Ray on this machine: {lack}")
    group = placement_group([dict(bundle) for bundle in bundles])
    try:
        end = time.monotonic() + deadline
        while not group.wait(timeout_seconds=min(5.0, max(0.1, end - time.monotonic()))):
            if time.monotonic() >= end:
                raise StageError(f"the Ray cluster, after {deadline:.0f} s of waiting: {why_pending(bundles)}")
        yield group
    finally:
        if ray.is_initialized():
            remove_placement_group(group)


def _lack(bundles: Sequence[Mapping[str, float]], present: Mapping[str, float]) -> str | None:
    for name in ("GPU", "CPU", "memory"):
        wanted, there = sum(bundle.get(name, 0) for bundle in bundles), present.get(name, 0)
        if wanted > there:
            return f"{_amount(name, wanted)} wanted, {_amount(name, there)} present"
    return None


def is_placed(group: Any) -> bool:
    """Whether all bundles of a placement group have a place; not so while Ray looks for one after a node has left."""
    from ray.util import placement_group_table

    return bool(placement_group_table(group)["state"] == "CREATED")


def why_pending(bundles: Sequence[Mapping[str, float]]) -> str:
    """What these bundles lack on the Ray cluster."""
    import ray

    if lack := _lack(bundles, ray.cluster_resources()):
        return lack
    if lack := _lack(bundles, ray.available_resources()):
        return lack.replace("present", "free; the others are in use")
    largest = max(bundles, key=lambda bundle: bundle.get("GPU", 0))
    shape = " and ".join(_amount(name, value) for name, value in largest.items() if value)
    return f"no single node has {shape} free"


def _amount(name: str, value: float) -> str:
    if name == "memory":
        return f"{value / (1 << 30):.1f} GiB of memory"
    return f"{value:g} {name}{'' if value == 1 else 's'}"
