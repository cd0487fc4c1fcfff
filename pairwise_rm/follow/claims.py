"""Claims that get no volume, with their storage class and the value that names it."""

from __future__ import annotations

from pairwise_rm.follow.client import Object
from pairwise_rm.follow.trouble import Trouble, clipped

_STORES = ("data", "runs", "cache")
_CERTAIN = ("storageclass.storage.k8s.io", "no storage class is set")


def claims_of(pods: list[Object]) -> dict[str, str]:
    """The claims that these pods mount, each with the section of the chart's values behind it."""
    found = {}
    for pod in pods:
        for volume in pod.get("spec", {}).get("volumes") or []:
            if claim := (volume.get("persistentVolumeClaim") or {}).get("claimName"):
                found[claim] = section(volume["name"])
    return found


def unbound(claim: Object, value: str, events: list[Object]) -> Trouble | None:
    """The trouble of a claim that is Pending and was refused a volume. One that waits for its first pod has none."""
    warnings = [event for event in events if event.get("type") == "Warning" or event.get("reason") == "FailedBinding"]
    if claim.get("status", {}).get("phase") != "Pending" or not warnings:
        return None
    spec, name = claim.get("spec", {}), claim["metadata"]["name"]
    message = warnings[-1].get("message", "")
    if any(text in message for text in _CERTAIN):
        text = f"gets no volume: {clipped(message)}; set {value}.storageClass"
        return Trouble(f"claim {name}", text, hopeless=True)
    size = spec.get("resources", {}).get("requests", {}).get("storage", "?")
    what = f"{size}, {', '.join(spec.get('accessModes', []))}, storage class {spec.get('storageClassName') or 'none'}"
    return Trouble(
        f"claim {name}",
        f"({what}) gets no volume: {clipped(message)}; set {value}.storageClass, .size, .accessMode or .existingClaim",
    )


def missing(name: str, value: str) -> Trouble:
    return Trouble(f"claim {name}", f"is not there; make it, or set {value}.existingClaim", hopeless=True)


def section(volume: str) -> str:
    """The section of the chart's values behind a volume, which the chart names after it."""
    return f"storage.{volume if volume in _STORES else '<name>'}"
