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
from tests.unit.convert.samples import all_rows, contents, manifest, row, rows

CONTENT = gzip.compress("".join(json.dumps(line) + "\n" for line in rows()).encode(), mtime=0)
COMMIT = "1" * 40
TOKEN = "hf_only_for_this_test"
assert HelpSteer2PairwiseConverter.hub
HELPSTEER2: HubFile = HelpSteer2PairwiseConverter.hub


def packed(*raws: dict[str, Any]) -> bytes:
    return gzip.compress("".join(json.dumps(raw) + "\n" for raw in raws).encode(), mtime=0)


def helpsteer3_row(number: int) -> dict[str, Any]:
    context = [{"role": "user", "content": f"Q{number}"}]
    return {"context": context, "response1": "a", "response2": "b", "overall_preference": 1, "domain": "code"}


FILES = {
    "nvidia/HelpSteer3": {
        "preference/train.jsonl.gz": packed(helpsteer3_row(0), helpsteer3_row(1)),
        "preference/validation.jsonl.gz": packed(helpsteer3_row(2)),
    },
    "somebody/sharded": {
        "README.md": b"# Pairs",
        "data/train-00001.jsonl.gz": packed(row(2), row(3)),
        "data/train-00000.jsonl.gz": packed(row(0), row(1)),
        "data/test-00000.jsonl.gz": packed(row(4)),
        "data/old/train-00002.jsonl.gz": packed(row(5)),
    },
}

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
        if self.path.startswith("/api/datasets/"):
            return self.list_files()
        repo, _, place = self.path.removeprefix("/datasets/").partition("/resolve/")
        revision, _, path = place.partition("/")
        commit = COMMIT if revision == "main" else revision
        if repo == "somebody/broken":
            return self.refuse(500, "")
        if repo == "somebody/private" and self.headers.get("Authorization") != f"Bearer {TOKEN}":
            return self.refuse(401, "GatedRepo")
        if repo not in ("nvidia/HelpSteer2", "somebody/private", "nvidia/HelpSteer3", "somebody/sharded"):
            return self.refuse(404, "RepoNotFound")
        if commit not in (COMMIT, HELPSTEER2.revision):
            return self.refuse(404, "RevisionNotFound")
        content = FILES.get(repo, {"preference/preference.jsonl.gz": CONTENT}).get(path)
        if content is None:
            return self.refuse(404, "EntryNotFound")
        return self.send(content, body, commit)

    def list_files(self) -> None:
        repo, _, revision = self.path.removeprefix("/api/datasets/").partition("/revision/")
        if repo not in FILES or revision not in ("", "main", COMMIT):
            return self.refuse(404, "RevisionNotFound" if repo in FILES else "RepoNotFound")
        names = [{"rfilename": name} for name in FILES[repo]]
        return self.send(json.dumps({"id": repo, "sha": COMMIT, "siblings": names}).encode(), True, COMMIT)

    def send(self, content: bytes, body: bool, commit: str) -> None:
        self.send_response(200)
        self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
        self.send_header("X-Repo-Commit", commit)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if body:
            self.wfile.write(content)

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


SHARDED: dict[str, Any] = {"repo": "somebody/sharded"}
REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"repo": "nobody/nothing", "path": "x.jsonl"}, "2 hub dataset nobody/nothing, x.jsonl: no such dataset"),
    ({"path": "none.jsonl", "revision": "main"}, "no such file in the dataset (data.configs.path)"),
    ({"revision": "2" * 40}, "no such revision (data.configs.revision)"),
    ({"repo": "a/b/c", "path": "x.jsonl"}, "2 data.configs.repo: 'a/b/c' is no hub name"),
    ({"source": "generic_pairwise"}, "2 data.configs.repo: missing"),
    ({**SHARDED, "path": "data/dev-*"}, "no file of hub dataset somebody/sharded matches data/dev-*"),
    ({**SHARDED, "path": "*.md"}, "README.md is of no known kind"),
    ({**SHARDED, "path": "nowhere"}, "nowhere of hub dataset somebody/sharded is a folder without a file of a known"),
    ({**SHARDED, "path": "*", "revision": "2" * 40}, "its list of files at 222222222222: no such revision"),
    ({"repo": "somebody/broken", "path": "x.jsonl"}, "1 hub dataset somebody/broken, x.jsonl: "),
]


@pytest.mark.parametrize("path", ["data/train-*.jsonl.gz", ["data/train-00001.jsonl.gz", "data/train-00000.jsonl.gz"]])
def test_a_pattern_and_a_list_of_hub_files_are_read_at_one_revision(tmp_path: Path, endpoint: str, path: Any) -> None:
    done = run(tmp_path, endpoint, {**SHARDED, "path": path, "test_path": "data/test-*"})
    assert done.returncode == 0, done.stdout + done.stderr
    held = manifest(tmp_path / "out")["input"]
    assert (held["repo"], held["revision"]) == ("somebody/sharded", COMMIT)
    assert [(file["name"], file["side"]) for file in held["files"]] == [
        ("data/train-00000.jsonl.gz", "train"),
        ("data/train-00001.jsonl.gz", "train"),
        ("data/test-00000.jsonl.gz", "test"),
    ]
    prompts = [line["messages"][0]["content"].split()[2] for line in all_rows(tmp_path / "out")[::2]]
    assert prompts == ["0", "1", "2", "3", "4"]


def test_a_folder_of_the_hub_is_its_own_files_and_not_those_below(tmp_path: Path, endpoint: str) -> None:
    assert run(tmp_path, endpoint, {**SHARDED, "path": "data"}).returncode == 0
    assert len(manifest(tmp_path / "out")["input"]["files"]) == 3


def test_helpsteer3_has_its_held_out_rows_in_a_file_of_their_own(tmp_path: Path, endpoint: str) -> None:
    done = run(tmp_path, endpoint, {"source": "helpsteer3_preference"})
    assert done.returncode == 0, done.stdout + done.stderr
    counts = manifest(tmp_path / "out")["counts"]
    assert (counts["train"]["pairs"], counts["test"]["pairs"]) == (2, 1)


def test_a_pattern_needs_the_hub_and_a_name_does_not(tmp_path: Path, endpoint: str) -> None:
    pattern = {**SHARDED, "path": "data/train-*", "test_path": "data/test-*"}
    assert run(tmp_path, endpoint, pattern).returncode == 0
    offline = run(tmp_path, "http://127.0.0.1:9", pattern, HF_HUB_OFFLINE="1")
    assert offline.returncode == 1
    assert "its list of files: HF_HUB_OFFLINE forbids the download; a file's whole name needs no list" in offline.stdout


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

    from pairwise_rm.convert import hub_files

    assert issubclass(errors.HfHubHTTPError, errors.HTTPError)
    assert "import httpx" not in inspect.getsource(hub_files)
