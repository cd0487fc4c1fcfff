"""Why a pod finds no node: the scheduler's own words, and the value to change."""

from __future__ import annotations

import re

from pairwise_rm.follow.client import Object
from pairwise_rm.follow.pods import condition, gpus_of, is_accelerator, subject, value_of
from pairwise_rm.follow.trouble import Trouble

_LACK = re.compile(r"Insufficient ([^\s,]+?)\.?(?=[\s,]|$)")
_ASIDE = re.compile(r"\. (?:no new claims to deallocate|not found|preemption:|still not schedulable)")
_VOLUMES = re.compile(r"PersistentVolumeClaim|persistent volume|persistentvolumeclaim|volume node affinity")
_NODE_COMES = "TriggeredScaleUp"


def unscheduled(pod: Object, events: list[Object]) -> Trouble | None:
    """The trouble of a pod that the scheduler cannot place. A node that comes may end it, so it is never hopeless."""
    placed = condition(pod, "PodScheduled")
    if placed is None or placed.get("status") != "False" or pod.get("status", {}).get("phase") != "Pending":
        return None
    message = scheduler_message(placed.get("message", ""))
    if gated(pod):
        return Trouble(subject(pod), f"is held back by a scheduling gate: {message}")
    if any(event.get("reason") == _NODE_COMES for event in events):
        return Trouble(subject(pod), f"waits for a node that is being brought up: {message}")
    lacking = [name for name in _LACK.findall(message) if is_accelerator(name)]
    wants = f"waits for {gpus_of(pod)} {lacking[0]}" if lacking else "finds no node"
    return Trouble(subject(pod), f"{wants}: {message}; {remedy(value_of(pod), message)}")


def gated(pod: Object) -> bool:
    """Whether the scheduler may not look at it yet; Kueue does so with pods that it has not admitted."""
    return (condition(pod, "PodScheduled") or {}).get("reason") == "SchedulingGated"


def scheduler_message(message: str) -> str:
    """The scheduler's reasons, without its asides on claims and on preemption, which repeat the nodes."""
    return " ".join(_ASIDE.split(message, maxsplit=1)[0].split()).rstrip(".,")


def about_volumes(message: str) -> bool:
    return _VOLUMES.search(message) is not None


def remedy(section: str, message: str) -> str:
    """Which value of the chart's `section` to change, by the first reason that is known."""
    lacking = _LACK.findall(message)
    if any(map(is_accelerator, lacking)):
        return f"set {section}.gpus to what one node has free, or add nodes"
    if lacking:
        return f"lower {section}.resources, or add nodes"
    if "node affinity" in message or "node selector" in message:
        keys = ("platform", "gpuProduct", "nodeSelector") if section.startswith("pools.") else ("gpuNodes", "affinity")
        return "set " + " or ".join(f"{section}.{key}" for key in keys)
    if "taint" in message:
        return f"set {section}.tolerations"
    if about_volumes(message):
        return "see storage.data, storage.runs and storage.cache"
    return f"see {section}"
