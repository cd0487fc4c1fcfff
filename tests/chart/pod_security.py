"""Pod Security's profile `restricted`, and what we hold to beyond it: a root file system that cannot be written."""

from __future__ import annotations

from collections.abc import Iterator

from tests.chart.rendering import Object

_VOLUMES = {
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "persistentVolumeClaim",
    "projected",
    "secret",
}
_HOST = ("hostNetwork", "hostPID", "hostIPC")


def violations(pod: Object) -> Iterator[str]:
    """What the admission controller, or we, would refuse a pod for."""
    context = pod.get("securityContext", {})
    if context.get("runAsNonRoot") is not True or not context.get("runAsUser"):
        yield "the pod may run as root"
    if context.get("seccompProfile") != {"type": "RuntimeDefault"}:
        yield "the pod has no seccomp profile"
    yield from (f"{key} is set" for key in _HOST if pod.get(key))
    for volume in pod.get("volumes", []):
        yield from (f"volume {volume['name']} is {kind}" for kind in volume if kind not in {"name", *_VOLUMES})
    for container in [*pod["containers"], *pod.get("initContainers", [])]:
        yield from (f"{container['name']}: {text}" for text in container_violations(container))


def container_violations(container: Object) -> Iterator[str]:
    context = container.get("securityContext", {})
    if context.get("allowPrivilegeEscalation") is not False:
        yield "privileges may be raised"
    if context.get("capabilities") != {"drop": ["ALL"]}:
        yield "not all capabilities are dropped"
    if context.get("readOnlyRootFilesystem") is not True:
        yield "the root file system may be written"
    if context.get("runAsNonRoot") is False or context.get("runAsUser") == 0 or context.get("privileged"):
        yield "runs as root"
    if context.get("seccompProfile", {"type": "RuntimeDefault"}) != {"type": "RuntimeDefault"}:
        yield "has a seccomp profile of its own"
    if any("hostPort" in port for port in container.get("ports", [])):
        yield "has a port of the host"
