"""Every value of values.yaml, set to something else than its default, and where a rendering must show it.

A group is one rendering: `base` is what its values need to mean anything, and rendered without them nothing of what
must be seen may stand there yet.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from tests.chart.rendering import ABSENT, STAGES, Object, Values, at, nested, objects, over, text

DIGEST = "sha256:" + "5" * 64
ANYWHERE: list[Object] = [{"podSelector": {}}]
TOLERATION = {"key": "judges", "operator": "Exists", "effect": "NoSchedule"}
AFFINITY: Object = {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": []}}
VOLUMES = ("data", "runs", "cache")
RULE = {"policy": "DeleteCluster", "condition": {"jobStatus": "SUCCEEDED", "ttlSeconds": 5}}

CLUSTER = "RayCluster spec"
HEAD_POD = f"{CLUSTER} headGroupSpec template"
HEAD = f"{HEAD_POD} spec"
HEAD_RAY = f"{HEAD} containers ray-head"
GROUP = f"{CLUSTER} workerGroupSpecs gpu"
POOL_POD = f"{GROUP} template"
POOL = f"{POOL_POD} spec"
WORKER = f"{POOL} containers ray-worker"
SUBMITTER_POD = "RayJob/train spec submitterPodTemplate"
SUBMITTER = f"{SUBMITTER_POD} spec"
SUBMIT = f"{SUBMITTER} containers ray-job-submitter"
GPU_NODES = f"{HEAD} affinity nodeAffinity preferredDuringSchedulingIgnoredDuringExecution 0 preference"
HEAD_POLICY = "NetworkPolicy/other-head spec"
OPERATOR = f"{HEAD_POLICY} ingress 0 from 0"
OPERATOR_NAMESPACE = f"{OPERATOR} namespaceSelector matchLabels kubernetes.io/metadata.name"
SERVED = "RayService spec rayClusterConfig workerGroupSpecs big"
SERVED_APP = "RayService spec serveConfigV2 applications 0"
SERVED_SCALING = f"{SERVED_APP} deployments judge autoscaling_config"
PODS = (HEAD_POD, POOL_POD, SUBMITTER_POD)
DRAIN = ["python", "-m", "pairwise_rm.cluster.drain_node", "--grace"]
SECURED = {
    "image": "sidecar:1",
    "resources": {"limits": {"memory": "64Mi"}},
    "securityContext": {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": True,
    },
}
SPREAD = {"maxSkew": 2, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway"}
A_VOLUME = {"emptyDir": {"sizeLimit": "1Mi"}}
# With all labels of the release, as the chart's own objects have them.
EXTRA_OBJECT = {
    "apiVersion": "v1",
    "kind": "ConfigMap",
    "metadata": {
        "name": '{{ include "pairwise-rm.fullname" . }}-as-object',
        "labels": {
            "app.kubernetes.io/name": "pairwise-rm",
            "app.kubernetes.io/instance": "{{ .Release.Name }}",
            "app.kubernetes.io/version": "{{ .Chart.AppVersion }}",
            "app.kubernetes.io/managed-by": "{{ .Release.Service }}",
            "app.kubernetes.io/part-of": "pairwise-rm",
            "helm.sh/chart": "{{ .Chart.Name }}-{{ .Chart.Version }}",
        },
    },
    "data": {"recipe": "{{ .Values.recipe.name }}"},
}
EXTRA_TEXT = """\
apiVersion: v1
kind: ConfigMap
metadata:
  name: {{ include "pairwise-rm.fullname" . }}-as-text
  labels: {{- include "pairwise-rm.labels" . | nindent 4 }}
data: {recipe: {{ .Values.recipe.name }}}
"""

# (setting, {place: what must stand there}); a pattern is searched for in a text.
Row = tuple[Any, dict[str, Any]]


@dataclass(frozen=True)
class Group:
    rows: dict[str, Row]
    base: Values = field(default_factory=dict)
    beside: Values = field(default_factory=dict)
    """Set with the rows, since they exclude a default."""

    def before(self) -> list[Object]:
        return objects(text((), self.base))

    def after(self) -> list[Object]:
        return objects(text((), self.values()))

    def values(self) -> Values:
        settings = nested({path: setting for path, (setting, _) in self.rows.items()})
        return over(over(self.base, self.beside), settings)


def resources(number: int) -> Values:
    return {"requests": {"cpu": f"{number}m"}, "limits": {"memory": f"{number}Mi"}}


def stands(items: list[Object], place: str, wanted: Any) -> bool:
    found = at(items, place)
    if isinstance(wanted, re.Pattern):
        return isinstance(found, str) and bool(wanted.search(found))
    return type(found) is type(wanted) and bool(found == wanted)


def claim(volume: str) -> dict[str, Row]:
    place = f"PersistentVolumeClaim/other-{volume} spec"
    return {
        f"storage.{volume}.storageClass": ("fast", {f"{place} storageClassName": "fast"}),
        f"storage.{volume}.size": ("7Gi", {f"{place} resources requests storage": "7Gi"}),
    }


def stage(name: str, number: int, *, waits: bool = True, gpus: bool = True) -> dict[str, Row]:
    job = f"RayJob/{name} spec"
    rows: dict[str, Row] = {}
    rows["activeDeadlineSeconds"] = (number, {f"{job} activeDeadlineSeconds": number})
    if waits:
        rows["inputTimeout"] = (number + 1, {f"{job} entrypoint": re.compile(rf"--input-timeout {number + 1}\b")})
    if gpus:
        rows["gpuTimeout"] = (number + 2, {f"{job} entrypoint": re.compile(rf"--gpu-timeout {number + 2}\b")})
    return {f"stages.{name}.{key}": row for key, row in rows.items()}


def secret_variable(name: str, secret: str, key: str) -> dict[str, Any]:
    return each((HEAD_RAY, WORKER), f"env {name} valueFrom secretKeyRef", {"name": secret, "key": key})


def block(cidr: str) -> list[Any]:
    return [{"ipBlock": {"cidr": cidr}}]


def each(of: tuple[str, ...], place: str, wanted: Any) -> dict[str, Any]:
    return {f"{one} {place}": wanted for one in of}


def added_to_pod(section: str, pod: str, container: str) -> dict[str, Row]:
    """What can be added to the pods of a section of the values, without the name of the section."""
    name = section.lower()
    mounts, beside = f"{pod} containers {container} volumeMounts", [{"name": f"beside-{name}", **SECURED}]
    before = [{"name": f"before-{name}", **SECURED}]
    return {
        "runtimeClassName": (f"class-{name}", {f"{pod} runtimeClassName": f"class-{name}"}),
        "extraVolumes": (
            [{"name": f"of-{name}", **A_VOLUME}], {f"{pod} volumes of-{name} emptyDir": A_VOLUME["emptyDir"]}
        ),
        "extraVolumeMounts": (
            [{"name": f"of-{name}", "mountPath": f"/opt/{name}"}], {f"{mounts} of-{name} mountPath": f"/opt/{name}"}
        ),
        "extraInitContainers": (before, {f"{pod} initContainers 0": before[0]}),
        "extraContainers": (beside, {f"{pod} containers 1": beside[0]}),
    }  # fmt: skip


def probe(number: int, *places: str) -> dict[str, Any]:
    return {f"{of} {place}": number for of in (HEAD_RAY, WORKER) for place in places}


POOL_ROWS: dict[str, Row] = {
    "gpus": (9, {f"{WORKER} resources limits example.com/gpu": 9, f"{GROUP} rayStartParams num-gpus": "9"}),
    "gpuResource": ("example.com/gpu", {f"{WORKER} resources requests example.com/gpu": 9}),
    "minReplicas": (1, {f"{GROUP} minReplicas": 1}),
    "maxReplicas": (3, {f"{GROUP} maxReplicas": 3}),
    "rayCpus": (77, {f"{GROUP} rayStartParams num-cpus": "77"}),
    "resources": (resources(61), {f"{WORKER} resources requests cpu": "61m"}),
    "platform": ("gke", {f"{POOL} nodeSelector cloud.google.com/gke-accelerator": "nvidia-tesla-a100"}),
    "gpuProduct": ("a100-40gb", {f"{POOL} nodeSelector cloud.google.com/gke-accelerator": "nvidia-tesla-a100"}),
    "nodeSelector": ({"zone": "a"}, {f"{POOL} nodeSelector zone": "a"}),
    "tolerations": ([TOLERATION], {f"{POOL} tolerations 1": TOLERATION}),
    "affinity": (AFFINITY, {f"{POOL} affinity": AFFINITY}),
    "terminationGracePeriodSeconds": (77, {f"{POOL} terminationGracePeriodSeconds": 77}),
    "preemption.enabled": (True, {f"{WORKER} lifecycle preStop exec command": [*DRAIN, "70"]}),
    "preemption.marginSeconds": (7, {f"{WORKER} lifecycle preStop exec command 4": "70"}),
    "sharedMemory": ("3Gi", {f"{POOL} volumes shm emptyDir": {"medium": "Memory", "sizeLimit": "3Gi"}}),
    "topologySpread.enabled": (True, {f"{POOL} topologySpreadConstraints 0 maxSkew": 1}),
    "topologySpread.topologyKey": ("rack", {f"{POOL} topologySpreadConstraints 0 topologyKey": "rack"}),
    "rdma.enabled": (True, {f"{WORKER} resources limits rdma/other": 4}),
    "rdma.resourceName": ("rdma/other", {f"{WORKER} resources requests rdma/other": 4}),
    "rdma.count": (4, {f"{WORKER} resources limits rdma/other": 4}),
    "nccl": ({"NCCL_NSOCKS_PERTHREAD": 4}, {f"{WORKER} env NCCL_NSOCKS_PERTHREAD value": "4"}),
    "env": ([{"name": "OF_POOL", "value": "1"}], {f"{WORKER} env OF_POOL value": "1"}),
    "priorityClassName": ("of-pool", {f"{POOL} priorityClassName": "of-pool"}),
    "topologySpreadConstraints": ([SPREAD], {f"{POOL} topologySpreadConstraints 1": SPREAD}),
    **added_to_pod("pool", POOL, "ray-worker"),
}  # fmt: skip

SHARED: dict[str, Row] = {
    "fullnameOverride": ("other", {"RayCluster metadata name": "other", "ConfigMap/other-recipe kind": "ConfigMap"}),
    "image.repository": ("registry.example/judge", {f"{HEAD_RAY} image": "registry.example/judge:v9"}),
    "image.tag": ("v9", {f"{WORKER} image": "registry.example/judge:v9"}),
    "image.pullPolicy": ("Always", each((HEAD_RAY, WORKER, SUBMIT), "imagePullPolicy", "Always")),
    "image.pullSecrets": (["key"], each(PODS, "spec imagePullSecrets 0 name", "key")),
    "rayVersion": ("2.57.0", {f"{CLUSTER} rayVersion": "2.57.0"}),
    "recipe.name": ("qwen3-8b-8x40g", {"RayJob/train metadata annotations pairwise-rm.io/recipe": "qwen3-8b-8x40g"}),
    "recipe.overrides": ({"train": {"steps": 7}}, {"ConfigMap/other-recipe data train.yaml train steps": 7}),
    "attempt": ("after lunch", {
        "RayJob/train metadata annotations pairwise-rm.io/attempt": "after lunch",
        "RayJob/train spec entrypoint": re.compile(r" --attempt [0-9a-f]{8} "),
    }),
    **stage("convert", 100, waits=False, gpus=False),
    **stage("train", 200),
    **stage("evaluate", 300),
    **stage("export", 400, gpus=False),
    "submission.image": ("rayproject/ray:2.57.0", {f"{SUBMIT} image": "rayproject/ray:2.57.0"}),
    "submission.backoffLimit": (5, {"RayJob/train spec submitterConfig backoffLimit": 5}),
    "submission.resources": (resources(62), {f"{SUBMIT} resources requests cpu": "62m"}),
    "head.resources": (resources(63), {f"{HEAD_RAY} resources limits memory": "63Mi"}),
    "head.gpuNodes": ("avoid", {f"{GPU_NODES} matchExpressions 0 key": "accelerator"}),
    "head.gpuNodeLabels": (["accelerator"], {f"{GPU_NODES} matchExpressions 0 key": "accelerator"}),
    "head.nodeSelector": ({"zone": "b"}, each((HEAD, SUBMITTER), "nodeSelector zone", "b")),
    "head.tolerations": ([TOLERATION], each((HEAD, SUBMITTER), "tolerations 0", TOLERATION)),
    "head.terminationGracePeriodSeconds": (78, {f"{HEAD} terminationGracePeriodSeconds": 78}),
    "head.env": ([{"name": "OF_HEAD", "value": "1"}], {f"{HEAD_RAY} env OF_HEAD value": "1"}),
    **{f"head.{key}": row for key, row in added_to_pod("head", HEAD, "ray-head").items()},
    "autoscaling.idleTimeoutSeconds": (66, {f"{CLUSTER} autoscalerOptions idleTimeoutSeconds": 66}),
    "autoscaling.upscalingMode": ("Aggressive", {f"{CLUSTER} autoscalerOptions upscalingMode": "Aggressive"}),
    "autoscaling.resources": (resources(64), {f"{CLUSTER} autoscalerOptions resources limits memory": "64Mi"}),
    **{f"poolDefaults.{key}": row for key, row in POOL_ROWS.items()},
    "probes.startupSeconds": (
        700,
        probe(140, "startupProbe failureThreshold")
        | {f"{HEAD_RAY} env RAY_DASHBOARD_STARTUP_TIMEOUT_S value": "700"}
        | {f"{HEAD_RAY} env RAY_DASHBOARD_SUBPROCESS_MODULE_WAIT_READY_TIMEOUT value": "700"},
    ),
    "probes.timeoutSeconds": (11, probe(11, "startupProbe timeoutSeconds", "livenessProbe timeoutSeconds")),
    "probes.livenessFailures": (31, probe(31, "livenessProbe failureThreshold")),
    **claim("data"),
    **claim("runs"),
    **claim("cache"),
    "storage.upload": ("s3://b/p", each(("RayJob/evaluate", "RayJob/export"), "spec entrypoint", re.compile("--upload 's3://b/p'"))),
    "secrets.wandb.existingSecret": ("wb", secret_variable("WANDB_API_KEY", "wb", "k1")),
    "secrets.wandb.key": ("k1", secret_variable("WANDB_API_KEY", "wb", "k1")),
    "secrets.huggingface.existingSecret": ("hub", secret_variable("HF_TOKEN", "hub", "k2")),
    "secrets.huggingface.key": ("k2", secret_variable("HF_TOKEN", "hub", "k2")),
    "secrets.upload.existingSecret": ("bucket", {f"{HEAD_RAY} envFrom 0 secretRef name": "bucket"}),
    "auth.existingSecret": ("token", {f"{CLUSTER} authOptions secretName": "token"}),
    "serviceAccount.name": (
        "cloud",
        {
            "ServiceAccount/cloud kind": "ServiceAccount",
            f"{POOL} serviceAccountName": "cloud",
            f"{HEAD} serviceAccountName": "cloud-head",
        },
    ),
    "serviceAccount.annotations": ({"role": "r"}, {"ServiceAccount/cloud-head metadata annotations role": "r"}),
    "networkPolicy.ingress.operator.namespace": ("ray", {OPERATOR_NAMESPACE: "ray"}),
    "networkPolicy.ingress.operator.podLabels": ({"a": "b"}, {f"{OPERATOR} podSelector matchLabels a": "b"}),
    "networkPolicy.egress.dns": (ANYWHERE, {"NetworkPolicy/other spec egress 1 to": ANYWHERE}),
    "networkPolicy.ingress.dashboard": (ANYWHERE, {f"{HEAD_POLICY} ingress 0 from 1": ANYWHERE[0]}),
    "networkPolicy.ingress.metrics": (ANYWHERE, {"NetworkPolicy/other spec ingress 1 ports 0 port": 8080}),
    "networkPolicy.egress.cidrs": (["10.1.0.0/16"], {"NetworkPolicy/other spec egress 2 to": block("10.1.0.0/16")}),
    "networkPolicy.egress.kubernetesApi": (["10.2.0.1/32"], {f"{HEAD_POLICY} egress 0 to": block("10.2.0.1/32")}),
    "networkPolicy.egress.extra": ([{"ports": [{"port": 9}]}], {"NetworkPolicy/other spec egress 3 ports 0 port": 9}),
    "priorityClass.create": (True, {"PriorityClass/urgent kind": "PriorityClass"}),
    "priorityClass.name": ("urgent", each((HEAD, SUBMITTER), "priorityClassName", "urgent")),
    "priorityClass.value": (7, {"PriorityClass value": 7}),
    "podDisruptionBudget.enabled": (False, {"PodDisruptionBudget": ABSENT}),
    "podMonitor.enabled": (True, {"PodMonitor kind": "PodMonitor"}),
    "podMonitor.interval": ("9s", {"PodMonitor spec podMetricsEndpoints 0 interval": "9s"}),
    "podMonitor.labels": ({"team": "a"}, {"PodMonitor metadata labels team": "a"}),
    "grafanaDashboard.enabled": (True, {"ConfigMap/other-dashboard kind": "ConfigMap"}),
    "grafanaDashboard.labels": ({"team": "b"}, {"ConfigMap/other-dashboard metadata labels team": "b"}),
    "extraEnv": ([{"name": "OF_ALL", "value": "1"}], each((HEAD_RAY, WORKER), "env OF_ALL value", "1")),
    "extraVolumes": (
        [{"name": "of-all", **A_VOLUME}], each((HEAD, POOL), "volumes of-all emptyDir", A_VOLUME["emptyDir"])
    ),
    "extraVolumeMounts": (
        [{"name": "of-all", "mountPath": "/etc/ssl/certs"}],
        each((HEAD_RAY, WORKER), "volumeMounts of-all mountPath", "/etc/ssl/certs"),
    ),
    "podLabels": ({"team": "c"}, each(PODS, "metadata labels team", "c")),
    "podAnnotations": ({"note": "d"}, each(PODS, "metadata annotations note", "d")),
}  # fmt: skip

TWO = ("RayCluster", "RayJob/train")
# An object of every kind that the chart makes.
EVERY_KIND: Values = {
    "serve": {"enabled": True},
    "priorityClass": {"create": True, "name": "urgent"},
    "podMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
    "networkPolicy": {"ingress": {"metrics": ANYWHERE}},
    "grafanaDashboard": {"enabled": True},
}
OWN: Values = {"mode": "ephemeral"}
ONE_JOB: Values = {
    "mode": "ephemeral",
    "autoscaling": {"enabled": False},
    "stages": {
        **{name: {"enabled": False} for name in ("convert", "train", "evaluate")},
        "export": {"first": ["convert", "train", "evaluate"]},
    },
}
GROUPS: dict[str, Group] = {
    "shared cluster": Group(SHARED),
    "on all objects": Group(
        {
            "nameOverride": ("judges", each(TWO, "metadata labels app.kubernetes.io/name", "judges")),
            "commonLabels": ({"team": "e"}, each(TWO, "metadata labels team", "e")),
            "commonAnnotations": ({"note": "f"}, each(TWO, "metadata annotations note", "f")),
        },
        base=EVERY_KIND,
    ),
    "objects of the user's": Group(
        {
            "extraObjects": (
                [EXTRA_OBJECT, EXTRA_TEXT],
                {
                    "ConfigMap/judge-as-object data recipe": "qwen3-14b-8x80g",
                    "ConfigMap/judge-as-text data recipe": "qwen3-14b-8x80g",
                },
            )
        }
    ),
    "image by digest": Group(
        {"image.digest": (DIGEST, {f"{HEAD_RAY} image": f"ghcr.io/pairwise-rm/pairwise-rm@{DIGEST}"})}
    ),
    "inline recipe": Group(
        {
            "recipe.inline": (
                {"name": "mine", "model": {"path": "Qwen/Qwen3-4B"}, "data": {"configs": {"type": "huggingface"}}},
                {"ConfigMap/judge-recipe data train.yaml model path": "Qwen/Qwen3-4B"},
            )
        },
        beside={"recipe": {"name": ""}},
    ),
    "one RayJob after another on clusters of their own": Group(
        {"mode": ("ephemeral", {"RayCluster": ABSENT, "RayJob/train spec rayClusterSpec rayVersion": "2.56.0"})}
    ),
    "batch": Group(
        {
            "batch.backoffLimit": (3, {"RayJob/train spec backoffLimit": 3}),
            "batch.preRunningDeadlineSeconds": (900, {"RayJob/train spec preRunningDeadlineSeconds": 900}),
            "batch.suspend": (True, {"RayJob/train spec suspend": True}),
            "batch.ttlSecondsAfterFinished": (60, {"RayJob/train spec ttlSecondsAfterFinished": 60}),
            "batch.volcano.queueName": ("v", {"RayJob/train metadata labels volcano.sh/queue-name": "v"}),
        },
        base=OWN,
    ),
    "deletion rules": Group(
        {
            "batch.shutdownAfterJobFinishes": (False, {"RayJob/train spec shutdownAfterJobFinishes": ABSENT}),
            "batch.deletionRules": ([RULE], {"RayJob/train spec deletionStrategy deletionRules 0": RULE}),
        },
        base=OWN,
    ),
    "kueue": Group(
        {
            "batch.kueue.queueName": ("judges", {"RayJob/export metadata labels kueue.x-k8s.io/queue-name": "judges"}),
            "batch.kueue.priorityClass": (
                "judges-high", {"RayJob/export metadata labels kueue.x-k8s.io/priority-class": "judges-high"}
            ),
        },
        base=ONE_JOB,
    ),
    "fixed size": Group(
        {
            "autoscaling.enabled": (False, {f"{CLUSTER} enableInTreeAutoscaling": False}),
            "poolDefaults.replicas": (3, {f"{GROUP} replicas": 3, f"{GROUP} maxReplicas": 3}),
        }
    ),
    "no stage": Group(
        {f"stages.{name}.enabled": (False, {f"RayJob/{name}": ABSENT}) for name in STAGES}
    ),
    **{
        f"{name} in the RayJob of {after}": Group(
            {
                f"stages.{after}.first": (
                    [name],
                    {f"RayJob/{after} spec entrypoint": re.compile(f"stage {name} .* && pairwise-rm stage {after} ")},
                )
            },
            base={"stages": {name: {"enabled": False}}},
        )
        for name, after in pairwise(STAGES)
    },
    "submission without a pod": Group(
        {"submission.mode": ("HTTPMode", {"RayJob/train spec submissionMode": "HTTPMode", SUBMITTER: ABSENT})}
    ),
    "claims that are there": Group(
        {
            f"storage.{volume}.existingClaim": (
                f"my-{volume}",
                {
                    f"{HEAD} volumes {volume} persistentVolumeClaim claimName": f"my-{volume}",
                    f"PersistentVolumeClaim/judge-{volume}": ABSENT,
                },
            )
            for volume in VOLUMES
        }
    ),
    "claims for one node": Group(
        {
            f"storage.{volume}.accessMode": (
                "ReadWriteOnce",
                {f"PersistentVolumeClaim/judge-{volume} spec accessModes 0": "ReadWriteOnce"},
            )
            for volume in VOLUMES
        },
        beside={"head": {"gpuNodes": "allow"}},
    ),
    "egress by host": Group(
        {
            "networkPolicy.egress.hosts": (
                ["huggingface.co", "*.hf.co"],
                {
                    "CiliumNetworkPolicy spec egress 1 toFQDNs 0 matchName": "huggingface.co",
                    "CiliumNetworkPolicy spec egress 1 toFQDNs 1 matchPattern": "*.hf.co",
                },
            )
        }
    ),
    "the Kubernetes API on Cilium": Group(
        {"networkPolicy.egress.cilium": (True, {"CiliumNetworkPolicy spec egress 0 toEntities": ["kube-apiserver"]})}
    ),
    "private networks": Group(
        {
            "networkPolicy.egress.except": (
                ["10.0.0.0/9", "fd00::/8"],
                {
                    "NetworkPolicy/judge spec egress 2 to 0 ipBlock": {"cidr": "0.0.0.0/0", "except": ["10.0.0.0/9"]},
                    "NetworkPolicy/judge spec egress 2 to 1 ipBlock": {"cidr": "::/0", "except": ["fd00::/8"]},
                },
            )
        }
    ),
    "no egress": Group({"networkPolicy.egress.https": (False, {"NetworkPolicy/judge spec egress 2": ABSENT})}),
    "as little as possible": Group(
        {
            "networkPolicy.enabled": (False, {"NetworkPolicy/judge": ABSENT, "NetworkPolicy/judge-head": ABSENT}),
            "auth.token": (False, {f"{CLUSTER} authOptions": ABSENT, "Pod spec containers 0 env TOKEN": ABSENT}),
            "serviceAccount.create": (False, {"ServiceAccount/judge": ABSENT, f"{POOL} serviceAccountName": "default"}),
        }
    ),
    "serving": Group(
        {
            "serve.enabled": (
                True,
                {
                    "RayService/judge-judge kind": "RayService",
                    "NetworkPolicy/judge-head spec ingress 0 ports 1 port": 8000,
                },
            ),
            "serve.model": ("/mnt/runs/a/export", {f"{SERVED_APP} args model": "/mnt/runs/a/export"}),
            "serve.pool": ("big", {f"{SERVED} groupName": "big"}),
            "serve.tensorParallel": (
                2,
                {f"{SERVED_APP} args tensor_parallel": 2, f"{SERVED} rayStartParams num-gpus": "2"},
            ),
            "serve.resources": (
                resources(65),
                {f"{SERVED} template spec containers ray-worker resources requests cpu": "65m"},
            ),
            "serve.vllm": ({"max_num_seqs": 7}, {f"{SERVED_APP} args vllm max_num_seqs": 7}),
            "serve.autoscaling.minReplicas": (2, {f"{SERVED_SCALING} min_replicas": 2}),
            "serve.autoscaling.maxReplicas": (3, {f"{SERVED_SCALING} max_replicas": 3, f"{SERVED} maxReplicas": 3}),
            "serve.autoscaling.targetOngoingRequests": (9, {f"{SERVED_SCALING} target_ongoing_requests": 9}),
            "serve.autoscaling.downscaleDelaySeconds": (67, {f"{SERVED_SCALING} downscale_delay_s": 67}),
            "networkPolicy.ingress.serve": (
                block("10.3.0.0/16"),
                {"NetworkPolicy/judge spec ingress 1 from": block("10.3.0.0/16")},
            ),
        },
        base={"pools": {"big": {}}},
    ),
    "workers that stay": Group(
        {"podDisruptionBudget.workers": (True, {"PodDisruptionBudget/judge-workers spec minAvailable": 1})}
    ),
    "affinity of the head": Group({"head.affinity": (AFFINITY, {f"{HEAD} affinity": AFFINITY})}),
    "pools": Group(
        {"pools": ({"gpu": None, "big": {}}, {GROUP: ABSENT, f"{CLUSTER} workerGroupSpecs big replicas": 0})}
    ),
}  # fmt: skip

# Not to be seen in a rendering: whether a live cluster is looked at.
SHOWN_BY = {
    "checks.cluster": "test_refusals.py and tests/e2e/test_bad_input.py",
    "checks.nodes": "tests/e2e/test_bad_input.py",
    "checks.operator": "tests/e2e/test_bad_input.py",
}
