"""Why a pod does not start: no node, no volume, no secret, or the API server rejects it.

Each issue has the message of the scheduler, provisioner, kubelet or admission, and the chart value to change.
"""

from __future__ import annotations

import re

from pairwise_rm.k8s.issue import Issue, clipped
from pairwise_rm.k8s.objects import Object, condition, containers, gpus_of, is_accelerator, subject, value_of

_LACK = re.compile(r"Insufficient ([^\s,]+?)\.?(?=[\s,]|$)")
_ASIDE = re.compile(r"\. (?:no new claims to deallocate|not found|preemption:|still not schedulable)")
_VOLUMES = re.compile(r"PersistentVolumeClaim|persistent volume|persistentvolumeclaim|volume node affinity")
_NODE_COMES = "TriggeredScaleUp"
_STORES = ("data", "runs", "cache")
_CERTAIN = ("storageclass.storage.k8s.io", "no storage class is set")
_NO_SECRET = re.compile(r'secret "([^"]+)" not found')
_NO_KEY = re.compile(r"couldn't find key \S+ in Secret [^/\s]+/(\S+)")
_SECRET_VALUES = {"WANDB_API_KEY": "secrets.wandb", "HF_TOKEN": "secrets.huggingface", "RAY_AUTH_TOKEN": "auth"}
_QUOTA = re.compile(r"exceeded quota: (\S+), requested: (.*), used: .*, limited: (.*)")
_SIZES = re.compile(r"cpu|memory|storage")
_COUNTS = re.compile(r"([\w./-]+)=(\d+)(?=[,\s]|$)")
_LIMIT_RANGE = re.compile(r"(?:maximum|minimum) \S+ usage per \w+ is|limit to request ratio")
_TERMINAL = (
    "PodSecurity",
    "serviceaccount",
    "ServiceAccount",
    "admission webhook",
    "no PriorityClass with name",
    "must specify",
)


def unscheduled(pod: Object, events: list[Object]) -> Issue | None:
    """The issue of a pod that the scheduler cannot place. A new node may end it, so it is never terminal."""
    placed = condition(pod, "PodScheduled")
    if placed is None or placed.get("status") != "False" or pod.get("status", {}).get("phase") != "Pending":
        return None
    message = scheduler_message(placed.get("message", ""))
    if gated(pod):
        return Issue(subject(pod), f"is held back by a scheduling gate: {message}")
    if any(event.get("reason") == _NODE_COMES for event in events):
        return Issue(subject(pod), f"waits for a node that is being brought up: {message}")
    lacking = [name for name in _LACK.findall(message) if is_accelerator(name)]
    wants = f"waits for {gpus_of(pod)} {lacking[0]}" if lacking else "finds no node"
    return Issue(subject(pod), f"{wants}: {message}; {scheduling_remedy(value_of(pod), message)}")


def gated(pod: Object) -> bool:
    """Whether a scheduling gate holds it back, such as Kueue's on pods that it has not admitted."""
    return (condition(pod, "PodScheduled") or {}).get("reason") == "SchedulingGated"


def scheduler_message(message: str) -> str:
    """The scheduler's reasons, without its parts on claims and on preemption, which repeat the nodes."""
    return " ".join(_ASIDE.split(message, maxsplit=1)[0].split()).rstrip(".,")


def about_volumes(message: str) -> bool:
    return _VOLUMES.search(message) is not None


def scheduling_remedy(section: str, message: str) -> str:
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


def claims_of(pods: list[Object]) -> dict[str, str]:
    """The claims that these pods mount, each with the section of the chart's values that makes it."""
    found = {}
    for pod in pods:
        for volume in pod.get("spec", {}).get("volumes") or []:
            if claim := (volume.get("persistentVolumeClaim") or {}).get("claimName"):
                # The chart names a volume after its section.
                found[claim] = f"storage.{volume['name'] if volume['name'] in _STORES else '<name>'}"
    return found


def unbound(claim: Object, value: str, events: list[Object]) -> Issue | None:
    """The issue of a claim that is Pending and was refused a volume. One that waits for its first consumer has none."""
    warnings = [event for event in events if event.get("type") == "Warning" or event.get("reason") == "FailedBinding"]
    if claim.get("status", {}).get("phase") != "Pending" or not warnings:
        return None
    spec, name = claim.get("spec", {}), claim["metadata"]["name"]
    message = warnings[-1].get("message", "")
    if any(text in message for text in _CERTAIN):
        text = f"gets no volume: {clipped(message)}; set {value}.storageClass"
        return Issue(f"claim {name}", text, terminal=True)
    size = spec.get("resources", {}).get("requests", {}).get("storage", "?")
    what = f"{size}, {', '.join(spec.get('accessModes', []))}, storage class {spec.get('storageClassName') or 'none'}"
    return Issue(
        f"claim {name}",
        f"({what}) gets no volume: {clipped(message)}; set {value}.storageClass, .size, .accessMode or .existingClaim",
    )


def missing_claim(name: str, value: str) -> Issue:
    return Issue(f"claim {name}", f"is not there; make it, or set {value}.existingClaim", terminal=True)


def secret_remedy(pod: Object, message: str) -> str | None:
    """What to do about the secret that a message of kubelet names; None where it names none."""
    if found := _NO_SECRET.search(message):
        return f"make secret {found[1]}, or set {_secret_value(pod, found[1])}"
    if found := _NO_KEY.search(message):
        value = _secret_value(pod, found[1])
        key = f", or set {value.removesuffix('existingSecret')}key" if value.startswith("secrets.") else ""
        return f"give secret {found[1]} that key{key}"
    return None


def _secret_value(pod: Object, secret: str) -> str:
    """The value that names a secret, by how the pod takes it."""
    for container in containers(pod):
        for variable in container.get("env") or []:
            taken = (variable.get("valueFrom") or {}).get("secretKeyRef") or {}
            if taken.get("name") == secret:
                section = _SECRET_VALUES.get(variable["name"])
                return f"{section}.existingSecret" if section else "extraEnv"
        if any((source.get("secretRef") or {}).get("name") == secret for source in container.get("envFrom") or []):
            return "secrets.upload.existingSecret"
    return "secrets.<name>.existingSecret"


def refused(subject: str, message: str, section: str, what: str = "pod") -> Issue:
    """The issue of an object that the API server rejects; `section`: the chart values that configure it."""
    remedy = _admission_remedy(message, section)
    text = f"gets no {what}: {clipped(message)}{f'; {remedy}' if remedy else ''}"
    return Issue(subject, text, terminal=_terminal(message))


def _admission_remedy(message: str, section: str) -> str:
    pool = section.startswith("pools.")
    if quota := _QUOTA.search(message):
        raised = f"have ResourceQuota {quota[1]} raised"
        if pool and "gpu" in quota[2]:
            return f"lower {section}.gpus, or {raised}"
        return f"lower {section}.resources, or {raised}" if _SIZES.search(quota[2]) else raised
    if "failed quota" in message and "must specify" in message:
        return f"set {section}.resources with these"
    if _LIMIT_RANGE.search(message):
        return f"set {section}.resources to what the namespace's LimitRange allows"
    if "no PriorityClass with name" in message:
        own = f"{section}.priorityClassName, " if pool else ""
        return f"make it, or set {own}priorityClass.name or priorityClass.create"
    return "set serviceAccount.create to true" if re.search("service ?account", message, re.IGNORECASE) else ""


def _terminal(message: str) -> bool:
    """Whether it lasts until somebody changes something; used quota is given back by others."""
    if quota := _QUOTA.search(message):
        most = dict(_COUNTS.findall(quota[3]))
        return any(int(count) > int(most.get(name, count)) for name, count in _COUNTS.findall(quota[2]))
    return bool(_LIMIT_RANGE.search(message)) or any(word in message for word in _TERMINAL)
