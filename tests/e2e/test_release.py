"""`helm install` with the kind preset: from pairs to a judge, and the checks afterwards.

The tests of this file run in order and share one release.
"""

from __future__ import annotations

import json
import re
import sys
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from tests.chart.gitops_health import argo, flux
from tests.e2e.conftest import Release
from tests.e2e.kube import gpu_pods, pairwise_rm, run, state_of, succeeded, tool
from tests.e2e.phases import PHASES
from tests.paths import CHART

STAGES = ["convert", "train", "evaluate", "export"]


def moment(text: str) -> float:
    return datetime.fromisoformat(re.sub(r"(\.\d{6})\d*Z$", r"\1+00:00", text).replace("Z", "+00:00")).timestamp()


def when(release: Release, stage: str, pattern: str) -> float:
    """The time of the first line in a stage's log that matches."""
    pods = release.namespace.items("pods")
    labels = {pod["metadata"]["name"]: pod["metadata"].get("labels", {}) for pod in pods}
    [pod] = [name for name, found in labels.items() if found.get("pairwise-rm.io/stage") == stage]
    for line in release.namespace.kubectl("logs", pod, "--timestamps").splitlines():
        at, _, text = line.partition(" ")
        if re.search(pattern, text):
            return moment(at)
    raise AssertionError(f"{stage}: no line like {pattern!r}")


def test_all_stages_succeed_in_order(release: Release) -> None:
    jobs = release.namespace.jobs()
    assert sorted(jobs) == sorted(STAGES)
    assert all(succeeded(job) for job in jobs.values()), release.namespace.describe()
    ends = [done_at(release, stage) for stage in STAGES]
    assert ends == sorted(ends)
    for name, end in zip(STAGES, ends, strict=True):
        PHASES.append((f"helm install -> {name} done", end - release.installed))


def done_at(release: Release, stage: str) -> float:
    """When a stage succeeded, by its state file.

    A log reaches the submitter pod seconds later, and the operator may see the end of a short stage before that of
    the stage before it.
    """
    [head] = release.namespace.items("pods --selector=ray.io/node-type=head")
    volume = "data" if stage == "convert" else "runs"
    script = f"cat /mnt/{volume}/{release.name}/*/stages/{stage}.json"
    arguments = (head["metadata"]["name"], "--container", "ray-head", "--", "sh", "-c", script)
    state = json.loads(release.namespace.kubectl("exec", *arguments))
    assert state["state"] == "succeeded"
    return float(state["since"])


def test_a_worker_pod_that_is_lost_in_mid_training_costs_a_retry_and_fails_no_stage(release: Release) -> None:
    retrying = [seen["train"] for seen in release.after_loss if seen["train"]["state"] == "retrying"]
    assert retrying, [seen["train"] for seen in release.after_loss]
    assert any(f"pod {release.lost_pod} has left" in stage["note"] for stage in retrying), retrying
    assert all(stage["note"].startswith("attempt 2 after step 10") for stage in retrying), retrying
    later = {seen[stage]["state"] for seen in release.after_loss for stage in ("evaluate", "export")}
    assert later == {"waiting"}, "they wait on, and fail only when training has given up"


def test_how_long_a_cold_start_takes_is_seen(release: Release) -> None:
    converted, first = done_at(release, "convert"), when(release, "train", r"step 1/\d+")
    ready = release.watcher.first(lambda seen: "Ready" in seen.gpu_pods.values())
    assert ready is not None
    PHASES.append(("pairs converted, GPUs asked for -> worker ready", ready - converted))
    PHASES.append(("pairs converted, GPUs asked for -> first training step", first - converted))
    PHASES.append(("helm install -> first training step", first - release.installed))
    assert converted < ready < first


def test_no_pod_holds_a_gpu_while_pairs_are_converted(release: Release) -> None:
    looks = release.watcher.during(release.installed, done_at(release, "convert"))
    assert len(looks) >= 3
    assert not any(seen.gpu_pods for seen in looks)


def test_no_pod_holds_a_gpu_after_the_last_stage(release: Release) -> None:
    began = time.time()
    release.wait_for(lambda: not gpu_pods(release.namespace), 180, "the GPU workers are gone")
    PHASES.append(("last stage done -> GPUs given back", time.time() - began))
    assert gpu_pods(release.namespace) == {}


# Its start waits more than it computes, so the RayJob of test_standalone.py runs beside the following tests.
@pytest.mark.usefixtures("alone")
def test_the_judge_got_better_and_its_report_and_card_are_fetched(release: Release, tmp_path: Path) -> None:
    out = tmp_path / "judge"
    pairwise_rm("fetch", release.name, "--namespace", release.namespace.name, "--out", str(out))
    report = next(out.rglob("report.html")).read_text()
    after = json.loads(next(path for path in out.rglob("metrics.json") if path.parent.name == "after").read_text())
    before = json.loads(next(path for path in out.rglob("metrics.json") if path.parent.name == "before").read_text())
    assert before["accuracy"]["value"] < 0.65
    assert after["accuracy"]["value"] >= 0.90
    card = next(path for path in out.rglob("README.md")).read_text()
    assert f"{after['accuracy']['value']:.3f}" in card
    assert "<html" in report


def test_status_shows_every_stage_as_done(release: Release) -> None:
    shown = pairwise_rm("status", release.name, "--namespace", release.namespace.name)
    assert all(stage in shown for stage in STAGES), shown
    assert shown.lower().count("succeeded") >= 4, shown
    told = json.loads(pairwise_rm("status", release.name, "--namespace", release.namespace.name, "--json"))
    notes = {stage["stage"]: stage["note"] for stage in told["stages"]}
    assert re.match(r"accuracy 0\.\d+ \[", notes["evaluate"]), notes


def test_waiting_for_a_stage_that_is_done_ends_well(release: Release) -> None:
    where = ("--namespace", release.namespace.name, "--timeout", "30s")
    said = pairwise_rm("wait", release.name, "--for", "export", *where)
    assert re.search(r"export .*succeeded", said), said


def test_the_dashboard_answers_with_the_token_alone(release: Release) -> None:
    said = release.namespace.helm("test", release.name, "--logs")
    assert re.search(r"Phase:\s+Succeeded", said), said


def test_the_cluster_holds_what_was_rendered(release: Release) -> None:
    # Rendered with access to the cluster: the chart keeps the replicas that the autoscaler has set.
    arguments = (*release.arguments, "--no-hooks", "--dry-run=server")
    rendered = release.namespace.helm("template", release.name, str(CHART), *arguments)
    difference = release.namespace.kubectl("diff", "-f", "-", stdin=rendered, code=None)
    assert difference == ""


def test_a_release_that_is_done_is_healthy_to_argo_cd_and_current_to_flux(release: Release) -> None:
    objects = release.namespace.items("rayjobs.ray.io") + release.namespace.items("rayclusters.ray.io")
    seen = {item["metadata"]["name"]: (argo(item["kind"], item)[0], flux(item["kind"], item)) for item in objects}
    assert len(seen) >= 5
    assert set(seen.values()) == {("Healthy", "Current")}, seen


def test_upgrading_with_the_same_values_starts_nothing(release: Release) -> None:
    before = {stage: job["metadata"]["uid"] for stage, job in release.namespace.jobs().items()}
    release.namespace.helm("upgrade", release.name, str(CHART), *release.arguments)
    time.sleep(10)
    jobs = release.namespace.jobs()
    assert {stage: job["metadata"]["uid"] for stage, job in jobs.items()} == before
    assert all(succeeded(job) for job in jobs.values())
    assert not gpu_pods(release.namespace)


def test_a_changed_value_of_evaluation_runs_just_that_again(release: Release) -> None:
    before = {stage: job["metadata"]["uid"] for stage, job in release.namespace.jobs().items()}
    began = time.time()
    changed = (*release.arguments, "--set", "recipe.overrides.evaluate.bootstrap=500")
    release.namespace.helm("upgrade", release.name, str(CHART), *changed)
    after = {stage: job["metadata"]["uid"] for stage, job in release.namespace.jobs().items()}
    assert {stage for stage in STAGES if before[stage] != after[stage]} == {"evaluate"}
    release.wait_for(
        lambda: state_of(release.namespace.jobs()["evaluate"]) in ("Complete", "Failed"), 600, "evaluated again"
    )
    assert succeeded(release.namespace.jobs()["evaluate"]), release.namespace.describe()
    PHASES.append(("helm upgrade with another evaluate value -> evaluated", time.time() - began))


KILL = r"""
import os, pathlib, signal
for process in pathlib.Path("/proc").glob("[0-9]*"):
    try:
        words = (process / "cmdline").read_bytes()
    except OSError:
        continue  # ended since it was listed, as a probe's shell does
    if b"stage\0evaluate\0" in words:
        os.kill(int(process.name), signal.SIGKILL)
        print("killed")
"""


def test_a_stage_that_is_killed_gives_its_gpus_back(release: Release) -> None:
    release.wait_for(lambda: not gpu_pods(release.namespace), 180, "the GPU workers of the stage before are gone")
    changed = (*release.arguments, "--set", "recipe.overrides.evaluate.bootstrap=501")
    release.namespace.helm("upgrade", release.name, str(CHART), *changed)
    release.wait_for(lambda: "Ready" in gpu_pods(release.namespace).values(), 300, "a GPU worker is there")
    [head] = release.namespace.items("pods --selector=ray.io/node-type=head")
    where = (head["metadata"]["name"], "--container", "ray-head")
    assert release.namespace.kubectl("exec", *where, "--", "python", "-c", KILL) == "killed\n"
    killed = time.time()
    release.wait_for(lambda: state_of(release.namespace.jobs()["evaluate"]) == "Failed", 180, "its RayJob has failed")
    release.wait_for(lambda: not gpu_pods(release.namespace), 180, "the GPU workers are gone")
    PHASES.append(("a stage is killed -> its GPUs given back", time.time() - killed))
    assert gpu_pods(release.namespace) == {}


def test_a_second_release_whose_pairs_are_missing_fails_at_once_in_every_stage_and_says_why(release: Release) -> None:
    began = time.time()
    claims = [f"storage.{claim}.existingClaim={release.name}-{claim}" for claim in ("data", "runs", "cache")]
    wrong = ["recipe.overrides.data.configs.path=/mnt/data/no.jsonl"]
    values = [word for value in (*claims, *wrong) for word in ("--set", value)]
    release.namespace.helm("install", "second", str(CHART), *release.arguments, *values)

    def jobs() -> list[dict[str, Any]]:
        labels = "app.kubernetes.io/instance=second"
        return list(json.loads(release.namespace.kubectl("get", "rayjobs", "-l", labels, "-o", "json"))["items"])

    release.wait_for(lambda: all(state_of(job) == "Failed" for job in jobs()), 300, "every stage failed")
    assert len(jobs()) == len(STAGES)
    where = ("--namespace", release.namespace.name, "--timeout", "30s")
    said = run(sys.executable, "-m", "pairwise_rm", "wait", "second", "--for", "export", *where, code=1, errors=True)
    assert "failed" in said
    for waiting in ("evaluate", "export"):  # both wait for train, and name what failed down to the cause
        selector = f"app.kubernetes.io/instance=second,pairwise-rm.io/stage={waiting}"
        log = release.namespace.kubectl("logs", "--selector", selector, "--tail", "200")
        assert all(f"{stage} failed, so there is nothing to do here" in log for stage in ("convert", "train"))
        assert "/mnt/data/no.jsonl does not exist" in log
    PHASES.append(("helm install with pairs that are missing -> all failed", time.time() - began))
    release.namespace.helm("uninstall", "second", "--wait")


def test_uninstalling_leaves_nothing_but_the_volumes(release: Release) -> None:
    release.namespace.helm("uninstall", release.name, "--wait")
    kinds = run("kubectl", "api-resources", "--verbs=list", "--namespaced", "-o", "name").split()
    ours = [kind for kind in kinds if not kind.startswith(("events", "podmetrics"))]

    def left() -> list[str]:
        found = release.namespace.kubectl("get", ",".join(ours), "-o", "name", code=None).split()
        own = ("serviceaccount/default", "configmap/kube-root-ca.crt")
        return sorted(name for name in found if name not in own)

    release.wait_for(lambda: all(name.startswith("persistentvolumeclaim/") for name in left()), 120, "all is gone")
    assert left() == [f"persistentvolumeclaim/{release.name}-{claim}" for claim in ("cache", "data", "runs")]


@pytest.fixture(scope="module", autouse=True)
def helm_is_there() -> None:
    tool("helm")
