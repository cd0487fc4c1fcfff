"""The chart's NetworkPolicies under an enforcer: which pods reach which, which hold a token of the Kubernetes API, and
with which rights.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest
import yaml

from tests.chart.rendering import over
from tests.e2e.kube import ENDED, Namespace, new_namespace, pairwise_rm, state_of, succeeded, wait_for
from tests.e2e.phases import PHASES
from tests.e2e_gitops.pairs import VALUES, put_pairs
from tests.e2e_gitops.reach import PAUSE_SECONDS, Row, name_of, ray_pod, rows, table
from tests.paths import CHART

RELEASE = "judge"
ONE_WORKER = over(VALUES, {"poolDefaults": {"minReplicas": 1}})
TOKEN = "/var/run/secrets/kubernetes.io/serviceaccount/token"


@pytest.fixture(scope="module")
def namespace() -> Iterator[Namespace]:
    with new_namespace("e2e-policies") as this:
        yield this


@pytest.fixture(scope="module")
def release(namespace: Namespace, tmp_path_factory: pytest.TempPathFactory) -> Namespace:
    """A release that has converted its pairs, with a head and a worker."""
    values = tmp_path_factory.mktemp("values") / "values.yaml"
    values.write_text(yaml.safe_dump(ONE_WORKER))
    put_pairs(namespace)
    namespace.helm("install", RELEASE, str(CHART), f"--values={CHART / 'values-kind.yaml'}", f"--values={values}")
    ended = ("Complete", "Failed")
    wait_for(lambda: state_of(namespace.jobs()["convert"]) in ended, 300, "convert has ended", namespace.describe)
    worker = "pod --selector=ray.io/node-type=worker"
    namespace.kubectl("wait", "--for=condition=Ready", "--timeout=120s", *worker.split())
    return namespace


@pytest.fixture(scope="module")
def reached(release: Namespace) -> list[Row]:
    image = ray_pod(release, RELEASE, "head")["spec"]["containers"][0]["image"]
    found = rows(release, RELEASE, image)
    if folder := os.environ.get("E2E_SHOW"):
        (Path(folder) / "reach.txt").write_text(table(found) + "\n")
    return found


def test_a_stage_runs_under_enforced_policies(release: Namespace) -> None:
    assert succeeded(release.jobs()["convert"]), release.describe()


def test_the_enforcer_is_there(reached: list[Row]) -> None:
    # Without one a stranger would reach what the head's own probes use.
    assert ("pod of another namespace", "head agent", "52365", "open") not in reached, "no NetworkPolicy is enforced"


def test_nobody_outside_of_the_release_reaches_a_port_of_it(reached: list[Row]) -> None:
    strangers = ("pod of another namespace", "the same, with the operator's labels", "other pod of the namespace")
    of_strangers = [row for row in reached if row[0] in strangers]
    assert len(of_strangers) == 30
    assert [row for row in of_strangers if row[3] == "open"] == []


def test_the_release_s_pods_reach_names_and_ray_and_the_head_alone_the_kubernetes_api(reached: list[Row]) -> None:
    ours = {"head", "worker", "pod with the submitters' labels"}
    opened = {(row[0], row[1]) for row in reached if row[0] in ours and row[3] == "open"}
    # Ray's client, on 10001, is off: there is none even for them.
    all_reach = {(pod, to) for pod in ours for to in ("a name of the cluster", "head dashboard", "head GCS")}
    assert opened == all_reach | {("head", "Kubernetes API, its service"), ("head", "Kubernetes API, its address")}


@pytest.mark.parametrize("attempt", range(4))
def test_helm_test_passes_every_time(release: Namespace, attempt: int) -> None:
    said = release.helm("test", RELEASE, "--logs")
    assert re.search(r"Phase:\s+Succeeded", said), said


def test_only_the_autoscaler_s_container_holds_a_token(release: Namespace) -> None:
    held = {}
    for pod in release.items("pods"):
        if pod["status"]["phase"] == "Running":
            for container in pod["spec"]["containers"]:
                where = (name_of(pod), "--container", container["name"], "--")
                said = release.kubectl("exec", *where, "sh", "-c", f"test -r {TOKEN} && echo yes || echo no")
                held[container["name"]] = said.strip()
    assert held == {"ray-head": "no", "autoscaler": "yes", "ray-worker": "no"}


def test_the_autoscaler_s_account_may_do_what_the_autoscaler_does_and_the_other_nothing(release: Namespace) -> None:
    everyone = may(release, release.name, "nobody")  # no such account: what every one of the namespace may
    of_role = {("pods", "get list watch patch"), ("pods/resize", "patch"), ("rayclusters.ray.io", "get patch")}
    assert may(release, release.name, f"{RELEASE}-head") - everyone == of_role
    assert may(release, release.name, RELEASE) == everyone
    accounts = {pod["spec"]["serviceAccountName"] for pod in release.items("pods")}
    assert accounts <= {RELEASE, f"{RELEASE}-head"}


@pytest.mark.parametrize("elsewhere", ["default", "kube-system", "kuberay-operator"])
def test_no_account_of_a_release_may_do_more_than_any_in_another_namespace(release: Namespace, elsewhere: str) -> None:
    everyone = may(release, elsewhere, "nobody")
    assert may(release, elsewhere, f"{RELEASE}-head") == everyone
    assert may(release, elsewhere, RELEASE) == everyone


def may(release: Namespace, where: str, account: str) -> set[tuple[str, str]]:
    """(resource or URLs, with the names that it is limited to; verbs) of a service account of the release."""
    user = f"system:serviceaccount:{release.name}:{account}"
    said = Namespace(where).kubectl("auth", "can-i", "--list", "--no-headers", f"--as={user}")
    found = set()
    for line in said.splitlines():
        resource, urls, names, verbs = (cell.strip("[]") for cell in re.split(r"\s{2,}", line.rstrip()))
        found.add((f"{resource}{urls} {names}".rstrip(), verbs))
    return found


@pytest.mark.long
def test_status_says_that_the_operator_cannot_reach_the_head(release: Namespace, tmp_path: Path) -> None:
    # Another split, so that a stage starts, under a rule that lets in an operator of some other namespace.
    def upgrade(namespace: str) -> None:
        values = tmp_path / "values.yaml"
        changed = {
            "recipe": {"inline": {"data": {"export": {"split_seed": 7}}}},
            "networkPolicy": {"ingress": {"operator": {"namespace": namespace}}},
            "checks": {"operator": False},
        }
        values.write_text(yaml.safe_dump(changed))
        release.helm("upgrade", RELEASE, str(CHART), "--reuse-values", f"--values={values}")

    def said() -> str:
        return " ".join(pairwise_rm("status", RELEASE, "--namespace", release.name).split())

    upgrade("elsewhere")
    wait_for(lambda: "cannot reach the dashboard" in said(), 240, "status names the cause", said)
    assert "networkPolicy.ingress.operator" in said()
    PHASES.append(("the operator is kept out -> status says so", time.time() - created(release)))
    # Allowed again, the operator asks at the next event of the RayJob, and learns that the stage is done.
    upgrade("kuberay-operator")
    time.sleep(PAUSE_SECONDS)
    release.kubectl("annotate", "rayjob", release.jobs()["convert"]["metadata"]["name"], "asked=again")
    wait_for(lambda: state_of(release.jobs()["convert"]) in ENDED, 120, "the stage's end is seen", release.describe)
    assert succeeded(release.jobs()["convert"]), release.describe()


def created(namespace: Namespace) -> float:
    text = namespace.jobs()["convert"]["metadata"]["creationTimestamp"]
    return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()
