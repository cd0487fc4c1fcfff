"""Requests to the cluster: objects as the API's plain dicts, over the official client's connection.

The client finds the cluster, logs in, and does TLS. Its generated classes are not used: importing those of pods alone
takes seconds, and dicts keep fields that an older or newer client does not know.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlencode

from pairwise_rm.errors import InputError, StageError
from pairwise_rm.k8s.objects import Object

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
    "configmaps": _CORE,
    "workloads": _KUEUE,
}
_DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
_CONNECT_SECONDS, _ANSWER_SECONDS = 5.0, 30.0
_KUBECONFIG = "~/.kube/config"
_POD_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
_USER = re.compile(r'User "([^"]+)"')
_ACT = re.compile(r'cannot (\w+) resource "([^"]+)" in API group "([^"]*)"')
_NO_LOG_YET = "waiting to start"
_PASSING = (429, 500, 502, 503, 504)
_JSON = "application/json"
_PAUSE_SECONDS = 5.0
_GIVE_UP_SECONDS = 300.0

T = TypeVar("T")


@dataclass(frozen=True)
class Target:
    """A namespace of a cluster, and the file and context that chose it."""

    source: str
    context: str | None
    server: str
    namespace: str

    def __str__(self) -> str:
        return f"{self.server} ({f'context {self.context} of ' if self.context else ''}{self.source})"


def _connect(context: str | None, namespace: str | None) -> tuple[Any, Target]:
    """The client's Configuration and its target; nothing is sent yet.

    Raises InputError, naming the file and the context.
    """
    from kubernetes import config
    from kubernetes.client import Configuration

    settings = Configuration()
    # Commands retry by themselves where that makes sense; a wrong address must be reported at once.
    settings.retries = False
    files = os.environ.get("KUBECONFIG") or _KUBECONFIG
    there = [path for path in files.split(os.pathsep) if path and Path(path).expanduser().is_file()]
    if not there:
        if not context and not os.environ.get("KUBECONFIG") and _POD_NAMESPACE.is_file():
            config.load_incluster_config(client_configuration=settings)
            own = _POD_NAMESPACE.read_text(encoding="utf-8").strip()
            return settings, Target("this pod's account", None, settings.host, namespace or own)
        named = " (named by KUBECONFIG)" if os.environ.get("KUBECONFIG") else ""
        raise InputError(f"no kubeconfig: {files}{named}: no such file; set KUBECONFIG to the file of your cluster")
    chosen = _context(files, context)
    try:
        config.load_kube_config(files, chosen["name"], settings, persist_config=False)
    except (config.ConfigException, OSError) as error:
        raise InputError(f"{files}: context {chosen['name']}: {_line(error)}") from error
    own = chosen.get("context", {}).get("namespace") or "default"
    return settings, Target(files, chosen["name"], settings.host, namespace or own)


def _context(files: str, wanted: str | None) -> dict[str, Any]:
    import yaml
    from kubernetes import config

    try:
        contexts, current = config.list_kube_config_contexts(files)
    except (config.ConfigException, OSError, yaml.YAMLError, AttributeError, TypeError) as error:
        if not wanted and ("current-context" in str(error) or "contexts list" in str(error)):
            text = f"{files}: no current context that it has; give --context, or `kubectl config use-context`"
            raise InputError(text) from error
        raise InputError(f"{files}: not a kubeconfig: {_line(error)}") from error
    if not wanted:
        return dict(current)
    for context in contexts:
        if context["name"] == wanted:
            return dict(context)
    known = ", ".join(sorted(context["name"] for context in contexts))
    raise InputError(f"--context {wanted}: {files} has no such context; it has {known}")


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())


class Unavailable(StageError):
    """No answer, perhaps only for the moment: commands that follow a run for hours ask again."""


class Forbidden(StageError):
    """The account may not do this."""


class NotFound(StageError):
    """The object does not exist."""


class Answer(Exception):
    """An HTTP error; `explained` puts it into words."""

    def __init__(self, status: int, body: bytes) -> None:
        super().__init__(f"HTTP {status}")
        self.status, self.message = status, _message(body)


@contextlib.contextmanager
def explained(target: Target, verb: str, resource: str, everywhere: bool = False) -> Iterator[None]:
    """Turns an error of a request in the block into one of these classes, with a sentence for the user."""
    from urllib3.exceptions import HTTPError

    try:
        yield
    except Answer as answer:
        raise _in_words(answer, target, verb, resource, everywhere) from answer
    except (HTTPError, TimeoutError, ConnectionError) as error:
        raise Unavailable(f"{target}: {_short(error)}") from error


def _in_words(answer: Answer, target: Target, verb: str, resource: str, everywhere: bool) -> StageError:
    status, message = answer.status, answer.message
    where = "all namespaces" if everywhere else f"namespace {target.namespace}"
    if status == 401:
        return StageError(f"{target}: the credentials are refused (401); log in to the cluster again")
    if status == 403:
        if act := _ACT.search(message):  # the verb that the server names, which for exec depends on its version
            verb, resource = act[1], f"{act[2]}.{act[3]}" if act[3] else act[2]
        user = f" as {found[1]}" if (found := _USER.search(message)) else ""
        flag = "-A" if everywhere else f"-n {target.namespace}"
        return Forbidden(
            f"no permission to {verb} {resource} in {where}{user}; ask the cluster's administrator for a Role with it "
            f"(`kubectl auth can-i {verb} {resource} {flag}` checks)"
        )
    if status == 404 or (status == 400 and _NO_LOG_YET in message):
        return NotFound(message or f"{resource}: not found")
    if status in _PASSING:
        return Unavailable(f"{target}: the API server answers {status}: {message}")
    return StageError(f"{verb} {resource} in {where}: {message} ({status})")


def _message(body: bytes) -> str:
    text = body.decode(errors="replace")
    with contextlib.suppress(ValueError, KeyError, TypeError):  # not every proxy answers as the API server does
        text = str(json.loads(text)["message"])
    return " ".join(text.split())


def _short(error: BaseException) -> str:
    text = " ".join(str(error).split())
    if "CERTIFICATE_VERIFY_FAILED" in text:
        return "its certificate is not one that the kubeconfig's certificate-authority has signed"
    if found := re.search(r"\[Errno -?\d+\] ([^'\")]+)", text):
        return f"out of reach: {found[1]}"
    return "no answer in time" if "timed out" in text.lower() else f"out of reach: {text}"


def with_retries(ask: Callable[[], T], say: Callable[[str], None]) -> T:
    """Calls `ask`, again while the API server is unreachable. Raises Unavailable after five minutes."""
    end = time.monotonic() + _GIVE_UP_SECONDS
    told = False
    while True:
        try:
            return ask()
        except Unavailable as error:
            if time.monotonic() > end:
                raise
            if not told:
                say(f"{error}; asking again")
                told = True
            time.sleep(_PAUSE_SECONDS)


class Cluster:
    """A namespace of a cluster. Every method raises Unavailable, Forbidden, NotFound, or another StageError."""

    def __init__(self, configuration: Any, target: Target) -> None:
        from kubernetes.client.rest import RESTClientObject

        self.configuration, self.target = configuration, target
        self._pool = RESTClientObject(configuration).pool_manager

    @classmethod
    def connect(cls, context: str | None = None, namespace: str | None = None) -> Cluster:
        return cls(*_connect(context, namespace))

    @property
    def namespace(self) -> str:
        return self.target.namespace

    @property
    def authorization(self) -> dict[str, str]:
        """The Authorization header; the client renews an expired token when asked for it."""
        bearer = self.configuration.auth_settings().get("BearerToken")
        return {"authorization": bearer["value"]} if bearer else {}

    def url(self, path: str, **query: Any) -> str:
        asked = urlencode({key: value for key, value in query.items() if value not in (None, "")})
        return f"{self.configuration.host}{path}{f'?{asked}' if asked else ''}"

    def objects(self, kind: str, selector: str = "", everywhere: bool = False) -> list[Object]:
        """All objects of a kind (`rayjobs`, `pods`, …) with these labels. Raises NotFound for an unknown kind."""
        path = f"{_KINDS[kind]}/{kind}" if everywhere else self._path(kind)
        with explained(self.target, "list", _resource(kind), everywhere):
            return self._list(path, selector)

    def pod(self, name: str) -> Object:
        """Raises NotFound."""
        with explained(self.target, "get", "pods"):
            return self._json("GET", self.url(self._path("pods", name)))

    def object(self, kind: str, name: str) -> Object:
        """Raises NotFound."""
        with explained(self.target, "get", _resource(kind)):
            return self._json("GET", self.url(self._path(kind, name)))

    def apply(self, kind: str, manifest: Object, manager: str) -> None:
        """Makes or changes an object by server-side apply, in the name of this field manager."""
        url = self.url(self._path(kind, manifest["metadata"]["name"]), fieldManager=manager)
        with explained(self.target, "patch", _resource(kind)):
            self._json("PATCH", url, manifest, content="application/apply-patch+yaml")

    def make_pod(self, manifest: Object) -> None:
        with explained(self.target, "create", "pods"):
            self._json("POST", self.url(self._path("pods")), manifest)

    def remove_pod(self, name: str) -> None:
        """Deletes it without a grace period; raises NotFound."""
        with explained(self.target, "delete", "pods"):
            self._json("DELETE", self.url(self._path("pods", name), gracePeriodSeconds=0))

    def ray_resources(self) -> set[str]:
        """Names of the resources under ray.io/v1. Raises NotFound where there are none."""
        with explained(self.target, "get", _RAY):
            return {resource["name"] for resource in self._json("GET", self.url(_RAY))["resources"]}

    def definition(self, name: str) -> Object:
        """A CustomResourceDefinition."""
        with explained(self.target, "get", "customresourcedefinitions.apiextensions.k8s.io", everywhere=True):
            return self._json("GET", self.url(f"{_DEFINITIONS}/{name}"))

    def log_tail(self, pod: str, container: str, lines: int, namespace: str | None = None) -> list[str]:
        """The last lines of a container's log, each after its timestamp."""
        with explained(self.target, "get", "pods/log"):
            path = self._path("pods", pod, "log", namespace=namespace)
            answer = self._ask("GET", self.url(path, container=container, tailLines=lines, timestamps="true"))
            return bytes(answer.data).decode(errors="replace").splitlines()

    def log(self, pod: str, container: str, follow: bool, since: int | None, quiet: float) -> Iterator[str]:
        """A log's lines, each after its timestamp; `since`: seconds back from now.

        When following, it also raises Unavailable after `quiet` seconds without a line.
        """
        url = self.url(
            self._path("pods", pod, "log"),
            container=container,
            timestamps="true",
            follow="true" if follow else None,
            sinceSeconds=since,
        )
        with explained(self.target, "get", "pods/log"), contextlib.closing(self._ask("GET", url, seconds=quiet)) as log:
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

    def _json(self, method: str, url: str, body: Object | None = None, content: str = _JSON) -> Object:
        answer: Object = json.loads(self._ask(method, url, body, content=content).data)
        return answer

    def _ask(
        self,
        method: str,
        url: str,
        body: Object | None = None,
        seconds: float = _ANSWER_SECONDS,
        content: str = _JSON,
    ) -> Any:
        """The response, unread. Raises Answer for an HTTP error."""
        from urllib3 import Timeout

        answer = self._pool.request(
            method,
            url,
            headers={"content-type": content, **self.authorization},
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
