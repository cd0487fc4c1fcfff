"""Sources on the hub, against a local HTTP server that answers as the hub does.

`huggingface_hub` reads its environment when it is imported, so each conversion is a process of its own.
"""

from __future__ import annotations

import gzip
import hashlib
import http.server
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pairwise_rm.convert.converters import HelpSteer2PairwiseConverter, HubFile
from tests.unit.convert.samples import all_rows, contents, manifest, rows

CONTENT = gzip.compress("".join(json.dumps(line) + "\n" for line in rows()).encode(), mtime=0)
COMMIT = "1" * 40
TOKEN = "hf_only_for_this_test"
assert HelpSteer2PairwiseConverter.hub
HELPSTEER2: HubFile = HelpSteer2PairwiseConverter.hub

# Its one seam: huggingface_hub waits between its retries, and the test does not.
CONVERT = """
import json, sys, time
from pathlib import Path
time.sleep = lambda seconds: None
from pairwise_rm.convert.run import convert
from pairwise_rm.errors import PairwiseError
from pairwise_rm.recipe.model import DatasetConfig
code = 0
for configs in json.loads(sys.argv[1]):
    config = DatasetConfig.model_validate({"configs": {"type": "huggingface", **configs}})
    try:
        convert(config, Path(sys.argv[2]))
    except PairwiseError as error:
        print(error.exit_code, error)
        code = error.exit_code
sys.exit(code)
"""


class Hub(http.server.BaseHTTPRequestHandler):
    """`/datasets/<repo>/resolve/<revision>/<path>`, with the headers and the errors of the hub."""

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def do_GET(self) -> None:
        self.answer(body=True)

    def answer(self, body: bool) -> None:
        repo, _, place = self.path.removeprefix("/datasets/").partition("/resolve/")
        revision, _, path = place.partition("/")
        commit = COMMIT if revision == "main" else revision
        if repo == "somebody/broken":
            return self.refuse(500, "")
        if repo == "somebody/private" and self.headers.get("Authorization") != f"Bearer {TOKEN}":
            return self.refuse(401, "GatedRepo")
        if repo not in ("nvidia/HelpSteer2", "somebody/private"):
            return self.refuse(404, "RepoNotFound")
        if commit not in (COMMIT, HELPSTEER2.revision):
            return self.refuse(404, "RevisionNotFound")
        if path != "preference/preference.jsonl.gz":
            return self.refuse(404, "EntryNotFound")
        self.send_response(200)
        self.send_header("ETag", f'"{hashlib.sha256(CONTENT).hexdigest()}"')
        self.send_header("X-Repo-Commit", commit)
        self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        if body:
            self.wfile.write(CONTENT)
        return None

    def refuse(self, status: int, code: str) -> None:
        self.send_response(status)
        if code:
            self.send_header("X-Error-Code", code)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *arguments: Any) -> None:
        """Quiet: the test's own output is the report."""


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def run(folder: Path, endpoint: str, *configs: dict[str, Any], **environment: str) -> subprocess.CompletedProcess[str]:
    inherited = {
        key: value for key, value in os.environ.items() if not key.startswith("HF_") and "proxy" not in key.lower()
    }
    settings = {"HF_ENDPOINT": endpoint, "HF_HOME": str(folder / "cache"), "HF_HUB_DISABLE_XET": "1", **environment}
    command = [sys.executable, "-c", CONVERT, json.dumps(configs), str(folder / "out")]
    return subprocess.run(command, env={**inherited, **settings}, capture_output=True, text=True, timeout=60)


PRIVATE = {"repo": "somebody/private", "path": "preference/preference.jsonl.gz"}


def test_a_hub_file_converts_and_the_manifest_names_its_commit(tmp_path: Path, endpoint: str) -> None:
    done = run(tmp_path, endpoint, {"revision": "main"})
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(all_rows(tmp_path / "out")) == 16
    told = manifest(tmp_path / "out")["input"]
    assert (told["repo"], told["revision"]) == ("nvidia/HelpSteer2", COMMIT)
    assert told["sha256"] == hashlib.sha256(CONTENT).hexdigest()


def test_helpsteer2_is_pinned_and_another_content_is_refused(tmp_path: Path, endpoint: str) -> None:
    done = run(tmp_path, endpoint, {})
    assert done.returncode == 2, done.stderr
    assert f"SHA-256 is {hashlib.sha256(CONTENT).hexdigest()}, expected {HELPSTEER2.sha256}" in done.stdout
    assert f"/snapshots/{HELPSTEER2.revision}/" in done.stdout
    assert not (tmp_path / "out").exists()


def test_a_token_opens_a_private_dataset_and_offline_the_cache_serves(tmp_path: Path, endpoint: str) -> None:
    refused = run(tmp_path, endpoint, PRIVATE)
    assert refused.returncode == 2
    assert "set HF_TOKEN" in refused.stdout
    opened = run(tmp_path, endpoint, PRIVATE, HF_TOKEN=TOKEN)
    assert opened.returncode == 0, opened.stdout + opened.stderr
    before = contents(tmp_path / "out")
    offline = run(tmp_path, "http://127.0.0.1:9", PRIVATE, HF_HUB_OFFLINE="1")
    assert offline.returncode == 0, offline.stdout + offline.stderr
    assert contents(tmp_path / "out") == before


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"repo": "nobody/nothing", "path": "x.jsonl"}, "2 hub dataset nobody/nothing, x.jsonl: no such dataset"),
    ({"path": "none.jsonl", "revision": "main"}, "no such file in the dataset (data.configs.path)"),
    ({"revision": "2" * 40}, "no such revision (data.configs.revision)"),
    ({"repo": "a/b/c", "path": "x.jsonl"}, "2 data.configs.repo: 'a/b/c' is no hub name"),
    ({"source": "generic_pairwise"}, "2 data.configs.repo: missing"),
    ({"repo": "somebody/broken", "path": "x.jsonl"}, "1 hub dataset somebody/broken, x.jsonl: "),
]


def test_whatever_the_hub_refuses_is_one_line(tmp_path: Path, endpoint: str) -> None:
    done = run(tmp_path, endpoint, *(configs for configs, _ in REFUSED))
    lines = done.stdout.splitlines()
    assert len(lines) == len(REFUSED), done.stdout + done.stderr
    for line, (_, message) in zip(lines, REFUSED, strict=True):
        assert message in line
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"HF_HUB_OFFLINE": "1"}, "HF_HUB_OFFLINE forbids the download"),
        ({"HF_ENDPOINT": "http://127.0.0.1:9"}, "the hub at http://127.0.0.1:9 is out of reach"),
    ],
)
def test_a_hub_out_of_reach_is_one_line(
    tmp_path: Path, endpoint: str, environment: dict[str, str], message: str
) -> None:
    done = run(tmp_path, endpoint, {}, **environment)
    assert done.returncode == 1, done.stderr
    assert message in done.stdout
    assert done.stdout.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_hub_is_asked_without_naming_its_http_client() -> None:
    # huggingface_hub 1 brings httpx and huggingface_hub 2 httpx2: neither may be imported by name.
    import inspect

    from huggingface_hub import errors

    from pairwise_rm.convert import source_file

    assert issubclass(errors.HfHubHTTPError, errors.HTTPError)
    assert "import httpx" not in inspect.getsource(source_file)
