"""Secrets that are not there, or lack a key, with the value of the chart that names them."""

from __future__ import annotations

import re

from pairwise_rm.follow.client import Object
from pairwise_rm.follow.pods import containers

_MISSING = re.compile(r'secret "([^"]+)" not found')
_KEYLESS = re.compile(r"couldn't find key \S+ in Secret [^/\s]+/(\S+)")
_SECTIONS = {"WANDB_API_KEY": "secrets.wandb", "HF_TOKEN": "secrets.huggingface", "RAY_AUTH_TOKEN": "auth"}


def secret_remedy(pod: Object, message: str) -> str | None:
    """What to do about the secret that a message of kubelet names; None where it names none."""
    if found := _MISSING.search(message):
        return f"make secret {found[1]}, or set {_section(pod, found[1])}"
    if found := _KEYLESS.search(message):
        value = _section(pod, found[1])
        key = f", or set {value.removesuffix('existingSecret')}key" if value.startswith("secrets.") else ""
        return f"give secret {found[1]} that key{key}"
    return None


def _section(pod: Object, secret: str) -> str:
    """The value that names a secret, by how the pod takes it."""
    for container in containers(pod):
        for variable in container.get("env") or []:
            taken = (variable.get("valueFrom") or {}).get("secretKeyRef") or {}
            if taken.get("name") == secret:
                section = _SECTIONS.get(variable["name"])
                return f"{section}.existingSecret" if section else "extraEnv"
        if any((source.get("secretRef") or {}).get("name") == secret for source in container.get("envFrom") or []):
            return "secrets.upload.existingSecret"
    return "secrets.<name>.existingSecret"
