"""Requests to the cluster: objects as the API's plain dicts, over the official client's connection.

The client finds the cluster, logs in, and does TLS. Its generated classes are not used: loading those of pods alone
takes seconds, and dicts keep fields that an older or newer client has no class for.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode

from pairwise_rm.k8s.api_errors import Answer, explained
from pairwise_rm.k8s.kubeconfig import Place, connect

Object = dict[str, Any]

RAY_GROUP = "ray.io"
KUEUE_GROUP = "kueue.x-k8s.io"
_RAY = f"/apis/{RAY_GROUP}/v1"
_KUEUE, _KUEUE_BEFORE_0_15 = f"/apis/{KUEUE_GROUP}/v1beta2", f"/apis/{KUEUE_GROUP}/v1beta1"
_CORE = "/api/v1"
_KINDS = {
    "rayjobs": _RAY,
    "rayclusters": _RAY,
    "pods": _CORE,
    "events": _CORE,
    "persistentvolumeclaims": _CORE,
    "workloads": _KUEUE,
}
_DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
_CONNECT_SECONDS, _ANSWER_SECONDS = 5.0, 30.0


class Cluster:
    """A namespace of a cluster. Every method raises one of `api_errors`."""

    def __init__(self, configuration: Any, place: Place) -> None:
        from kubernetes.client.rest import RESTClientObject

        self.configuration, self.place = configuration, place
        self._pool = RESTClientObject(configuration).pool_manager

    @classmethod
    def connect(cls, context: str | None = None, namespace: str | None = None) -> Cluster:
        return cls(*connect(context, namespace))

    @property
    def namespace(self) -> str:
        return self.place.namespace

    @property
    def authorization(self) -> dict[str, str]:
        """The header that logs in; a token that expires is renewed by the client when it is asked for."""
        bearer = self.configuration.auth_settings().get("BearerToken")
        return {"authorization": bearer["value"]} if bearer else {}

    def url(self, path: str, **query: Any) -> str:
        asked = urlencode({key: value for key, value in query.items() if value not in (None, "")})
        return f"{self.configuration.host}{path}{f'?{asked}' if asked else ''}"

    def objects(self, kind: str, selector: str = "", everywhere: bool = False) -> list[Object]:
        """All objects of a kind (`rayjobs`, `pods`, …) with these labels. Raises NotFound for an unknown kind."""
        path = f"{_KINDS[kind]}/{kind}" if everywhere else self._path(kind)
        with explained(self.place, "list", _resource(kind), everywhere):
            return self._list(path, selector)

    def pod(self, name: str) -> Object:
        """Raises NotFound."""
        with explained(self.place, "get", "pods"):
            return self._json("GET", self.url(self._path("pods", name)))

    def make_pod(self, manifest: Object) -> None:
        with explained(self.place, "create", "pods"):
            self._json("POST", self.url(self._path("pods")), manifest)

    def remove_pod(self, name: str) -> None:
        """At once; raises NotFound."""
        with explained(self.place, "delete", "pods"):
            self._json("DELETE", self.url(self._path("pods", name), gracePeriodSeconds=0))

    def ray_resources(self) -> set[str]:
        """Names of the resources under ray.io/v1. Raises NotFound where there are none."""
        with explained(self.place, "get", _RAY):
            return {resource["name"] for resource in self._json("GET", self.url(_RAY))["resources"]}

    def definition(self, name: str) -> Object:
        """A CustomResourceDefinition."""
        with explained(self.place, "get", "customresourcedefinitions.apiextensions.k8s.io", everywhere=True):
            return self._json("GET", self.url(f"{_DEFINITIONS}/{name}"))

    def log_tail(self, pod: str, container: str, lines: int, namespace: str | None = None) -> list[str]:
        """The last lines of a container's log, each behind its time."""
        with explained(self.place, "get", "pods/log"):
            path = self._path("pods", pod, "log", namespace=namespace)
            answer = self._ask("GET", self.url(path, container=container, tailLines=lines, timestamps="true"))
            return bytes(answer.data).decode(errors="replace").splitlines()

    def log(self, pod: str, container: str, follow: bool, since: int | None, quiet: float) -> Iterator[str]:
        """A log's lines, each behind its time; `since` in seconds back.

        Where it follows, Unavailable after `quiet` seconds without a line means no more than that.
        """
        url = self.url(
            self._path("pods", pod, "log"),
            container=container,
            timestamps="true",
            follow="true" if follow else None,
            sinceSeconds=since,
        )
        with explained(self.place, "get", "pods/log"), contextlib.closing(self._ask("GET", url, seconds=quiet)) as log:
            rest = b""
            for piece in log.stream():
                *lines, rest = (rest + piece).split(b"\n")
                for line in lines:
                    yield line.decode(errors="replace")
            if rest:
                yield rest.decode(errors="replace")

    def _list(self, path: str, selector: str) -> list[Object]:
        try:
            answer = self._json("GET", self.url(path, labelSelector=selector))
        except Answer as refusal:
            if refusal.status != 404 or _KUEUE not in path:
                raise
            older = path.replace(_KUEUE, _KUEUE_BEFORE_0_15)
            answer = self._json("GET", self.url(older, labelSelector=selector))
        return list(answer["items"])

    def _path(self, kind: str, *more: str, namespace: str | None = None) -> str:
        return "/".join((_KINDS[kind], "namespaces", namespace or self.namespace, kind, *more))

    def _json(self, method: str, url: str, body: Object | None = None) -> Object:
        answer: Object = json.loads(self._ask(method, url, body).data)
        return answer

    def _ask(self, method: str, url: str, body: Object | None = None, seconds: float = _ANSWER_SECONDS) -> Any:
        """The answer, unread. Raises Answer when it is not a good one."""
        from urllib3 import Timeout

        answer = self._pool.request(
            method,
            url,
            headers={"content-type": "application/json", **self.authorization},
            body=None if body is None else json.dumps(body),
            timeout=Timeout(connect=_CONNECT_SECONDS, read=seconds),
            preload_content=False,
        )
        if answer.status >= 400:
            raise Answer(answer.status, answer.data)
        return answer


def _resource(kind: str) -> str:
    group = {_RAY: RAY_GROUP, _KUEUE: KUEUE_GROUP}.get(_KINDS[kind])
    return f"{kind}.{group}" if group else kind
