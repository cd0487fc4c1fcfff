"""The Kubernetes API as far as following a release asks it, on a real socket: the one seam where a fake stands.

cluster.add("rayjobs", {"metadata": {"name": "judge-train-1"}})
cluster.answers["GET /api/v1/namespaces/ml/pods"] = (403, {"message": "…"})
"""

from __future__ import annotations

import json
import re
import threading
from collections import defaultdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

Object = dict[str, Any]
NAMESPACE = "ml"
_LIST = re.compile(r"/(?:api/v1|apis/ray\.io/v1|apis/kueue\.x-k8s\.io/v1beta2)(?:/namespaces/([^/]+))?/([a-z]+)")
_LOG = re.compile(r"/api/v1/namespaces/[^/]+/pods/([^/]+)/log")
KINDS_OF_1_6 = ("rayjobs", "rayclusters", "rayservices", "raycronjobs")


class KubernetesStub:
    """Objects by kind, logs by pod, answers of one's own by `METHOD path`, and what was applied, by path."""

    def __init__(self) -> None:
        self.objects: dict[str, list[Object]] = defaultdict(list)
        self.logs: dict[str, str] = {}
        self.kinds: tuple[str, ...] = KINDS_OF_1_6
        self.answers: dict[str, tuple[int, Object | str]] = {}
        self.applied: list[tuple[str, Object]] = []
        stub = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                status, body = stub.answer(self.command, self.path)
                content = (body if isinstance(body, str) else json.dumps(body)).encode()
                self.send_response(status)
                self.send_header("content-length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def do_PATCH(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                stub.applied.append((self.path, body))
                self.do_GET()

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def add(self, kind: str, *items: Object) -> None:
        for item in items:
            item["metadata"].setdefault("namespace", NAMESPACE)
            self.objects[kind].append(item)

    def answer(self, method: str, target: str) -> tuple[int, Object | str]:
        url = urlsplit(target)
        if own := self.answers.get(f"{method} {url.path}"):
            return own
        if method == "PATCH":
            return 200, {}
        if url.path == "/apis/ray.io/v1":
            return 200, {"resources": [{"name": kind} for kind in self.kinds]}
        if found := _LOG.fullmatch(url.path):
            if found[1] not in self.logs:
                return 404, {"message": f'pods "{found[1]}" not found'}
            return 200, self.logs[found[1]]
        if found := _LIST.fullmatch(url.path):
            selector = parse_qs(url.query).get("labelSelector", [""])[0]
            return 200, {"items": [item for item in self.objects[found[2]] if _chosen(item, found[1], selector)]}
        return 404, "404 page not found"


def _chosen(item: Object, namespace: str | None, selector: str) -> bool:
    labels = item["metadata"].get("labels", {})
    if namespace not in (None, item["metadata"]["namespace"]):
        return False
    for key, equal, among in re.findall(r"([^\s,()=]+)(?:=([^,]*)| in \(([^)]*)\))?", selector):
        if key not in labels or ((equal or among) and labels[key] not in (equal or among).split(",")):
            return False
    return True


def kubeconfig(url: str, namespace: str = NAMESPACE) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "lab",
        "clusters": [{"name": "lab", "cluster": {"server": url}}],
        "users": [{"name": "ada", "user": {"token": "t"}}],
        "contexts": [{"name": "lab", "context": {"cluster": "lab", "user": "ada", "namespace": namespace}}],
    }
