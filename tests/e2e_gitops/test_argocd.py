"""Argo CD and `manifests/gitops/argocd`: a release as Git has it, through commits, changed values and deletion.

The tests of this file run in order and share one Application. It is the manifest's, except for the lines marked `#
change` there: the Git repository, the kind preset, the convert stage alone.
"""

from __future__ import annotations

import gzip
import json
import os
import shutil
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.chart.gitops_health import GITOPS, load
from tests.chart.rendering import over
from tests.e2e.kube import ENDED, Namespace, gpu_pods, pairwise_rm, run, state_of, succeeded, wait_for
from tests.e2e.phases import PHASES
from tests.e2e_gitops.conftest import GitServer, Repository
from tests.e2e_gitops.pairs import CLAIM, VALUES, put_pairs
from tests.paths import CHART

MANIFEST = GITOPS / "argocd" / "application.yaml"
HEALTH = GITOPS / "argocd" / "health.yaml"
NAMESPACE = "pairwise-rm-e2e-argo"
RECIPE: dict[str, Any] = {"name": ""}
REFRESH = "argocd.argoproj.io/refresh"
Object = dict[str, Any]


def line_of(text: str, path: list[str]) -> str:
    """The line of a YAML file on which the key at `path` stands."""
    node, number = yaml.compose(text), -1
    for wanted in path:
        assert isinstance(node, yaml.MappingNode)
        [(key, node)] = [(key, value) for key, value in node.value if key.value == wanted]
        number = key.start_mark.line
    return text.splitlines()[number]


def changed(**values: Any) -> Object:
    """The manifest with other values at keys that are marked as a user's to change; `a__b` is key b below a."""
    text = MANIFEST.read_text()
    manifest: Object = yaml.safe_load(text)
    for name, value in values.items():
        path = ["spec", *name.split("__")]
        assert "# change" in line_of(text, path), f"{MANIFEST.name}: {'.'.join(path)} is not marked `# change`"
        here = manifest
        for part in path[:-1]:
            here = here[part]
        here[path[-1]] = value
    return manifest


def redis(*words: str) -> bytes:
    """The first string that Argo CD's Redis answers, as it runs beside the local cluster."""
    with socket.create_connection(("127.0.0.1", 16379)) as connection, connection.makefile("rb") as answer:
        connection.sendall(f"{' '.join(words)}\r\n".encode())
        head = answer.readline()
        if head.startswith(b"*"):
            head = answer.readline()
        return answer.read(int(head[1:]))


def shown(name: str) -> list[Object]:
    """The objects that Argo CD's UI shows of an Application: since Argo CD 3 their messages are only in its cache."""
    key = redis("KEYS", f"app|resources-tree|{name}|*").decode()
    nodes: list[Object] = json.loads(gzip.decompress(redis("GET", key)))["nodes"]
    return nodes


@dataclass(frozen=True)
class Application:
    """The manifest's Application, and Argo CD's status of it."""

    namespace: Namespace
    repository: Repository
    argo: Namespace
    name: str

    def apply(self, recipe: Object, **values: Any) -> None:
        """Applies it as a user who changes the marked lines."""
        manifest = changed(
            source__repoURL=self.repository.url,
            source__targetRevision="main",
            source__helm__valueFiles=["values-kind.yaml"],
            source__helm__valuesObject=over(VALUES, {"recipe": recipe, **values}),
            destination__namespace=self.namespace.name,
        )
        self.argo.kubectl("apply", "--server-side", "--filename", "-", stdin=yaml.safe_dump(manifest))
        source = manifest["spec"]["source"]
        self.wait_for(lambda: self.compared().get("source") == source, 120, "Argo CD compares with the new values")

    def live(self) -> Object:
        found: Object = json.loads(self.argo.kubectl("get", "application", self.name, "--output", "json"))
        return found

    def status(self) -> Object:
        found: Object = self.live().get("status", {})
        return found

    def compared(self) -> Object:
        found: Object = self.status().get("sync", {}).get("comparedTo", {})
        return found

    def state(self) -> tuple[str, str]:
        """Its sync status and health."""
        status = self.status()
        return status.get("sync", {}).get("status", ""), status.get("health", {}).get("status", "")

    def syncs(self) -> list[int]:
        return [entry["id"] for entry in self.status().get("history", [])]

    def health(self, kind: str) -> Object:
        """Argo CD's health of the one object of a kind."""
        [found] = [node["health"] for node in shown(self.name) if node["kind"] == kind and "health" in node]
        return dict(found)

    def refresh(self) -> None:
        """Makes Argo CD fetch, render and compare again, without its cache."""
        before = self.status().get("reconciledAt")
        time.sleep(1)  # timestamps are whole seconds
        self.argo.kubectl("annotate", "application", self.name, f"{REFRESH}=hard", "--overwrite")

        def refreshed() -> bool:
            live = self.live()
            asked = REFRESH in live["metadata"].get("annotations", {})
            return not asked and live["status"].get("reconciledAt") != before

        self.wait_for(refreshed, 120, "refreshed")

    def wait_until(self, sync: str, health: str, seconds: float) -> float:
        return self.wait_for(lambda: self.state() == (sync, health), seconds, f"{sync} and {health}")

    def wait_until_replaced(self, former: str) -> None:
        """Waits until that RayJob is gone and one of another name exists."""

        def replaced() -> bool:
            names = [job["metadata"]["name"] for job in self.namespace.items("rayjobs.ray.io")]
            return bool(names) and former not in names

        self.wait_for(replaced, 120, f"another RayJob than {former}")

    def wait_for(self, done: Any, seconds: float, what: str) -> float:
        return wait_for(done, seconds, what, self.describe)

    def describe(self) -> str:
        said = self.argo.kubectl("get", "application", self.name, "--output", "yaml", code=None)
        return f"{said}\n{self.namespace.describe()}"

    def job(self) -> Object:
        """The only RayJob."""
        jobs = self.namespace.items("rayjobs.ray.io")
        assert len(jobs) == 1, [job["metadata"]["name"] for job in jobs]
        return jobs[0]


def uids(namespace: Namespace, *kinds: str) -> dict[str, str]:
    found = namespace.items(",".join(kinds))
    return {f"{item['kind']} {item['metadata']['name']}": item["metadata"]["uid"] for item in found}


def started(namespace: Namespace) -> dict[str, str]:
    """The uids of all RayJobs, clusters and pods: if they are equal, nothing was started."""
    return uids(namespace, "rayjobs.ray.io", "rayclusters.ray.io", "jobs.batch", "pods")


def show(application: Application, moment: str) -> None:
    """The Application as a person sees it, into the folder that E2E_SHOW names."""
    if folder := os.environ.get("E2E_SHOW"):
        Path(folder).mkdir(parents=True, exist_ok=True)
        said = application.argo.kubectl("get", "application", application.name, "--output", "yaml")
        (Path(folder) / f"argocd-{moment}.yaml").write_text(said)


@pytest.fixture(scope="module")
def application(git: GitServer) -> Iterator[Application]:
    argo = Namespace("argocd")
    if "applications.argoproj.io" not in run("kubectl", "get", "crds", "--output", "name"):
        pytest.skip("no Argo CD here")
    name = load("argocd/application.yaml")["metadata"]["name"]
    namespace = Namespace(NAMESPACE)
    repository = git.repository("argo")
    shutil.copytree(CHART, repository.folder / CHART.relative_to(CHART.parents[1]))
    repository.commit("The chart")
    remove(argo, name)
    namespace.delete()
    run("kubectl", "create", "namespace", namespace.name)  # Argo CD finds it, and gives it the labels of the manifest
    put_pairs(namespace)
    argo.kubectl("apply", "--server-side", "--filename", str(HEALTH))
    yield Application(namespace, repository, argo, name)
    remove(argo, name)
    namespace.delete()


def kinds_with_health(application: Application) -> set[str]:
    return {node["kind"] for node in shown(application.name) if "health" in node}


def remove(argo: Namespace, name: str) -> None:
    argo.kubectl("delete", "application", name, "--ignore-not-found", "--timeout=120s")


def test_it_is_progressing_while_a_stage_runs(application: Application) -> None:
    application.apply(RECIPE)
    namespace = application.namespace
    application.wait_until("Synced", "Progressing", 120)
    application.wait_for(lambda: "RayJob" in kinds_with_health(application), 120, "the stage's health")
    assert application.health("RayJob")["status"] == "Progressing"
    labels = json.loads(run("kubectl", "get", "namespace", namespace.name, "--output", "json"))["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"
    show(application, "1-running")


def test_it_is_synced_and_healthy_when_all_stages_are_done(application: Application) -> None:
    PHASES.append(("Argo CD: stage runs -> Healthy", application.wait_until("Synced", "Healthy", 900)))
    assert succeeded(application.job()), application.namespace.describe()
    assert len(application.syncs()) == 1, "Argo CD has synced again while the stage ran"
    show(application, "2-done")


def test_defaults_and_what_operators_write_are_no_drift(application: Application) -> None:
    before, syncs = started(application.namespace), application.syncs()
    application.refresh()
    assert application.state() == ("Synced", "Healthy"), application.describe()
    assert application.syncs() == syncs
    assert started(application.namespace) == before


def test_a_harmless_commit_starts_nothing(application: Application) -> None:
    before = started(application.namespace)
    readme = application.repository.folder / CHART.relative_to(CHART.parents[1]) / "README.md"
    readme.write_text(f"{readme.read_text()}\nA word more.\n")
    revision = application.repository.commit("A word more")
    application.refresh()
    application.wait_for(lambda: application.status()["sync"]["revision"] == revision, 120, "the commit is seen")
    application.wait_until("Synced", "Healthy", 120)
    assert started(application.namespace) == before
    show(application, "3-harmless-commit")


@pytest.mark.long
def test_a_restart_of_the_operator_starts_nothing(application: Application) -> None:
    before, syncs = started(application.namespace), application.syncs()
    operator = Namespace("kuberay-operator")
    operator.kubectl("rollout", "restart", "deployment", "kuberay-operator")
    operator.kubectl("rollout", "status", "deployment", "kuberay-operator", "--timeout=120s")
    time.sleep(15)  # it reconciles every object when it starts
    application.refresh()
    assert application.state() == ("Synced", "Healthy"), application.describe()
    assert application.syncs() == syncs
    assert started(application.namespace) == before


ASK = "import ray; from ray.autoscaler.sdk import request_resources as ask; ray.init('auto'); ask(bundles={})"


def ask_for_gpus(namespace: Namespace, bundles: list[Object]) -> None:
    """Requests GPUs from Ray's autoscaler as a stage does."""
    [head] = namespace.items("pods --selector=ray.io/node-type=head")
    where = (head["metadata"]["name"], "--container", "ray-head")
    namespace.kubectl("exec", *where, "--", "python", "-c", ASK.format(bundles))


def replicas(namespace: Namespace) -> int:
    [cluster] = namespace.items("rayclusters.ray.io")
    return int(cluster["spec"]["workerGroupSpecs"][0]["replicas"])


@pytest.mark.long
def test_workers_that_the_autoscaler_brings_are_no_drift_and_outlive_a_sync(application: Application) -> None:
    namespace, syncs = application.namespace, application.syncs()
    ask_for_gpus(namespace, [{"GPU": 1}])
    application.wait_for(
        lambda: replicas(namespace) == 1 and len(gpu_pods(namespace)) == 1, 120, "a worker is asked for"
    )
    workers = gpu_pods(namespace).keys()
    application.refresh()
    assert application.state()[0] == "Synced", application.describe()
    assert application.syncs() == syncs
    application.apply(RECIPE, podDisruptionBudget={"enabled": False})
    application.wait_for(lambda: not namespace.items("poddisruptionbudgets"), 120, "the budget is pruned")
    application.wait_for(lambda: application.state()[0] == "Synced", 120, "Synced")
    assert replicas(namespace) == 1
    assert gpu_pods(namespace).keys() == workers
    # Ray's autoscaler removes a worker that runs and is idle, not one that is Pending.
    application.wait_for(lambda: "Ready" in gpu_pods(namespace).values(), 300, "the node has room for the worker")
    ask_for_gpus(namespace, [])
    application.wait_for(lambda: not gpu_pods(namespace), 240, "the worker is gone")
    application.apply(RECIPE)
    application.wait_until("Synced", "Healthy", 120)


FEWER_PAIRS = {**RECIPE, "inline": {"data": {"configs": {"limit": 19}}}}


@pytest.mark.long
def test_a_changed_recipe_starts_what_it_must_and_replaces_the_former_job(application: Application) -> None:
    namespace = application.namespace
    volumes = uids(namespace, "persistentvolumeclaims")
    cluster = uids(namespace, "rayclusters.ray.io", "pods --selector=ray.io/node-type=head")
    former = application.job()["metadata"]["name"]
    application.apply(FEWER_PAIRS)
    application.wait_for(lambda: list(uids(namespace, "rayjobs.ray.io")) != [f"RayJob {former}"], 120, "the job is new")
    application.wait_for(
        lambda: f"RayJob {former}" not in uids(namespace, "rayjobs.ray.io"), 120, "the former is pruned"
    )
    application.wait_until("Synced", "Healthy", 180)
    assert succeeded(application.job())
    assert uids(namespace, "persistentvolumeclaims") == volumes
    assert uids(namespace, "rayclusters.ray.io", "pods --selector=ray.io/node-type=head") == cluster
    show(application, "4-changed-recipe")


@pytest.mark.long
def test_a_revert_makes_the_pruned_job_anew_which_is_already_done(application: Application) -> None:
    former = application.job()["metadata"]["name"]
    began = time.monotonic()
    application.apply(RECIPE)
    application.wait_for(
        lambda: former not in json.dumps(application.status()["resources"]), 120, "the former is pruned"
    )
    application.wait_until("Synced", "Healthy", 120)
    PHASES.append(("Argo CD: values reverted -> Healthy", time.monotonic() - began))
    log = application.namespace.kubectl("logs", "--selector", f"job-name={application.job()['metadata']['name']}")
    assert "already done with this recipe" in log
    assert not gpu_pods(application.namespace)


@pytest.mark.long
def test_a_wrong_path_is_degraded_in_the_words_of_the_stage(application: Application) -> None:
    wrong = {**RECIPE, "inline": {"data": {"configs": {"path": "/mnt/data/no.jsonl"}}}}
    application.apply(wrong)
    application.wait_until("Synced", "Degraded", 120)
    health = application.health("RayJob")
    assert health["status"] == "Degraded"
    assert "data.configs.path: /mnt/data/no.jsonl does not exist" in health["message"], health


@pytest.mark.long
def test_a_claim_of_ones_own_leaves_the_release_s_claim_without_drift(application: Application) -> None:
    namespace = application.namespace
    claim = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    own = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "own"}, "spec": claim}
    namespace.kubectl("apply", "--filename", "-", stdin=json.dumps(own))
    application.apply(RECIPE, storage={"runs": {"existingClaim": "own"}})
    application.wait_until("Synced", "Healthy", 150)
    assert {"PersistentVolumeClaim judge-runs", "PersistentVolumeClaim own"} <= uids(namespace, "pvc").keys()


@pytest.mark.long
def test_a_secret_that_is_not_there_is_synced_and_status_names_it(application: Application) -> None:
    namespace, secret = application.namespace, "nobody-made-this"
    application.apply(RECIPE, secrets={"huggingface": {"existingSecret": secret}})
    application.wait_for(lambda: application.state()[0] == "Synced", 120, "Synced")
    where = ("judge", "--namespace", namespace.name)
    application.wait_for(lambda: secret in pairwise_rm("status", *where, code=None), 120, "status says it")
    assert application.state()[1] in ("Progressing", "Degraded")
    namespace.kubectl("create", "secret", "generic", secret, "--from-literal=HF_TOKEN=none")
    # Successfully or not: its submitter may have given up while the head could not start.
    application.wait_for(lambda: state_of(application.job()) in ENDED, 240, "the stage has ended")


def test_deleting_it_leaves_nothing_but_the_volumes(application: Application) -> None:
    namespace = application.namespace
    application.argo.kubectl("delete", "application", application.name, "--timeout=120s")
    kinds = run("kubectl", "api-resources", "--verbs=list", "--namespaced", "-o", "name").split()
    ours = [kind for kind in kinds if not kind.startswith(("events", "podmetrics"))]

    def left() -> list[str]:
        found = namespace.kubectl("get", ",".join(ours), "-o", "name", code=None).split()
        made_here = (f"persistentvolumeclaim/{CLAIM}", "persistentvolumeclaim/own", "secret/nobody-made-this")
        own = ("serviceaccount/default", "configmap/kube-root-ca.crt", *made_here)
        return sorted(name for name in found if name not in own)

    application.wait_for(lambda: all(name.startswith("persistentvolumeclaim/") for name in left()), 120, "all is gone")
    assert left() == [f"persistentvolumeclaim/judge-{claim}" for claim in ("cache", "runs")]
