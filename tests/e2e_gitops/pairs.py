"""A claim with a few preference pairs: converting them takes seconds, since no model is made for it."""

from __future__ import annotations

import json
from typing import Any

from tests.e2e.kube import Namespace

IMAGE = "localhost/pairwise-rm:test"
CLAIM = "pairs"
FILE = "/mnt/data/pairs.jsonl"
ROWS = [
    {
        "prompt": f"What is {number} + {number}?",
        "response_1": f"It is {2 * number}.",
        "response_2": f"It is {2 * number + 1}.",
        "preference_strength": -1,
    }
    for number in range(20)
]
VALUES: dict[str, Any] = {
    # Inline, since removing `make` from the smoke recipe needs a null, which Argo CD's valuesObject cannot hold.
    "recipe": {
        "name": "",
        "inline": {
            "name": "pairs",
            "device": "cpu",
            "model": {"path": "/mnt/cache/none", "attention": "sdpa"},
            "train": {"tensor_parallel": 1, "gpus_per_node": 1},
            "evaluate": {"tensor_parallel": 1},
            "data": {
                "configs": {"type": "local", "source": "generic_pairwise", "path": FILE},
                "export": {"split_ratio": {"train": 0.8, "test": 0.2}},
            },
        },
    },
    "stages": {stage: {"enabled": False} for stage in ("train", "evaluate", "export")},
    "storage": {"data": {"existingClaim": CLAIM}},
    # The short form's releases share two cores.
    "head": {"resources": {"requests": {"cpu": "100m"}}},
    "poolDefaults": {"resources": {"requests": {"cpu": "100m"}}},
}
"""Over the kind preset: the convert stage alone, on that claim."""


def put_pairs(namespace: Namespace) -> None:
    """Makes the claim, and a pod that writes the file and ends."""
    command = f"open({FILE!r}, 'w').write({''.join(json.dumps(row) + chr(10) for row in ROWS)!r})"
    for item in (claim(), writer(command)):
        namespace.kubectl("apply", "-f", "-", stdin=json.dumps(item))
    namespace.kubectl("wait", "--for=jsonpath={.status.phase}=Succeeded", f"pod/{CLAIM}", "--timeout=120s")
    namespace.kubectl("delete", "pod", CLAIM)


def claim() -> dict[str, Any]:
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": CLAIM}, "spec": spec}


def writer(command: str) -> dict[str, Any]:
    container = {
        "name": CLAIM,
        "image": IMAGE,
        "imagePullPolicy": "IfNotPresent",
        "command": ["python3", "-c", command],
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        "volumeMounts": [{"name": "data", "mountPath": "/mnt/data"}],
    }
    user = {"runAsNonRoot": True, "runAsUser": 1000, "runAsGroup": 1000, "fsGroup": 1000}
    spec = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "securityContext": {**user, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [container],
        "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": CLAIM}}],
    }
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": CLAIM}, "spec": spec}
