"""What could only fail, or hang, later is refused by helm in one sentence that begins with the value to change.

The sentences that need a cluster to look at are in `tests/e2e/test_bad_input.py`, those of what the package checks too
in `test_parity.py`.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.chart.chart_sentences import sentences, templates
from tests.chart.rendering import RELEASE, Values, nested, over, refusal, rendered
from tests.chart.value_table import ONE_JOB, OWN
from tests.paths import CHART

# What needs a cluster is in tests/e2e/test_bad_input.py, what the package checks too in test_parity.py.
ELSEWHERE_SHOWN = re.compile("_check_(cluster|recipe|capacity)")
FILES = [file.name for file in templates() if not ELSEWHERE_SHOWN.match(file.name)]
VOLUME = {"name": "ca", "emptyDir": {"sizeLimit": "1Mi"}}
SIDECAR = {"name": "ray-head", "image": "x"}
QWEN = {"name": "mine", "model": {"path": "Qwen/Qwen3-4B"}, "data": {"configs": {"type": "huggingface"}}}
RULES = {**OWN, "batch": {"shutdownAfterJobFinishes": False}}
SERVE: Values = {"serve": {"enabled": True}}


def rule(policy: str, seconds: int = 0, **condition: str) -> dict[str, Any]:
    return {"policy": policy, "condition": {**condition, "ttlSeconds": seconds}}


class Case(NamedTuple):
    settings: dict[str, Any]
    sentence: str
    base: Values | None = None
    release: str = RELEASE


def recipe(**overrides: Any) -> dict[str, Any]:
    return {f"recipe.overrides.{key.replace('__', '.')}": setting for key, setting in overrides.items()}


LATER = "goes with mode=ephemeral, since a RayJob on the shared cluster cannot do it"
CASES: dict[str, Case] = {
    # ---- names
    "too long a release name": Case(
        {},
        'the release\'s name: "a-name-that-is-longer-than-it-may-be" has 36 characters, at most 29 are allowed; '
        "set fullnameOverride",
        release="a-name-that-is-longer-than-it-may-be",
    ),
    "too long a full name": Case(
        {"fullnameOverride": "a" * 30}, f'fullnameOverride: "{"a" * 30}" has 30 characters, at most 29 are allowed'
    ),
    "a release name that begins with a digit": Case(
        {}, 'the release\'s name: "1judge" must begin with a letter', release="1judge"
    ),
    "an old Ray": Case({"rayVersion": "2.52.1"}, "rayVersion: 2.52.1 is too old; 2.53.0 or later is needed"),
    "a common label that is the chart's own": Case(
        {"commonLabels": {"app.kubernetes.io/instance": "x"}},
        "commonLabels: app.kubernetes.io/instance is set by the chart or by an operator; take another label",
    ),
    "a common label that KubeRay sets": Case(
        {"commonLabels": {"ray.io/cluster": "x"}}, "commonLabels: ray.io/cluster is set by the chart or by an operator"
    ),
    "a PriorityClass without a name": Case({"priorityClass.create": True}, "priorityClass.name: is missing"),
    # ---- the recipe
    "an unknown recipe": Case(
        {"recipe.name": "qwen3-14b"}, "recipe.name: expected one of qwen3-14b-8x80g, qwen3-32b-2x8x80g, qwen3-32b-8x80g"
    ),
    "a generated file as a recipe": Case({"recipe.name": "defaults"}, "recipe.name: expected one of qwen3-14b-8x80g"),
    "a name and an inline recipe": Case(
        {"recipe.inline": QWEN},
        'recipe.name: "qwen3-14b-8x80g" and recipe.inline exclude each other; set recipe.name to ""',
    ),
    "an inline recipe with overrides": Case(
        {"recipe.name": "", "recipe.inline": QWEN, **recipe(seed=2)},
        "recipe.overrides: goes with recipe.name; write the keys into recipe.inline",
    ),
    "a run folder of the user's": Case(recipe(output_dir="runs/x"), 'recipe output_dir: "runs/x"; the chart sets it'),
    "a data folder of the user's": Case(
        recipe(data__export__output_dir="/x"), 'recipe data.export.output_dir: "/x"; the chart sets it'
    ),
    "a relative source file in a list": Case(
        recipe(data__configs={"type": "local", "path": ["/mnt/data/a.jsonl", "pairs.jsonl"]}),
        'recipe data.configs.path: "pairs.jsonl" is relative; give a path below /mnt/data, the claim of storage.data',
    ),
    "a relative file of held-out rows": Case(
        recipe(data__configs={"type": "local", "path": "/mnt/data/a.jsonl", "test_path": "pairs.jsonl"}),
        'recipe data.configs.test_path: "pairs.jsonl" is relative; give a path below /mnt/data, the claim of '
        "storage.data",
    ),
    "a relative source file": Case(
        recipe(data__configs={"type": "local", "path": "pairs.jsonl"}),
        'recipe data.configs.path: "pairs.jsonl" is relative; give a path below /mnt/data, the claim of storage.data',
    ),
    "a relative file of pairs": Case(
        recipe(data__files={"train": "/mnt/data/train.parquet", "test": "test.parquet"}),
        'recipe data.files.test: "test.parquet" is relative; give a path below /mnt/data, the claim of storage.data',
    ),
    "a relative file with a reward": Case(
        recipe(reward__function={"path": "mine.py"}),
        'recipe reward.function.path: "mine.py" is relative; give a path that all pods have, such as below /mnt/data',
    ),
    "a reward that is no Python file": Case(
        recipe(reward__function={"path": "/mnt/data/mine.txt"}),
        'recipe reward.function.path: expected a .py file, or pkg:// and a module, got "/mnt/data/mine.txt"',
    ),
    "a reward of one's own beside an option of ours": Case(
        recipe(reward={"function": {"path": "/mnt/data/mine.py"}, "invalid_penalty": 0.5}),
        "recipe reward: invalid_penalty does nothing beside function, which gives the whole reward; keep one",
    ),
    # ---- what the pools can give
    "no pool": Case(
        {"pools": {"gpu": None}}, "pools: there is none; the stages need Ray workers, so name at least one"
    ),
    # ---- variables
    "a variable of the chart's own": Case(
        {"extraEnv": [{"name": "HF_HOME", "value": "/x"}]}, "head.env: HF_HOME is given twice"
    ),
    "a variable of NCCL that is there already": Case(
        {"poolDefaults.nccl.NCCL_DEBUG": "INFO", "poolDefaults.env": [{"name": "NCCL_DEBUG", "value": "WARN"}]},
        "pools.gpu.env: NCCL_DEBUG is given twice",
    ),
    # ---- what is added to the pods
    "a volume of the chart's own": Case(
        {"poolDefaults.extraVolumes": [{**VOLUME, "name": "shm"}]},
        "pools.gpu.extraVolumes: shm is the name of a volume that the chart or KubeRay makes; take another name",
    ),
    "a volume twice": Case(
        {"extraVolumes": [VOLUME], "head.extraVolumes": [VOLUME]},
        "head.extraVolumes: ca is there twice; extraVolumes count too, so keep one",
    ),
    "a mount of a volume that is not added": Case(
        {"head.extraVolumeMounts": [{"name": "runs", "mountPath": "/x"}]},
        "head.extraVolumeMounts: there is no volume runs among extraVolumes",
    ),
    "a mount over the chart's own": Case(
        {"extraVolumes": [VOLUME], "extraVolumeMounts": [{"name": "ca", "mountPath": "/mnt/runs/"}]},
        "head.extraVolumeMounts: something is mounted at /mnt/runs/ already; take another path",
    ),
    "two mounts at one path": Case(
        {"extraVolumes": [VOLUME], "pools.gpu.extraVolumeMounts": [{"name": "ca", "mountPath": "/x"}] * 2},
        "pools.gpu.extraVolumeMounts: something is mounted at /x already; take another path",
    ),
    "a container with the name of Ray's": Case(
        {"head.extraContainers": [SIDECAR]},
        "head: a container ray-head is there already; take another name in extraContainers or extraInitContainers",
    ),
    "two containers of one name": Case(
        {
            "pools.gpu.extraContainers": [{**SIDECAR, "name": "x"}],
            "pools.gpu.extraInitContainers": [{**SIDECAR, "name": "x"}],
        },
        "pools.gpu: a container x is there already",
    ),
    "a margin that leaves a pod's end no time": Case(
        {"poolDefaults.preemption": {"enabled": True, "marginSeconds": 30}},
        "pools.gpu.preemption.marginSeconds: 30 leaves nothing of terminationGracePeriodSeconds, 30",
    ),
    "a pool that needs more than it may have": Case(
        {"pools.gpu.minReplicas": 2}, "pools.gpu.minReplicas: 2 is more than maxReplicas, 1"
    ),
    "a product without a platform": Case(
        {"pools.gpu.platform": "none"}, "pools.gpu.gpuProduct: a100-80gb needs a platform to know the label"
    ),
    "a volume of one node and a head on another": Case(
        {"storage.runs.accessMode": "ReadWriteOnce"},
        "storage.runs.accessMode: ReadWriteOnce holds all pods on one node, and head.gpuNodes=forbid sends the head",
    ),
    # ---- stages
    "a stage that runs twice": Case(
        {"stages.evaluate.first": ["train"]},
        "stages.evaluate.first: train has a RayJob of its own; set stages.train.enabled=false",
    ),
    "a stage in two RayJobs": Case(
        {"stages.convert.enabled": False, "stages.train.first": ["convert"], "stages.evaluate.first": ["convert"]},
        "stages.evaluate.first: convert runs in the RayJob of train already",
    ),
    "a stage in the midst of another's RayJob": Case(
        {"stages.convert.enabled": False, "stages.evaluate.first": ["convert"]},
        "stages.evaluate.first: train runs in between, in a RayJob of its own; list it too, with "
        "stages.train.enabled=false",
    ),
    "a cluster that holds GPUs while it waits": Case(
        {"autoscaling.enabled": False},
        "stages.train: its cluster would hold GPUs while it waits for convert; list the earlier stages in "
        "stages.train.first, or set autoscaling.enabled=true",
        OWN,
    ),
    # ---- batch, on the shared cluster
    "retries on the shared cluster": Case({"batch.backoffLimit": 2}, f"batch.backoffLimit: 2 {LATER}"),
    "a deadline on the shared cluster": Case(
        {"batch.preRunningDeadlineSeconds": 60}, f"batch.preRunningDeadlineSeconds: 60 {LATER}"
    ),
    "suspension on the shared cluster": Case({"batch.suspend": True}, f"batch.suspend: true {LATER}"),
    "deletion on the shared cluster": Case(
        {"batch.deletionRules": [rule("DeleteCluster", jobStatus="FAILED")]}, f"batch.deletionRules: {LATER}"
    ),
    "a time to live on the shared cluster": Case(
        {"batch.ttlSecondsAfterFinished": 60}, f"batch.ttlSecondsAfterFinished: 60 {LATER}"
    ),
    "Kueue on the shared cluster": Case({"batch.kueue.queueName": "q"}, f"batch.kueue.queueName: q {LATER}"),
    "Volcano on the shared cluster": Case({"batch.volcano.queueName": "q"}, f"batch.volcano.queueName: q {LATER}"),
    # ---- batch, on clusters of their own
    "deletion rules and shutdown": Case(
        {"batch.deletionRules": [rule("DeleteCluster", jobStatus="FAILED")]},
        "batch.deletionRules: excludes batch.shutdownAfterJobFinishes; set that to false",
        OWN,
    ),
    "a time to live without shutdown": Case(
        {"batch.ttlSecondsAfterFinished": 60},
        "batch.ttlSecondsAfterFinished: 60 needs batch.shutdownAfterJobFinishes=true",
        RULES,
    ),
    "suspension without shutdown": Case(
        {"batch.suspend": True}, "batch.suspend: true needs batch.shutdownAfterJobFinishes=true", RULES
    ),
    "a rule that fights the autoscaler": Case(
        {"batch.deletionRules": [rule("DeleteWorkers", jobStatus="FAILED")]},
        "batch.deletionRules[0].policy: DeleteWorkers needs autoscaling.enabled=false",
        RULES,
    ),
    "a rule without a status": Case(
        {"batch.deletionRules": [rule("DeleteCluster")]},
        "batch.deletionRules[0].condition: expected jobStatus or jobDeploymentStatus, one of them",
        RULES,
    ),
    "a rule twice": Case(
        {"batch.deletionRules": [rule("DeleteSelf", 1, jobStatus="FAILED"), rule("DeleteSelf", 2, jobStatus="FAILED")]},
        "batch.deletionRules[1]: DeleteSelf on FAILED is there twice",
        RULES,
    ),
    "rules in the wrong order": Case(
        {
            "batch.deletionRules": [
                rule("DeleteSelf", 1, jobStatus="FAILED"),
                rule("DeleteCluster", 2, jobStatus="FAILED"),
            ]
        },
        "batch.deletionRules: ttlSeconds of DeleteSelf on FAILED must not be less than that of DeleteCluster on FAILED",
        RULES,
    ),
    "Kueue without shutdown": Case(
        {"batch.kueue.queueName": "q", "batch.shutdownAfterJobFinishes": False},
        "batch.kueue.queueName: Kueue needs batch.shutdownAfterJobFinishes=true",
        ONE_JOB,
    ),
    "more pools than Kueue takes": Case(
        {"batch.kueue.queueName": "q", "pools": {f"p{number}": {} for number in range(6)}},
        "pools: Kueue allows 6 beside the head and the submitter, got 7",
        ONE_JOB,
    ),
    "more pools than Kueue takes without a submitter": Case(
        {
            "batch.kueue.queueName": "q",
            "pools": {f"p{number}": {} for number in range(7)},
            "submission.mode": "HTTPMode",
        },
        "pools: Kueue allows 7 beside the head, got 8",
        ONE_JOB,
    ),
    "a pool with the name of another pod in Kueue": Case(
        {"batch.kueue.queueName": "q", "pools.submitter": {}},
        "pools.submitter: Kueue calls the submitter's own pod so; give the pool another name",
        ONE_JOB,
    ),
    "Kueue and suspension": Case(
        {"batch.kueue.queueName": "q", "batch.suspend": True},
        "batch.suspend: true excludes batch.kueue.queueName, since Kueue itself suspends and starts the RayJobs",
        ONE_JOB,
    ),
    "Kueue's priority without a queue": Case(
        {"batch.kueue.priorityClass": "high"},
        "batch.kueue.priorityClass: high goes with batch.kueue.queueName; the pods' own class is priorityClass.name",
        ONE_JOB,
    ),
    # ---- networks
    "metrics that nobody may scrape": Case(
        {"podMonitor.enabled": True}, "podMonitor.enabled: true needs networkPolicy.ingress.metrics, the peers that may"
    ),
    # ---- serving
    "serving from a pool that is not there": Case(
        {"serve.pool": "big"}, 'serve.pool: expected one of gpu, got "big"', SERVE
    ),
    "serving with more GPUs than a pod has": Case(
        {"serve.tensorParallel": 16}, "serve.tensorParallel: 16 GPUs on one pod wanted, pools.gpu.gpus is 8", SERVE
    ),
    "serving with more replicas than there may be": Case(
        {"serve.autoscaling.minReplicas": 2},
        "serve.autoscaling.minReplicas: 2 is more than maxReplicas, 1",
        SERVE,
    ),
    "serving from elsewhere": Case(
        {"serve.model": "/mnt/data/judge"}, 'serve.model: "/mnt/data/judge"; give a folder below /mnt/runs', SERVE
    ),
    "serving what is not exported": Case(
        {"stages.export.enabled": False}, "serve.model: is missing; stages.export is off", SERVE
    ),
}


def said(case: Case) -> str:
    return refusal(over(case.base or {}, nested(case.settings)), release=case.release)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_bad_input_is_refused_in_a_sentence(case: Case) -> None:
    assert case.sentence in said(case)
    assert said(case).count("Error:") == 1


@pytest.mark.parametrize("base", [{}, OWN, RULES, ONE_JOB, SERVE])
def test_what_the_bad_input_is_added_to_is_good(base: Values) -> None:
    assert rendered([], base)


# ---- each of the chart's sentences has a case ----------------------------------------------------


@pytest.mark.parametrize("pattern", [pytest.param(pattern, id=name) for name, pattern in sentences(FILES)])
def test_each_sentence_of_the_chart_is_shown_by_a_case(pattern: str) -> None:
    assert any(re.search(pattern, said(case)) for case in CASES.values())


# ---- what a cluster has, by its API versions -------------------------------------------------------

# Helm's own --api-versions stands in for the cluster, and tells old CRDs from new ones.
PODS, KUBERAY_1_4 = "--api-versions=v1/Pod", "--api-versions=ray.io/v1/RayJob"
KUBERAY_1_6 = "--api-versions=ray.io/v1/RayCronJob"


@pytest.mark.parametrize(
    ("settings", "versions", "sentence"),
    [
        ({}, [PODS], "KubeRay: this cluster has no ray.io/v1 RayJob; install the KubeRay operator 1.6 or later"),
        (
            {},
            [PODS, KUBERAY_1_4],
            "KubeRay: this cluster's CRDs are older than 1.6; upgrade the operator and, as Helm does not, its CRDs",
        ),
        (
            {"podMonitor.enabled": True, "networkPolicy.enabled": False},
            [PODS, KUBERAY_1_4, KUBERAY_1_6],
            "podMonitor.enabled: this cluster has no monitoring.coreos.com/v1 PodMonitor",
        ),
        (
            {"networkPolicy.egress.hosts": ["x.y"]},
            [PODS, KUBERAY_1_4, KUBERAY_1_6],
            "networkPolicy.egress.hosts: this cluster has no Cilium, which policies by host need",
        ),
        (
            {"networkPolicy.egress.cilium": True},
            [PODS, KUBERAY_1_4, KUBERAY_1_6],
            "networkPolicy.egress.cilium: this cluster has no cilium.io/v2 CiliumNetworkPolicy; set it to false",
        ),
        (
            {**ONE_JOB, "batch": {"kueue": {"queueName": "judges"}}},
            [PODS, KUBERAY_1_4, KUBERAY_1_6],
            "batch.kueue.queueName: this cluster has no LocalQueue of kueue.x-k8s.io; install Kueue, or leave it empty",
        ),
    ],
)
def test_a_cluster_that_lacks_a_kind_is_told_by_its_api(
    settings: dict[str, Any], versions: list[str], sentence: str
) -> None:
    assert sentence in refusal(nested(settings), *versions)


# As Argo CD renders: it names the cluster's API versions, and nothing can be looked up. What needs a look-up is refused
# by `helm install`, see tests/e2e/test_bad_input.py.
NOTHING_TO_LOOK_UP = (PODS, KUBERAY_1_4, KUBERAY_1_6, "--api-versions=kueue.x-k8s.io/v1beta2/LocalQueue")
PRESETS = [None, *sorted(CHART.glob("values-*.yaml"))]
ELSEWHERE: Values = nested(
    {
        "secrets.wandb.existingSecret": "wandb",
        "secrets.huggingface.existingSecret": "hub",
        "secrets.upload.existingSecret": "s3",
        "auth.existingSecret": "token",
        "image.pullSecrets": ["registry"],
        "storage.data.existingClaim": "my-data",
        "storage.runs.storageClass": "fast",
        "priorityClass.name": "urgent",
    }
)


@pytest.mark.parametrize("preset", PRESETS, ids=lambda preset: preset.stem if preset else "values")
@pytest.mark.parametrize("settings", [{}, ELSEWHERE], ids=["alone", "with what only the cluster has"])
def test_the_chart_renders_where_the_api_versions_are_known_and_nothing_can_be_looked_up(
    preset: Path | None, settings: Values
) -> None:
    files = [preset] if preset else []
    assert rendered(files, settings, *NOTHING_TO_LOOK_UP) == rendered(files, settings)
