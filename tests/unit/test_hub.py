"""A hub that has bad moments: a real HTTP server that answers as the hub does, and does the damage of its script.

`huggingface_hub` reads its environment when it is imported, so each download is in a process of its own.
"""

from __future__ import annotations

import hashlib
import http.server
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest

CONTENT = b'{"text": "a row of the file"}\n' * 4000
SHA256 = hashlib.sha256(CONTENT).hexdigest()
COMMIT = "1" * 40
STALL = 2.5

# What the hub does to the requests of a repository, in turn; `always` stands for the last one again and again.
MOMENTS: dict[str, list[str]] = {
    "is/well": [],
    "is/busy": ["HEAD 500", "GET 503", "GET 502"],
    "is/limiting": ["HEAD 429 retry-after=7", "GET 429 retry-after=12", 'GET 429 ratelimit="resolvers";r=0;t=33'],
    "cuts/once": ["GET half"],
    "cuts/where-it-resumes": ["GET half", "GET half", "GET 500"],
    "sends/another": ["GET wrong", "GET wrong"],
    "stalls/once": ["HEAD stall", "GET stall"],
    "drops/once": ["HEAD drop", "GET drop"],
    "always/busy": ["HEAD 500", "always"],
    "always/refusing": ["GET 503", "always"],
    "always/limiting": ["GET 429 retry-after=2", "always"],
    "always/closed": ["GET 429 retry-after=3600", "always"],
    "always/cutting": ["GET half-from-the-start", "always"],
    "always/another": ["GET wrong", "always"],
    "always/stalling": ["HEAD stall", "always"],
    "list/busy": ["API 503", "API stall", "API 429 retry-after=9"],
    "model/good": [],
    "model/bad": ["API 500", "HEAD 500", "GET half", "GET wrong", "GET 429 retry-after=5"],
    "model/lost": ["GET wrong", "always"],
    "busy/cached": ["pass", "pass", "HEAD 500", "always"],
}

FETCH = """
import json, logging, sys, time
waits, sleep = [], time.sleep
time.sleep = lambda seconds: waits.append(round(seconds))  # its one seam: waits are told and not waited for
from pairwise_rm import hub
from pairwise_rm.convert.hub_files import _Dataset
from pairwise_rm.errors import PairwiseError
from pairwise_rm.hf_model import model_snapshot
for name in sys.argv[1:]:
    waits.clear()
    said = []
    hub._log.handlers = [logging.Handler()]
    hub._log.handlers[0].emit = lambda record: said.append(record.getMessage())
    try:
        if name.startswith("model/"):
            folder = model_snapshot(name, "main")
            found = (folder / "model.safetensors").read_text()
        elif name.startswith("list/"):
            found = str(_Dataset(name, None).names("*.jsonl", "path"))
        else:
            found = _Dataset(name, None).download("rows.jsonl").read_text()
        error = None
    except PairwiseError as caught:
        found, error = "", str(caught)
    print(json.dumps({"name": name, "found": found, "error": error, "waits": list(waits), "said": said}), flush=True)
"""


class Hub(http.server.BaseHTTPRequestHandler):
    moments: ClassVar[dict[str, list[str]]] = {}
    requests: ClassVar[list[str]] = []

    def do_HEAD(self) -> None:
        self.answer()

    def do_GET(self) -> None:
        self.answer()

    def answer(self) -> None:
        is_api = self.path.startswith("/api/")
        parts = self.path.removeprefix("/api").removeprefix("/datasets").removeprefix("/models").split("/")
        repo = "/".join(parts[1:3])
        kind = "API" if is_api else self.command
        if repo not in self.moments:
            return self.refuse("404")
        self.requests.append(f"{kind} {repo}")
        fault = self.next_fault(repo, kind)
        if fault.startswith(("4", "5")):
            return self.refuse(fault)
        if fault == "stall":
            time.sleep(STALL)  # longer than the client waits, which has gone by then
            self.close_connection = True
            return None
        if fault == "drop":
            self.close_connection = True
            return None
        if is_api:
            return self.list_files(repo)
        return self.send(fault)

    def next_fault(self, repo: str, kind: str) -> str:
        script = self.moments[repo]
        if not script:
            return ""
        if script[0] == "pass":
            script.pop(0)
            return ""
        method, _, fault = script[0].partition(" ")
        if method != kind:
            return ""
        if script[1:] != ["always"]:
            script.pop(0)
        return fault

    def refuse(self, fault: str) -> None:
        status, _, header = fault.partition(" ")
        self.send_response(int(status))
        if header:
            self.send_header(*header.split("=", 1))
        self.send_header("Content-Length", "0")
        self.end_headers()

    def list_files(self, repo: str) -> None:
        name = "model.safetensors" if repo.startswith("model") else "rows.jsonl"
        lfs = {"oid": SHA256, "size": len(CONTENT), "pointerSize": 100}
        if "/tree/" in self.path:
            value: Any = [{"type": "file", "path": name, "size": len(CONTENT), "oid": "2" * 40, "lfs": lfs}]
        else:
            value = {"id": repo, "sha": COMMIT, "siblings": [{"rfilename": name}]}
        content = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def send(self, fault: str) -> None:
        start = 0
        if (wanted := self.headers.get("Range")) and fault != "half-from-the-start":
            start = int(wanted.removeprefix("bytes=").rstrip("-"))
        content = (CONTENT.swapcase() if fault == "wrong" else CONTENT)[start:]
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(CONTENT) - 1}/{len(CONTENT)}")
        self.send_header("ETag", f'"{SHA256}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content[: len(content) // 2] if fault.startswith("half") else content)
            self.close_connection = fault.startswith("half")

    def log_message(self, *arguments: Any) -> None:
        """Quiet: the test's own output is the report."""


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setattr(Hub, "moments", {name: list(script) for name, script in MOMENTS.items()})
    monkeypatch.setattr(Hub, "requests", [])
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def fetched(folder: Path, endpoint: str, *names: str) -> dict[str, dict[str, Any]]:
    """What became of each: the content or the error, the waits, and what was said."""
    inherited = {
        key: value for key, value in os.environ.items() if not key.startswith("HF_") and "proxy" not in key.lower()
    }
    settings = {
        "HF_ENDPOINT": endpoint, "HF_HOME": str(folder), "HF_HUB_DISABLE_XET": "1", "HF_HUB_ETAG_TIMEOUT": "1",
        "HF_HUB_DOWNLOAD_TIMEOUT": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", FETCH, *names],
        env={**inherited, **settings},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return {told["name"]: told for told in map(json.loads, done.stdout.splitlines())}


def test_a_hub_with_bad_moments_gives_every_file_whole_in_the_end(tmp_path: Path, endpoint: str) -> None:
    names = [name for name in MOMENTS if not name.startswith(("always/", "list/", "model/", "busy/"))]
    told = fetched(tmp_path, endpoint, *names)
    assert {name: told[name]["error"] for name in names} == dict.fromkeys(names)
    assert {name for name in names if told[name]["found"] != CONTENT.decode()} == set()
    assert not any(Hub.moments[name] for name in names), "a fault was not met"
    assert told["is/well"]["waits"] == []
    assert told["is/busy"]["waits"] == [2, 4, 8]
    assert told["is/busy"]["said"][0] == "hub: HTTP 500, trying again in 2 s (2 of 5)"
    assert told["is/limiting"]["said"] == [
        "hub: HTTP 429, trying again in 7 s (2 of 5)",
        "hub: HTTP 429, trying again in 12 s (3 of 5)",
        "hub: HTTP 429, trying again in 33 s (4 of 5)",
    ]
    assert told["sends/another"]["said"][0] == "hub: a file with another SHA-256, trying again in 2 s (2 of 5)"


def test_a_hub_that_stays_bad_is_one_line_after_five_tries(tmp_path: Path, endpoint: str) -> None:
    names = [name for name in MOMENTS if name.startswith("always/")]
    told = fetched(tmp_path, endpoint, *names)
    place = "hub dataset {0}, rows.jsonl: the hub"
    url = f"{endpoint}/datasets/{{0}}/resolve/main/rows.jsonl"
    other = hashlib.sha256(CONTENT.swapcase()).hexdigest()
    expected = {
        "always/busy": f"{place} answered HTTP 500 to {url}, 5 tries; try again later",
        "always/refusing": f"{place} answered HTTP 503 to {url}, 5 tries; try again later",
        "always/limiting": f"{place} answered HTTP 429 to {url}, 5 tries; try again later",
        "always/closed": f"{place} answered HTTP 429 to {url}, 1 try; it asks to wait for 3600 s; try again later",
        "always/cutting": f"{place} cut {url} short again and again, 5 tries; try again later",
        "always/another": f"{place} at {endpoint} sent a file with SHA-256 {other}, expected {SHA256}, 5 tries; "
        "try again later",
        "always/stalling": f"{place} at {endpoint} is out of reach: no answer, 5 tries; try again later",
    }
    assert {name: told[name]["error"] for name in names} == {name: text.format(name) for name, text in expected.items()}
    assert [sum(told[name]["waits"]) for name in ("always/limiting", "always/closed")] == [8, 0]
    blobs = [path for path in tmp_path.rglob("blobs/*") if path.is_file()]
    assert blobs == [], "what was not checked stays out of the cache"


def test_the_list_of_a_datasets_files_is_asked_for_again(tmp_path: Path, endpoint: str) -> None:
    told = fetched(tmp_path, endpoint, "list/busy")["list/busy"]
    assert (told["found"], told["waits"]) == ("['rows.jsonl']", [2, 4, 9])


def test_a_models_files_are_checked_and_asked_for_again_too(tmp_path: Path, endpoint: str) -> None:
    told = fetched(tmp_path, endpoint, "model/good", "model/bad", "model/lost")
    assert (told["model/good"]["found"], told["model/good"]["waits"]) == (CONTENT.decode(), [])
    assert told["model/bad"]["found"] == CONTENT.decode()
    assert Hub.moments["model/bad"] == []
    assert "sent a file with SHA-256" in told["model/lost"]["error"]


def test_a_file_in_the_cache_needs_no_hub_that_is_well(tmp_path: Path, endpoint: str) -> None:
    first = fetched(tmp_path, endpoint, "busy/cached")["busy/cached"]
    again = fetched(tmp_path, endpoint, "busy/cached")["busy/cached"]
    assert (first["error"], again["error"], again["found"], again["waits"]) == (None, None, CONTENT.decode(), [])
    assert Hub.requests[-1] == "HEAD busy/cached"
