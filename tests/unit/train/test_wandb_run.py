"""W&B out of reach from the start or from the middle, with a real HTTP server of its API; nothing of wandb is faked."""

from __future__ import annotations

import contextlib
import http.server
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest

from pairwise_rm.train.wandb_run import HIDDEN, without_secrets

pytest.importorskip("wandb")

KEY = "a" * 40
# As verl does it: its own `wandb.init`, then a log for each step, then `finish`.
TRAIN = """
import sys, time
from pathlib import Path
from pairwise_rm.train import wandb_run
import wandb
wandb_run.FINISH_SECONDS = 3
config = {"trainer": {"project_name": "p", "experiment_name": "judge"}, "lr": 0.5}
wandb_run.begin(config, Path(sys.argv[1]))
wandb.init(project="p", name="judge", entity=None, config={**config, "secret_of_verl": "x"}, settings=None)
for step in range(1, 9):
    wandb.log(data={"reward/mean": step / 10}, step=step)
    if step == 4:
        time.sleep(1)
        print("half", flush=True)
        sys.stdin.readline()
wandb.finish(exit_code=0)
print("done", flush=True)
"""


class Api(http.server.BaseHTTPRequestHandler):
    """Of W&B's API what a run needs: GraphQL to make it, a stream of its history, uploads of files."""

    protocol_version = "HTTP/1.1"
    steps: ClassVar[set[int]] = set()
    configs: ClassVar[list[str]] = []

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.path.endswith("/file_stream"):
            for line in json.loads(body).get("files", {}).get("wandb-history.jsonl", {}).get("content", []):
                self.steps.add(json.loads(line)["_step"])
        self.reply(self.graphql(json.loads(body)) if self.path.endswith("/graphql") else {})

    do_PUT = do_POST

    def do_GET(self) -> None:
        self.reply({})

    def graphql(self, request: dict[str, Any]) -> dict[str, Any]:
        query, given = request["query"], request.get("variables", {})
        if "mutation UpsertBucket" in query:
            self.configs.append(given.get("config") or "")
            project = {"id": "p", "name": "p", "entity": {"id": "e", "name": "e"}}
            bucket = {"id": "b", "name": given["name"], "displayName": "judge", "config": "{}", "historyLineCount": 0}
            return {"data": {"upsertBucket": {"bucket": {**bucket, "project": project}, "inserted": True}}}
        if "mutation CreateRunFiles" in query:
            url = f"http://{self.headers['Host']}/upload"
            files = [{"name": name, "uploadUrl": url} for name in given["files"]]
            return {"data": {"createRunFiles": {"runID": "b", "uploadHeaders": [], "files": files}}}
        return {"data": {"serverInfo": {"features": []}} if "ServerFeatures" in query else {}}

    def reply(self, value: dict[str, Any]) -> None:
        content = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *arguments: Any) -> None:
        """Quiet: the test's own output is the report."""


@contextlib.contextmanager
def api(port: int = 0) -> Iterator[int]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", port), Api) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(autouse=True)
def nothing_received(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Api, "steps", set())
    monkeypatch.setattr(Api, "configs", [])


def environment(port: int) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
    settings = {"WANDB_BASE_URL": f"http://127.0.0.1:{port}", "WANDB_API_KEY": KEY, "WANDB_INIT_TIMEOUT": "5"}
    return {**kept, **settings, "WANDB_ERROR_REPORTING": "false"}


def trained(folder: Path, port: int) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", TRAIN, str(folder)], env=environment(port), cwd=folder, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    while (line := process.stdout.readline()) != "half\n":
        assert line, "ended before its half"
    return process


def synced(run: Path, port: int, *options: str) -> set[int]:
    command = [sys.executable, "-m", "wandb", "sync", *options, str(run)]
    done = subprocess.run(command, env=environment(port), cwd=run, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return Api.steps


ALL = set(range(1, 9))


def test_a_training_goes_on_without_wandb_from_the_start_and_sync_has_all_steps_later(tmp_path: Path) -> None:
    with api() as port:
        pass  # a port where nothing listens
    said, error = trained(tmp_path, port).communicate("go on\n", timeout=120)
    assert "done" in said
    warning = re.findall("^warning: W&B: .*$", error, re.MULTILINE)
    assert len(warning) == 1, error
    where = re.search("`wandb sync (.*)` uploads its steps later", warning[0])
    assert where
    assert Path(where[1]).parent == tmp_path / "wandb"
    with api(port):
        assert synced(Path(where[1]), port) == ALL


def test_a_training_goes_on_when_wandb_goes_away_and_sync_has_all_steps_later(tmp_path: Path) -> None:
    with api() as port:
        process = trained(tmp_path, port)
    said, error = process.communicate("go on\n", timeout=120)
    assert "done" in said, error
    assert "warning: W&B" not in error
    assert Api.steps < ALL
    [run] = (tmp_path / "wandb").glob("run-*/run-*.wandb")
    with api(port):
        assert synced(run.parent, port, "--include-online") == ALL


def test_the_config_that_wandb_gets_is_the_one_without_secrets(tmp_path: Path) -> None:
    with api() as port:
        _, error = trained(tmp_path, port).communicate("go on\n", timeout=120)
    assert Api.steps == ALL, error
    assert any("lr" in config for config in Api.configs)
    assert not any("secret_of_verl" in config or KEY in config for config in Api.configs)


def test_no_secret_comes_into_the_config(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_0123456789")
    variables = {"WANDB_API_KEY": "k", "TOKENIZERS_PARALLELISM": "false", "AWS_SECRET_ACCESS_KEY": "s", "HF_TOKEN": "t"}
    config = {
        "ray_kwargs": {"ray_init": {"runtime_env": {"env_vars": variables}}},
        "trainer": {"wandb_proxy": "http://me:pw@proxy:80", "total_epochs": 1},
        "data": {"command": ["--token=hf_0123456789"], "max_tokens": 5, "tokenizer": "a/b", "token": None},
        "password": "p",
    }
    assert without_secrets(config) == {
        "ray_kwargs": {
            "ray_init": {
                "runtime_env": {
                    "env_vars": {
                        "WANDB_API_KEY": HIDDEN,
                        "TOKENIZERS_PARALLELISM": "false",
                        "AWS_SECRET_ACCESS_KEY": HIDDEN,
                        "HF_TOKEN": HIDDEN,
                    }
                }
            }
        },
        "trainer": {"wandb_proxy": f"http://{HIDDEN}@proxy:80", "total_epochs": 1},
        "data": {"command": [f"--token={HIDDEN}"], "max_tokens": 5, "tokenizer": "a/b", "token": None},
        "password": HIDDEN,
    }
