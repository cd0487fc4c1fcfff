"""As much of a Kubernetes API as Helm's `lookup` asks: discovery, and objects that are read. No cluster is started."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

from tests.chart.rendering import Object

# Plural of each kind and whether it is in a namespace, by API version.
_RESOURCES = {
    "v1": {
        "ConfigMap": ("configmaps", True),
        "Node": ("nodes", False),
        "PersistentVolumeClaim": ("persistentvolumeclaims", True),
        "Pod": ("pods", True),
        "Secret": ("secrets", True),
        "Service": ("services", True),
        "ServiceAccount": ("serviceaccounts", True),
    },
    "discovery.k8s.io/v1": {"EndpointSlice": ("endpointslices", True)},
    "networking.k8s.io/v1": {"NetworkPolicy": ("networkpolicies", True)},
    "node.k8s.io/v1": {"RuntimeClass": ("runtimeclasses", False)},
    "policy/v1": {"PodDisruptionBudget": ("poddisruptionbudgets", True)},
    "ray.io/v1": {
        "RayCluster": ("rayclusters", True),
        "RayCronJob": ("raycronjobs", True),
        "RayJob": ("rayjobs", True),
    },
    "scheduling.k8s.io/v1": {"PriorityClass": ("priorityclasses", False)},
    "storage.k8s.io/v1": {"StorageClass": ("storageclasses", False)},
}
_MISSING = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404}
_ROOT_CA = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"namespace": "default", "name": "kube-root-ca.crt"}}


@contextmanager
def api_server(objects: list[Object], folder: Path) -> Iterator[Path]:
    """Serves these objects; gives the kubeconfig that leads to them, in `folder`."""
    answers = _discovery() | _objects([_ROOT_CA, *objects])

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            body = json.dumps(answers.get(path, _MISSING)).encode()
            self.send_response(200 if path in answers else 404)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        file = folder / "kubeconfig"
        file.write_text(json.dumps(_kubeconfig(f"http://127.0.0.1:{server.server_port}")))
        yield file
        server.shutdown()


def _kubeconfig(address: str) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "x", "cluster": {"server": address}}],
        "users": [{"name": "x", "user": {}}],
        "contexts": [{"name": "x", "context": {"cluster": "x", "user": "x"}}],
        "current-context": "x",
    }


def _root(version: str) -> str:
    return f"/apis/{version}" if "/" in version else f"/api/{version}"


def _discovery() -> dict[str, Object]:
    groups = [version.split("/") for version in _RESOURCES if "/" in version]
    versions = [{"groupVersion": f"{group}/{version}", "version": version} for group, version in groups]
    found: dict[str, Object] = {
        "/version": {"major": "1", "minor": "34", "gitVersion": "v1.34.0"},
        "/api": {"kind": "APIVersions", "versions": ["v1"]},
        "/apis": {
            "kind": "APIGroupList",
            "groups": [
                {"name": group, "versions": [version], "preferredVersion": version}
                for (group, _), version in zip(groups, versions, strict=True)
            ],
        },
    }
    for version, kinds in _RESOURCES.items():
        resources = [
            {"name": plural, "namespaced": namespaced, "kind": kind, "verbs": ["get", "list"]}
            for kind, (plural, namespaced) in kinds.items()
        ]
        found[_root(version)] = {"kind": "APIResourceList", "groupVersion": version, "resources": resources}
    return found


def _objects(objects: list[Object]) -> dict[str, Object]:
    """Each object and each list, by path. A list without objects is empty, not missing."""
    found: dict[str, Object] = {}
    for version, kinds in _RESOURCES.items():
        for kind, (plural, _) in kinds.items():
            of_kind = [item for item in objects if (item["apiVersion"], item["kind"]) == (version, kind)]
            for folder in {"", *(_folder(item) for item in of_kind), "/namespaces/default"}:
                here = [item for item in of_kind if folder in ("", _folder(item))]
                path = f"{_root(version)}{folder}/{plural}"
                found[path] = {"apiVersion": version, "kind": f"{kind}List", "items": here}
                found |= {f"{path}/{item['metadata']['name']}": item for item in here}
    return found


def _folder(item: Object) -> str:
    namespace = item["metadata"].get("namespace")
    return f"/namespaces/{namespace}" if namespace else ""
