"""Releases in a queue of the real Kueue: refused, admitted, waiting, elastic, preempted and gone on.

The queues are those of `manifests/kueue`, under names of each test's own and mostly with one GPU.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import yaml

from tests.chart.rendering import nested, over
from tests.e2e.kube import GPU, Namespace, new_namespace, run, state_of, succeeded, tool, wait_for
from tests.e2e.phases import PHASES
from tests.paths import CHART, REPO

FOLDER = REPO / "manifests" / "kueue"
IN_ONE_RAYJOB = ("--values", str(CHART / "values-kind.yaml"), "--values", str(CHART / "values-kueue.yaml"))
# The kueue preset's run of the kind preset's judge, whose worker asks for a GPU. The model is made once, and two CPUs
# must have room for two releases and all else that runs.
SMOKE = {
    "recipe.name": "smoke",
    "poolDefaults.gpuResource": GPU,
    "poolDefaults.resources.requests.cpu": "200m",
    "head.resources.requests.cpu": "100m",
    "storage.cache.existingClaim": "cache",
}
WHOLE = nested({**SMOKE, "recipe.overrides": {"train": {"steps": 6, "save_every": 2}, "evaluate": {"limit": 32}}})
# The least that holds a GPU: one step.
ONE_STEP = nested(
    {
        **SMOKE,
        "recipe.overrides": {"train": {"steps": 1, "save_every": 1}},
        "stages.train.enabled": True,
        "stages.train.first": ["convert"],
        "stages.export.enabled": False,
        "stages.export.first": [],
    }
)
ELASTIC = over(ONE_STEP, nested({"autoscaling.enabled": True}))
CACHE = {
    "apiVersion": "v1",
    "kind": "PersistentVolumeClaim",
    "metadata": {"name": "cache"},
    "spec": {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "1Gi"}}},
}

Object = dict[str, Any]


# ---- queues --------------------------------------------------------------------------------------


def queue_objects(namespace: str, gpus: int | None) -> list[Object]:
    """`manifests/kueue` for an existing namespace, with this many GPUs; cluster-wide objects are named after it."""

    def own(name: str) -> str:
        return f"{namespace}-{name}"

    files = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())["resources"]
    items = [item for file in files for item in yaml.safe_load_all((FOLDER / file).read_text())]
    for item in items:
        metadata, spec = item["metadata"], item.get("spec", {})
        if item["kind"] == "LocalQueue":
            metadata["namespace"] = namespace
            spec["clusterQueue"] = own(spec["clusterQueue"])
        else:
            metadata["name"] = own(metadata["name"])
        if item["kind"] == "ClusterQueue":
            spec["cohortName"] = own(spec["cohortName"])
            spec["namespaceSelector"]["matchLabels"] = {"kubernetes.io/metadata.name": namespace}
            for flavor in (flavor for group in spec["resourceGroups"] for flavor in group["flavors"]):
                flavor["name"] = own(flavor["name"])
                for quota in flavor["resources"]:
                    if gpus is not None and quota["name"] == GPU:
                        quota["nominalQuota"] = gpus
    return [item for item in items if item["kind"] != "Namespace"]


@dataclass(frozen=True)
class Queue:
    """A namespace with the LocalQueue `judges`, and the ClusterQueue behind it."""

    namespace: Namespace

    @property
    def name(self) -> str:
        return f"{self.namespace.name}-judges"

    def install(self, release: str, values: Object, *options: str) -> None:
        """Installs or upgrades, repeatedly: on a busy machine Kueue's webhooks may exceed their timeout of 10 s."""
        command = self.helm("upgrade", release, "--install", *options)
        for _ in range(5):
            said = run(*command, stdin=json.dumps(values), code=None, errors=True)
            if "failed calling webhook" not in said:
                break
            time.sleep(5)
        assert "STATUS: deployed" in said, said

    def refused(self, release: str, values: Object) -> str:
        """Helm's message, in one line."""
        command = self.helm("install", release, "--dry-run=server")
        return re.sub(r"\s+", " ", run(*command, stdin=json.dumps(values), code=1, errors=True))

    def helm(self, *arguments: str) -> tuple[str, ...]:
        verb, release, *options = arguments
        chart = (release, str(CHART), *IN_ONE_RAYJOB, "--values=-", *options)
        return (tool("helm"), "--namespace", self.namespace.name, verb, *chart)

    def empty(self) -> None:
        """Removes all releases and waits until all quota is free."""
        for release in self.namespace.helm("list", "--short").split():
            self.namespace.helm("uninstall", release)
        self.wait(lambda: not self.namespace.items("rayjobs.ray.io"), 120, "the RayJobs are gone")
        self.wait(lambda: self.gpus() == 0, 120, "the quota is given back")

    def workloads(self, release: str) -> list[Object]:
        """Kueue's, of the RayJobs of a release, the oldest first."""
        found = self.namespace.items("workloads.kueue.x-k8s.io --sort-by=.metadata.creationTimestamp")
        return [item for item in found if item["metadata"]["ownerReferences"][0]["name"].startswith(f"{release}-")]

    def workload(self, release: str) -> Object:
        [found] = self.workloads(release)
        return found

    def job(self, release: str) -> Object:
        [found] = [job for job in self.namespace.items("rayjobs.ray.io") if of(job, release)]
        return found

    def said(self, release: str, condition: str) -> str:
        """The message of a condition of its Workload; empty while there is none."""
        return next((condition_of(item, condition).get("message", "") for item in self.workloads(release)), "")

    def holds(self, release: str, condition: str) -> bool:
        return any(condition_of(item, condition).get("status") == "True" for item in self.workloads(release))

    def reserved(self) -> dict[str, dict[str, str]]:
        """What is in use of each flavor, by the names in `manifests/kueue`."""
        status = json.loads(run("kubectl", "get", "clusterqueue", self.name, "-o", "json"))["status"]
        return {
            flavor["name"].removeprefix(f"{self.namespace.name}-"): {
                item["name"]: item["total"] for item in flavor["resources"] if item["total"] != "0"
            }
            for flavor in status["flavorsReservation"]
        }

    def gpus(self) -> int:
        return sum(int(flavor.get(GPU, 0)) for flavor in self.reserved().values())

    def show(self, moment: str) -> None:
        print(f"\n=== {moment}; {self.gpus()} GPU in use")
        print(self.namespace.kubectl("get", "workloads.kueue.x-k8s.io,rayjobs.ray.io,pods"))

    def wait(self, done: Callable[[], bool], seconds: float, what: str) -> float:
        return wait_for(done, seconds, what, self.told)

    def told(self) -> str:
        return self.namespace.kubectl("get", "workloads.kueue.x-k8s.io", "-o", "yaml") + self.namespace.describe()

    def log(self, release: str) -> str:
        """The output of a RayJob's submitter so far; empty while there is none."""
        name = self.job(release)["metadata"]["name"]
        return self.namespace.kubectl("logs", f"job/{name}", "--tail=-1", code=None)


def of(item: Object, release: str) -> bool:
    return bool(item["metadata"]["labels"].get("app.kubernetes.io/instance") == release)


def condition_of(item: Object, name: str) -> Object:
    found = item.get("status", {}).get("conditions", [])
    return next((condition for condition in found if condition["type"] == name), {})


def new_queue(name: str, gpus: int | None = 1) -> Iterator[Queue]:
    with new_namespace(f"e2e-kueue-{name}") as namespace:
        items = yaml.safe_dump_all(queue_objects(namespace.name, gpus))
        run("kubectl", "apply", "-f", "-", stdin=items)
        namespace.kubectl("apply", "-f", "-", stdin=yaml.safe_dump(CACHE))
        yield Queue(namespace)
    run("kubectl", "delete", "--ignore-not-found", "--timeout=60s", "-f", "-", stdin=items)


@pytest.fixture(scope="module")
def with_the_model() -> Iterator[Queue]:
    yield from new_queue("one")


@pytest.fixture
def one_gpu(with_the_model: Queue) -> Iterator[Queue]:
    yield with_the_model
    with_the_model.empty()


@pytest.fixture
def as_it_stands() -> Iterator[Queue]:
    yield from new_queue("preset", gpus=None)


# ---- the short form ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        (
            {"batch.kueue.queueName": "judgments"},
            'batch.kueue.queueName: namespace {} has no LocalQueue "judgments"; it has: judges',
        ),
        (
            {"batch.kueue.priorityClass": "urgent"},
            'batch.kueue.priorityClass: this cluster has no WorkloadPriorityClass "urgent"; there are: ',
        ),
    ],
)
def test_what_kueue_does_not_have_is_refused_in_one_sentence(one_gpu: Queue, setting: Object, sentence: str) -> None:
    said = one_gpu.refused("judge", over(WHOLE, nested(setting)))
    assert sentence.format(one_gpu.namespace.name) in said


def test_a_namespace_without_a_queue_is_told_where_to_get_one() -> None:
    said = Queue(Namespace("default")).refused("judge", over(WHOLE, nested({"storage.cache.existingClaim": ""})))
    assert 'namespace default has no LocalQueue "judges"; it has none, see manifests/kueue' in said


def test_the_preset_is_admitted_by_the_manifests_as_they_stand(as_it_stands: Queue) -> None:
    """Its 8 GPUs and a head that stays off GPU nodes: no node here has room, but Kueue does not know that."""
    # No volume here is that large, so none is used.
    large = {f"storage.{volume}.size": "1Ti" for volume in ("data", "runs", "cache")}
    values = (f"--values={CHART / 'values-kueue.yaml'}", "--set", "checks.nodes=false", "--values=-")
    helm = (tool("helm"), "--namespace", as_it_stands.namespace.name, "install", "judge", str(CHART), *values)
    run(*helm, stdin=json.dumps(nested(large)))
    as_it_stands.wait(lambda: as_it_stands.holds("judge", "Admitted"), 120, "admitted")
    # The requests that clusterqueue.yaml documents.
    wanted = {
        "any-node": {"cpu": "34100m", "memory": "418048Mi"},
        "a100-80gb": {GPU: "8"},
    }
    as_it_stands.wait(lambda: as_it_stands.reserved() == wanted, 120, f"reserved: {wanted}")


def test_the_second_of_two_releases_waits_for_the_gpu_and_starts_when_the_first_has_gone(one_gpu: Queue) -> None:
    one_gpu.install("first", ONE_STEP)
    one_gpu.wait(lambda: one_gpu.holds("first", "Admitted"), 120, "the first is admitted")
    one_gpu.install("second", ONE_STEP)
    one_gpu.wait(lambda: "more needed" in one_gpu.said("second", "QuotaReserved"), 120, "the second is told")
    assert f"insufficient unused quota for {GPU}" in one_gpu.said("second", "QuotaReserved")
    one_gpu.wait(lambda: state_of(one_gpu.job("second")) == "Suspended", 120, "the second is suspended")
    one_gpu.wait(lambda: one_gpu.gpus() == 1, 120, "the quota shows the first")
    one_gpu.show("the first is admitted, the second waits: " + one_gpu.said("second", "QuotaReserved"))

    before = {release: (one_gpu.job(release), one_gpu.workload(release)) for release in ("first", "second")}
    for release, (job, workload) in before.items():
        one_gpu.install(release, ONE_STEP)
        after = one_gpu.job(release)
        assert (after["spec"], after["metadata"]["uid"]) == (job["spec"], job["metadata"]["uid"])
        assert one_gpu.workload(release)["metadata"]["uid"] == workload["metadata"]["uid"]
    assert one_gpu.holds("first", "Admitted")

    one_gpu.namespace.helm("uninstall", "first")
    took = one_gpu.wait(lambda: one_gpu.holds("second", "Admitted"), 120, "the second is admitted")
    PHASES.append(("a release is uninstalled -> Kueue admits the one that waited", took))
    one_gpu.wait(lambda: bool(state_of(one_gpu.job("second"))), 120, "its RayJob has begun")
    one_gpu.wait(lambda: one_gpu.gpus() == 1, 120, "the quota shows the second")
    one_gpu.empty()


# ---- elastic jobs --------------------------------------------------------------------------------

KUEUE = ("--namespace", "kueue-system")
GATE = "ElasticJobsViaWorkloadSlices=true"


def set_arguments(arguments: list[str]) -> None:
    patch = [{"op": "replace", "path": "/spec/template/spec/containers/0/args", "value": arguments}]
    run("kubectl", *KUEUE, "patch", "deployment", "kueue-controller-manager", "--type=json", "-p", json.dumps(patch))
    run("kubectl", *KUEUE, "rollout", "status", "deployment", "kueue-controller-manager", "--timeout=120s")


@pytest.fixture
def elastic(one_gpu: Queue) -> Iterator[Queue]:
    """Kueue, restarted with the feature gate on, and afterwards as it was."""
    deployment = json.loads(run("kubectl", *KUEUE, "get", "deployment", "kueue-controller-manager", "-o", "json"))
    before = deployment["spec"]["template"]["spec"]["containers"][0]["args"]
    gates = [word for word in before if word.startswith("--feature-gates=")]
    others = [word for word in before if word not in gates]
    set_arguments([*others, f"{gates[0]},{GATE}" if gates else f"--feature-gates={GATE}"])
    try:
        one_gpu.wait(lambda: webhooks_answer(one_gpu), 120, "Kueue's webhooks answer")
        yield one_gpu
    finally:
        # With the gate off Kueue refuses whatever is to change an elastic RayJob, its finalizer's end too.
        one_gpu.empty()
        set_arguments(before)


def webhooks_answer(queue: Queue) -> bool:
    job = ("create", "job", "answer", "--image=none", "--dry-run=server")
    return "created" in queue.namespace.kubectl(*job, code=None, errors=True)


def slices(queue: Queue, release: str) -> list[dict[str, int]]:
    """Pods by kind of each Workload of a RayJob, the oldest first."""
    return [
        {pods["name"]: pods.get("count", 1) for pods in item["spec"]["podSets"]} for item in queue.workloads(release)
    ]


def newest_waits_for(queue: Queue, release: str) -> str:
    """Kueue's message on the newest Workload of a RayJob."""
    found = queue.workloads(release)
    return str(condition_of(found[-1], "QuotaReserved").get("message", "")) if found else ""


@pytest.mark.long
def test_an_elastic_release_is_admitted_without_a_gpu_and_again_with_one_when_it_trains(elastic: Queue) -> None:
    queue, began = elastic, time.monotonic()
    # Long enough for the second to start its training meanwhile.
    queue.install("first", over(ELASTIC, nested({"recipe.overrides.train.steps": 4})))
    queue.wait(lambda: queue.holds("first", "Admitted"), 120, "the first is admitted")
    assert slices(queue, "first") == [{"head": 1, "gpu": 0, "submitter": 1}]
    assert queue.gpus() == 0
    queue.show("head and submitter of the first are admitted, no GPU")
    queue.wait(lambda: queue.gpus() == 1, 900, "the first asks for a GPU")
    assert slices(queue, "first")[-1] == {"head": 1, "gpu": 1, "submitter": 1}
    PHASES.append(("elastic: helm install -> Kueue admits the worker", time.monotonic() - began))
    queue.show("a second slice of the first is admitted, with the GPU")

    queue.install("second", ELASTIC)
    queue.wait(lambda: queue.holds("second", "Admitted"), 120, "the second is admitted")
    queue.show("head and submitter of the second are admitted beside it")
    queue.wait(lambda: "more needed" in newest_waits_for(queue, "second"), 900, "the second waits for the GPU")
    queue.show("the second waits: " + newest_waits_for(queue, "second"))
    for name in ("first", "second"):
        queue.wait(lambda name=name: ended(queue, name), 900, f"{name} has ended")  # type: ignore[misc]
        queue.show(f"{name} has ended")
        assert succeeded(queue.job(name)), queue.told()
    queue.wait(lambda: queue.gpus() == 0, 120, "the quota is given back")


def ended(queue: Queue, release: str) -> bool:
    return state_of(queue.job(release)) in ("Complete", "Failed")


# ---- preemption, and the whole run ---------------------------------------------------------------


@pytest.mark.long
def test_a_preempted_release_goes_on_from_its_checkpoint_to_the_exported_judge(one_gpu: Queue) -> None:
    queue, began = one_gpu, time.monotonic()
    classes = {name: f"{queue.namespace.name}-judges-{name}" for name in ("low", "high")}
    queue.install("low", WHOLE, "--set", f"batch.kueue.priorityClass={classes['low']}")
    queue.wait(lambda: re.search(r"step [3-6]/6", queue.log("low")) is not None, 1500, "the low one trains")
    PHASES.append(("a whole run of the kueue preset: helm install -> step 3 of 6", time.monotonic() - began))
    queue.show("the low one trains: " + queue.log("low").strip().splitlines()[-1])

    queue.install("high", ONE_STEP, "--set", f"batch.kueue.priorityClass={classes['high']}")
    took = queue.wait(lambda: queue.holds("high", "Admitted"), 120, "the high one is admitted")
    PHASES.append(("a release of higher priority is installed -> it has the GPU", took))
    queue.wait(lambda: state_of(queue.job("low")) == "Suspended", 120, "the low one is suspended")
    assert "Preempted to accommodate a workload" in queue.said("low", "Preempted")
    queue.show("preempted: " + queue.said("low", "Preempted"))

    queue.wait(lambda: ended(queue, "high"), 900, "the high one has ended")
    assert succeeded(queue.job("high")), queue.told()
    took = queue.wait(lambda: queue.holds("low", "Admitted"), 120, "the low one is admitted again")
    PHASES.append(("the higher one has ended -> the preempted one is admitted again", took))
    queue.show("the high one has ended, the low one is admitted again")

    queue.wait(lambda: ended(queue, "low"), 1500, "the low one has ended")
    log = queue.log("low")
    queue.show("the low one has ended")
    print(log[-6000:])
    assert succeeded(queue.job("low")), queue.told()
    assert re.search(r"step 6/6", log)
    assert not re.search(r"step [12]/6", log), "trained from the beginning"
    assert re.search(r"checkpoint of step 6, resumed after step [24]", log)
    queue.wait(lambda: queue.gpus() == 0, 120, "the quota is given back")
    PHASES.append(("the whole run with the preemption in between", time.monotonic() - began))
