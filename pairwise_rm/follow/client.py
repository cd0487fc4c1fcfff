"""What is asked of the cluster, over the official client: objects as the plain dicts of the API.

Dicts, so that what reads them is pure and its tests are a few lines; and they carry fields that an older or newer
client has no class for.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from typing import Any

from pairwise_rm.follow.faults import explained
from pairwise_rm.follow.kubeconfig import Place, connect

Object = dict[str, Any]

RAY_GROUP, RAY_VERSION = "ray.io", "v1"
_RAY_KINDS = ("rayjobs", "rayclusters")
_CORE_KINDS = {"pods": "pod", "events": "event", "persistentvolumeclaims": "persistent_volume_claim"}
_TIMEOUT = (5, 30)  # seconds to connect, and between two pieces of an answer


class Cluster:
    """A namespace of a cluster. Every method raises one of `faults`."""

    def __init__(self, api: Any, place: Place) -> None:
        from kubernetes import client

        self.api, self.place = api, place
        self.core = client.CoreV1Api(api)
        self._custom = client.CustomObjectsApi(api)

    @classmethod
    def connect(cls, context: str | None = None, namespace: str | None = None) -> Cluster:
        return cls(*connect(context, namespace))

    @property
    def namespace(self) -> str:
        return self.place.namespace

    def objects(self, kind: str, selector: str = "", everywhere: bool = False) -> list[Object]:
        """All objects of a kind (`rayjobs`, `pods`, …) with these labels."""
        ray = kind in _RAY_KINDS
        options = {"label_selector": selector, "_request_timeout": _TIMEOUT}
        with explained(self.place, "list", f"{kind}.{RAY_GROUP}" if ray else kind, everywhere):
            if ray and everywhere:
                found = self._custom.list_cluster_custom_object(RAY_GROUP, RAY_VERSION, kind, **options)
            elif ray:
                found = self._custom.list_namespaced_custom_object(
                    RAY_GROUP, RAY_VERSION, self.namespace, kind, **options
                )
            else:
                listing = getattr(self.core, f"list_namespaced_{_CORE_KINDS[kind]}")
                found = json.loads(listing(self.namespace, _preload_content=False, **options).data)
        return list(found["items"])

    def pod(self, name: str) -> Object:
        """Raises Missing."""
        with explained(self.place, "get", "pods"):
            answer = self.core.read_namespaced_pod(
                name, self.namespace, _preload_content=False, _request_timeout=_TIMEOUT
            )
            found: Object = json.loads(answer.data)
        return found

    def make_pod(self, manifest: Object) -> None:
        with explained(self.place, "create", "pods"):
            self.core.create_namespaced_pod(self.namespace, manifest, _request_timeout=_TIMEOUT)

    def remove_pod(self, name: str) -> None:
        """At once; raises Missing."""
        with explained(self.place, "delete", "pods"):
            self.core.delete_namespaced_pod(
                name, self.namespace, grace_period_seconds=0, _preload_content=False, _request_timeout=_TIMEOUT
            )

    def ray_resources(self) -> set[str]:
        """Names of the resources under ray.io/v1. Raises Missing where there are none."""
        with explained(self.place, "get", f"apis/{RAY_GROUP}/{RAY_VERSION}"):
            answer = self._custom.get_api_resources(
                RAY_GROUP, RAY_VERSION, _preload_content=False, _request_timeout=_TIMEOUT
            )
            return {resource["name"] for resource in json.loads(answer.data)["resources"]}

    def definition(self, name: str) -> Object:
        """A CustomResourceDefinition."""
        from kubernetes import client

        with explained(self.place, "get", "customresourcedefinitions.apiextensions.k8s.io", everywhere=True):
            answer = client.ApiextensionsV1Api(self.api).read_custom_resource_definition(
                name, _preload_content=False, _request_timeout=_TIMEOUT
            )
            found: Object = json.loads(answer.data)
        return found

    def log_tail(self, pod: str, container: str, lines: int) -> list[str]:
        """The last lines of a container's log, each behind its time."""
        with explained(self.place, "get", "pods/log"):
            answer = self.core.read_namespaced_pod_log(
                pod,
                self.namespace,
                container=container,
                tail_lines=lines,
                timestamps=True,
                _preload_content=False,
                _request_timeout=_TIMEOUT,
            )
            return bytes(answer.data).decode(errors="replace").splitlines()

    def log(self, pod: str, container: str, follow: bool, since: int | None, quiet: float) -> Iterator[str]:
        """A log's lines, each behind its time; `since` in seconds back.

        Where it follows, OutOfReach after `quiet` seconds without a line means no more than that.
        """
        from kubernetes.client import ApiException

        options: dict[str, Any] = {"follow": True} if follow else {}
        if since is not None:
            options["since_seconds"] = since
        with explained(self.place, "get", "pods/log"):
            answer = self.core.read_namespaced_pod_log(
                pod,
                self.namespace,
                container=container,
                timestamps=True,
                _preload_content=False,
                _request_timeout=(_TIMEOUT[0], quiet),
                **options,
            )
            if answer.status != 200:
                raise ApiException(http_resp=answer)
            with contextlib.closing(answer):
                rest = b""
                for piece in answer.stream():
                    *lines, rest = (rest + piece).split(b"\n")
                    for line in lines:
                        yield line.decode(errors="replace")
                if rest:
                    yield rest.decode(errors="replace")
