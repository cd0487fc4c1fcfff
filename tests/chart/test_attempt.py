"""`attempt` makes new RayJobs of stages that are not done; where Helm sees the cluster, it leaves done ones alone."""

from __future__ import annotations

import copy
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.chart.api_server import api_server
from tests.chart.rendering import STAGES, Object, Values, helm, jobs, objects, text
from tests.chart.test_cluster_checks import SERVICE, STORAGE, UNCHECKED
from tests.paths import CHART

Answer = subprocess.CompletedProcess[str]
KIND = CHART / "values-kind.yaml"
# What Helm takes over an object by.
HELMS = {"meta.helm.sh/release-name": "judge", "meta.helm.sh/release-namespace": "default"}
EPHEMERAL: Values = {"mode": "ephemeral"}


def rendered(values: Values) -> dict[str, Object]:
    """RayJobs by stage, without a cluster, as Argo CD renders them."""
    return jobs(objects(text((KIND,), {**UNCHECKED, **values})))


def name(job: Object) -> str:
    return str(job["metadata"]["name"])


def there(job: Object, deployment: str, ray: str, *, made: int = 1, retry: str = "", renamed: str = "") -> Object:
    """A rendered RayJob as the cluster has it; `retry`: as `pairwise-rm retry` made it."""
    item = copy.deepcopy(job)
    item["metadata"] |= {"namespace": "default", "creationTimestamp": f"2026-01-01T00:00:0{made}Z"}
    item["metadata"]["annotations"] |= HELMS
    item["status"] = {"jobDeploymentStatus": deployment, "jobStatus": ray}
    if retry:
        item["metadata"]["name"] = renamed or f"{name(job)[:-8]}{retry}"
        item["metadata"]["annotations"]["pairwise-rm.io/retry"] = retry
        item["spec"]["entrypoint"] = re.sub(r"(--digest \S+)", rf"\1 --attempt {retry}", item["spec"]["entrypoint"])
    return item


def done(job: Object, **more: Any) -> Object:
    return there(job, "Complete", "SUCCEEDED", **more)


def failed(job: Object, **more: Any) -> Object:
    return there(job, "Failed", "FAILED", **more)


def running(job: Object, **more: Any) -> Object:
    return there(job, "Running", "RUNNING", **more)


@pytest.fixture
def live(tmp_path: Path) -> Callable[..., Answer]:
    """`helm VERB --dry-run=server` of the release on a cluster with these objects."""

    def run(values: Values, *items: Object, verb: str = "template") -> Answer:
        with api_server([STORAGE, SERVICE, *items], tmp_path) as kubeconfig:
            options = ["--dry-run=server", "--disable-openapi-validation", f"--kubeconfig={kubeconfig}"]
            command = [helm(), verb, "judge", str(CHART), *options, f"--values={KIND}", "--values=-"]
            given = yaml.safe_dump({**UNCHECKED, **values})
            return subprocess.run(command, capture_output=True, text=True, input=given, check=False, timeout=60)

    return run


def upgraded(live: Callable[..., Answer], values: Values, *items: Object) -> dict[str, Object]:
    answer = live(values, *items)
    assert answer.returncode == 0, answer.stderr
    return jobs(objects(answer.stdout))


# ---- without a look at the cluster ---------------------------------------------------------------


@pytest.mark.parametrize("mode", [{}, EPHEMERAL])
def test_another_attempt_is_another_rayjob_of_the_same_content_in_the_same_folder(mode: Values) -> None:
    first, second, third = (rendered({**mode, **given}) for given in ({}, {"attempt": "2"}, {"attempt": "after lunch"}))
    for stage in STAGES:
        assert len({name(run[stage]) for run in (first, second, third)}) == 3
        for annotation in ("content", "digest", "run-folder"):
            key = f"pairwise-rm.io/{annotation}"
            assert len({run[stage]["metadata"]["annotations"][key] for run in (first, second, third)}) == 1
        assert "pairwise-rm.io/attempt" not in first[stage]["metadata"]["annotations"]
        assert second[stage]["metadata"]["annotations"]["pairwise-rm.io/attempt"] == "2"
        assert "--attempt" not in first[stage]["spec"]["entrypoint"]


def test_all_stages_of_an_attempt_know_it_by_the_same_digits_whatever_its_text() -> None:
    run = rendered({"attempt": 'the disk\'s "full"; $(echo)'})
    found = {re.findall(r"--attempt (\S+)", run[stage]["spec"]["entrypoint"])[0] for stage in STAGES}
    assert len(found) == 1
    assert re.fullmatch(r"[0-9a-f]{8}", found.pop())


def test_stages_in_one_rayjob_know_the_attempt_too() -> None:
    stages: Values = {stage: {"enabled": False} for stage in STAGES[:3]}
    run = rendered({"attempt": "2", "stages": {**stages, "export": {"first": list(STAGES[:3])}}})
    assert len(re.findall(r"--attempt [0-9a-f]{8}\b", run["export"]["spec"]["entrypoint"])) == 4


@pytest.mark.parametrize("number", [2, 20261128])
def test_a_number_is_the_same_attempt_with_and_without_quotes(number: int) -> None:
    one, two = rendered({"attempt": number}), rendered({"attempt": str(number)})
    assert [name(job) for job in one.values()] == [name(job) for job in two.values()]
    given = subprocess.run(
        [helm(), "template", "judge", str(CHART), f"--values={KIND}", "--set", f"attempt={number}"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert {name(job) for job in jobs(objects(given.stdout)).values()} == {name(job) for job in one.values()}


# ---- with a look at the cluster ------------------------------------------------------------------


def test_another_attempt_leaves_done_stages_alone_and_makes_the_others_anew(live: Callable[..., Answer]) -> None:
    before = rendered({})
    cluster = [done(before["convert"]), *(failed(before[stage]) for stage in STAGES[1:])]
    after = upgraded(live, {"attempt": 2}, *cluster)
    assert after["convert"] == before["convert"]
    for stage in STAGES[1:]:
        assert name(after[stage]) == name(rendered({"attempt": "2"})[stage])


def test_the_same_attempt_again_makes_nothing(live: Callable[..., Answer]) -> None:
    before = rendered({"attempt": "2"})
    assert upgraded(live, {"attempt": "2"}, *(failed(job) for job in before.values())) == before


def test_an_attempt_that_is_taken_back_leaves_what_it_has_done(live: Callable[..., Answer]) -> None:
    second = rendered({"attempt": "2"})
    after = upgraded(live, {}, *(done(job) for job in second.values()))
    assert after == second


def test_another_attempt_that_changes_what_a_stage_does_runs_it_again(live: Callable[..., Answer]) -> None:
    before = rendered({})
    changed: Values = {"recipe": {"overrides": {"evaluate": {"bootstrap": 500}}}}
    after = upgraded(live, changed, *(done(job) for job in before.values()))
    assert [stage for stage in STAGES if name(after[stage]) != name(before[stage])] == ["evaluate"]


def test_a_done_stage_of_an_earlier_chart_is_known_by_its_name(live: Callable[..., Answer]) -> None:
    before = rendered({})
    old = done(before["convert"])
    del old["metadata"]["annotations"]["pairwise-rm.io/content"]
    assert name(upgraded(live, {"attempt": "2"}, old)["convert"]) == name(before["convert"])


def test_rayjobs_of_other_releases_and_stages_do_not_count(live: Callable[..., Answer]) -> None:
    before = rendered({})
    other = done(before["convert"])
    other["metadata"]["labels"]["app.kubernetes.io/instance"] = "other"
    assert name(upgraded(live, {"attempt": "2"}, other)["convert"]) != name(before["convert"])


def test_a_cluster_of_its_own_that_is_done_keeps_its_recipe_s_config_map(live: Callable[..., Answer]) -> None:
    before = rendered(EPHEMERAL)
    answer = live({**EPHEMERAL, "attempt": "2"}, done(before["convert"]))
    maps = {item["metadata"]["name"] for item in objects(answer.stdout) if item["kind"] == "ConfigMap"}
    assert maps == {name(job) for job in jobs(objects(answer.stdout)).values()}
    assert name(before["convert"]) in maps


# ---- after `pairwise-rm retry` -------------------------------------------------------------------


@pytest.mark.parametrize("ended", [running, failed, done])
def test_an_upgrade_with_the_same_values_takes_over_what_retry_made(
    live: Callable[..., Answer], ended: Callable[..., Object]
) -> None:
    before = rendered({})
    made = ended(before["train"], made=2, retry="0a1b2c3d")
    after = upgraded(live, {}, failed(before["train"]), made)["train"]
    assert name(after) == name(made)
    assert {**after["metadata"]["annotations"], **HELMS} == made["metadata"]["annotations"]
    assert after["spec"] == made["spec"]


def test_another_attempt_keeps_what_retry_made_while_that_runs_and_replaces_it_when_it_has_failed(
    live: Callable[..., Answer],
) -> None:
    before = rendered({})
    for made, kept in ((running, True), (failed, False)):
        retried = made(before["train"], made=2, retry="0a1b2c3d")
        after = upgraded(live, {"attempt": "2"}, failed(before["train"]), retried)["train"]
        assert (name(after) == name(retried)) is kept


def test_other_values_are_refused_while_a_rayjob_of_retry_runs(live: Callable[..., Answer]) -> None:
    made = running(rendered({})["train"], retry="0a1b2c3d")
    said = re.sub(r"\s+", " ", live({"head": {"resources": {"limits": {"memory": "6Gi"}}}}, made).stderr)
    assert (
        f"stages.train: RayJob {name(made)}, of `pairwise-rm retry`, is not done, and these values make another one "
        f"beside it; wait for it, or delete it: kubectl delete rayjob -n default {name(made)}"
    ) in said


# ---- notes ---------------------------------------------------------------------------------------


def test_the_notes_name_the_command_and_what_has_failed(live: Callable[..., Answer]) -> None:
    before = rendered({"attempt": "4"})
    said = live({"attempt": "4"}, failed(before["train"]), failed(before["export"]), verb="install").stdout
    assert (
        "FAILED before, and not started again by this upgrade, since its values are the same: train, export\n\n"
        "To try again, once the cause is mended; it goes on where it ended:\n"
        "  helm upgrade judge CHART -n default --reuse-values --set attempt=5\n"
    ) in said


def test_the_notes_of_an_upgrade_that_starts_the_failed_stages_call_none_failed(live: Callable[..., Answer]) -> None:
    said = live({"attempt": "2"}, failed(rendered({})["train"]), verb="install").stdout
    assert "FAILED" not in said
    assert "To try a stage again that has failed" in said
