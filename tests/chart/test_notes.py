"""What helm prints after an install: what runs, how to follow it, where the result will be."""

from __future__ import annotations

import json
import subprocess

from tests.chart.rendering import RELEASE, Values, helm, nested
from tests.paths import CHART

OFF = {f"stages.{stage}.enabled": False for stage in ("convert", "train", "evaluate", "export")}
FOLLOW = ["pairwise-rm status judge -n default", "pairwise-rm wait --for export judge -n default"]


def notes(values: Values) -> str:
    command = (helm(), "install", RELEASE, str(CHART), "--namespace", "default", "--dry-run=client", "--values=-")
    done = subprocess.run(command, input=json.dumps(values), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.partition("\nNOTES:\n")[2]


def test_a_run_says_what_runs_how_to_follow_it_and_where_its_result_will_be() -> None:
    said = notes(nested({"recipe.name": "smoke", "poolDefaults.gpuResource": "", "storage.upload": "s3://judges/a"}))
    assert "Recipe smoke in namespace default: convert → train → evaluate → export." in said
    assert all(f"  {command}\n" in said for command in FOLLOW)
    assert "on the claim judge-runs:\n  judge    /mnt/runs/judge/smoke-" in said
    assert "Both are copied to s3://judges/a." in said
    assert "served" not in said


def test_clusters_of_their_own_are_said() -> None:
    shared, ephemeral = notes({}), notes({"mode": "ephemeral"})
    assert "All stages run on the RayCluster judge; each waits" in shared
    assert "Each RayJob has a RayCluster of its own." in ephemeral
    assert "All stages run" not in ephemeral


def test_a_release_that_only_serves_says_what_it_serves_and_nothing_of_a_run() -> None:
    said = notes(nested({**OFF, "serve.enabled": True, "serve.model": "/mnt/runs/mine"}))
    assert "no stage is enabled." in said
    assert "The judge is served when /mnt/runs/mine is there" in said
    assert "port-forward svc/judge-judge-serve-svc 8000" in said
    assert not any(word in said for word in ("RayCluster judge", "Follow it", "report"))


def test_ray_without_a_token_is_warned_of() -> None:
    assert "WARNING: auth.token is off." in notes(nested({"auth.token": False}))
    assert "WARNING" not in notes({})
