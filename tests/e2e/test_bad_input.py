"""Values that are wrong only on this cluster are refused by `helm install`, in a sentence that names the value.

Nothing is installed: helm asks the real API server, and the chart fails while it renders.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
import yaml

from tests.chart.chart_sentences import sentences, templates
from tests.chart.rendering import nested
from tests.e2e.kube import Namespace, new_namespace, run, tool
from tests.paths import CHART

USER = "pairwise-rm-e2e-installer"
OWNER = "meta.helm.sh/release-name"
ON_ANY_NODE = {f"storage.{volume}.accessMode": "ReadWriteMany" for volume in ("data", "runs", "cache")}
HEAD = {"rayStartParams": {}, "template": {"spec": {"containers": [{"name": "ray-head", "image": "none"}]}}}
# Messages that need a cluster without something that ours has: see tests/chart/test_refusals.py; those that need
# Kueue: see tests/e2e_gitops/test_kueue.py; and one that needs a RayJob at work: see tests/chart/test_attempt.py.
ELSEWHERE = re.compile(
    r"^(KubeRay|podMonitor|networkPolicy.egress|batch\.kueue)|has no default class|of `pairwise-rm retry`"
)


class Case(NamedTuple):
    settings: dict[str, Any]
    sentence: str
    release: str = "judge"


CASES = {
    # ---- accounts and classes of the pods
    "a service account that is not there": Case(
        {"serviceAccount.create": False, "serviceAccount.name": "cloud"},
        'serviceAccount.name: namespace {} has no service account "cloud"',
    ),
    "a runtime class that is not there": Case(
        {"head.runtimeClassName": "gvisor"}, 'head.runtimeClassName: this cluster has no RuntimeClass "gvisor"'
    ),
    # ---- storage
    "a storage class that is not there": Case(
        {"storage.runs.storageClass": "fast"},
        'storage.runs.storageClass: this cluster has no class "fast"; there are: ',
    ),
    "a claim that is not there": Case(
        {"storage.runs.existingClaim": "mine"}, 'storage.runs.existingClaim: namespace {} has no claim "mine"'
    ),
    "a claim that is too small": Case(
        {"storage.data.existingClaim": "small", "storage.data.size": "5Gi"},
        "storage.data.existingClaim: small has 1Gi, less than storage.data.size, 5Gi; lower that, or take a larger",
    ),
    "a claim that nobody's release made": Case(
        {},
        "storage.data: a claim other-data is there already; set storage.data.existingClaim=other-data to use it, "
        "or fullnameOverride",
        "other",
    ),
    "a claim that would shrink": Case(
        {"storage.runs.size": "2Gi"},
        "storage.runs.size: 2Gi is less than the 3Gi of claim kept-runs, which cannot shrink",
        "kept",
    ),
    "a claim that cannot grow": Case(
        {"storage.runs.size": "4Gi"},
        "storage.runs.size: claim kept-runs has 3Gi and its class none cannot grow volumes to 4Gi; keep 3Gi",
        "kept",
    ),
    "a claim of another class": Case(
        {"storage.runs.size": "3Gi", "storage.runs.storageClass": "fast"},
        "storage.runs.storageClass: claim kept-runs is of class none, which cannot change to fast",
        "kept",
    ),
    # ---- secrets
    "a W&B secret that is not there": Case(
        {"secrets.wandb.existingSecret": "wandb"}, 'secrets.wandb.existingSecret: namespace {} has no secret "wandb"'
    ),
    "a secret without the key": Case(
        {"secrets.huggingface.existingSecret": "keys"},
        'secrets.huggingface.existingSecret: secret "keys" has no key "HF_TOKEN"; it has: token, user',
    ),
    "a token secret without the token": Case(
        {"auth.existingSecret": "keys"}, 'auth.existingSecret: secret "keys" has no key "auth_token"'
    ),
    "an upload secret that is not there": Case(
        {"secrets.upload.existingSecret": "s3"}, 'secrets.upload.existingSecret: namespace {} has no secret "s3"'
    ),
    "a registry secret that is not there": Case(
        {"image.pullSecrets": ["registry"]}, 'image.pullSecrets: namespace {} has no secret "registry"'
    ),
    # ---- priority
    "a priority class that is not there": Case(
        {"priorityClass.name": "urgent"},
        'priorityClass.name: this cluster has no PriorityClass "urgent"; name one that is there, or set '
        "priorityClass.create=true to make one",
    ),
    "a pool's priority class that is not there": Case(
        {"poolDefaults.priorityClassName": "urgent"},
        'pools.gpu.priorityClassName: this cluster has no PriorityClass "urgent"',
    ),
    # ---- the operator
    "an operator in another namespace": Case(
        {"networkPolicy.ingress.operator.namespace": "elsewhere"},
        "networkPolicy.ingress.operator: no Deployment of namespace elsewhere has pods with the labels "
        '{"app.kubernetes.io/name":"kuberay-operator"}, so the policies would keep the KubeRay operator from the '
        "dashboard; set namespace and podLabels to its own",
    ),
    "an operator with other labels": Case(
        {"networkPolicy.ingress.operator.podLabels": {"app": "kuberay"}},
        'has pods with the labels {"app":"kuberay",',
    ),
    # ---- names
    "the name of another release's cluster": Case(
        {"fullnameOverride": "busy"},
        "fullnameOverride: a RayCluster busy is there already and belongs to release first; set another name",
    ),
    # ---- nodes
    "no node with the labels of the pool": Case(
        {"poolDefaults.nodeSelector": {"example.com/gpu": "a100"}},
        'pools.gpu: none of the .* nodes has the labels {"example.com/gpu":"a100"}; set platform, gpuProduct and '
        "nodeSelector of the pool, or checks.nodes=false where nodes come with their pods",
    ),
    "no node with so many GPUs": Case(
        {"poolDefaults.gpuResource": "example.com/gpu"},
        "pools.gpu.gpus: 1 wanted, the largest such node has 0 of example.com/gpu; lower it, or checks.nodes=false",
    ),
    "no node for the head": Case(
        {"head.gpuNodes": "forbid", "head.gpuNodeLabels": ["kubernetes.io/hostname"], **ON_ANY_NODE},
        "head.gpuNodes: forbid leaves none of the .* nodes for the head; set it to avoid, or checks.nodes=false",
    ),
}

THERE: list[dict[str, Any]] = [
    {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": name, "annotations": {OWNER: owner} if owner else {}},
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "storageClassName": "none",  # never bound
            "resources": {"requests": {"storage": size}},
        },
    }
    for name, owner, size in (("small", None, "1Gi"), ("other-data", None, "1Gi"), ("kept-runs", "kept", "3Gi"))
] + [
    {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "keys"},
        "stringData": {"token": "not a token", "user": "nobody"},
    },
    {
        "apiVersion": "ray.io/v1",
        "kind": "RayCluster",
        "metadata": {"name": "busy", "annotations": {OWNER: "first"}},
        "spec": {"suspend": True, "headGroupSpec": HEAD},
    },
    # An account with all rights in this namespace and none outside of it.
    {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "Role",
        "metadata": {"name": "installer"},
        "rules": [{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}],
    },
    {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        "metadata": {"name": "installer"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "installer"},
        "subjects": [{"kind": "User", "name": USER}],
    },
]


@pytest.fixture(scope="module")
def there() -> Iterator[Namespace]:
    """A namespace with the objects that the cases need."""
    with new_namespace("e2e-bad-input") as namespace:
        namespace.kubectl("apply", "--filename", "-", stdin=yaml.safe_dump_all(THERE))
        yield namespace


def install(
    namespace: Namespace, settings: dict[str, Any], *options: str, release: str = "judge", code: int | None = 0
) -> str:
    """Helm's output for an installation of the kind preset with further values, as a dry run on the server."""
    command = (tool("helm"), "--namespace", namespace.name, "install", release, str(CHART), "--dry-run=server")
    values = (f"--values={CHART / 'values-kind.yaml'}", "--values=-")
    said = run(*command, *values, *options, stdin=json.dumps(nested(settings)), code=code, errors=True)
    return re.sub(r"\s+", " ", said)


SAID: dict[str, str] = {}


@pytest.mark.parametrize("name", CASES)
def test_bad_input_is_refused_in_a_sentence(there: Namespace, name: str) -> None:
    case = CASES[name]
    SAID[name] = install(there, case.settings, release=case.release, code=1)
    wanted = re.escape(case.sentence.replace("{} has", f"{there.name} has")).replace(r"\.\*", ".*")
    assert re.search(wanted, SAID[name]), SAID[name]


def test_each_sentence_of_the_chart_that_needs_a_cluster_is_shown_by_a_case(there: Namespace) -> None:
    for name in CASES.keys() - SAID.keys():
        SAID[name] = install(there, CASES[name].settings, release=CASES[name].release, code=1)
    shown = "\n".join(SAID.values())
    missing = [
        name
        for name, pattern in sentences(file.name for file in templates() if file.name.startswith("_check_cluster"))
        if not re.search(pattern, shown) and not ELSEWHERE.search(name.partition(": ")[2])
    ]
    assert missing == []


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"storage.data.existingClaim": "small", "storage.data.size": "1Gi"},
        {"checks.nodes": False, "poolDefaults.nodeSelector": {"example.com/gpu": "a100"}},
        {"checks.cluster": False, "storage.runs.storageClass": "fast"},
        {"checks.cluster": False, "poolDefaults.nodeSelector": {"example.com/gpu": "a100"}},
        {"checks.operator": False, "networkPolicy.ingress.operator.namespace": "elsewhere"},
        {"networkPolicy.ingress.operator.namespace": ""},
    ],
    ids=[
        "the preset",
        "a claim that is large enough",
        "unchecked nodes",
        "unchecked class",
        "unchecked cluster",
        "unchecked operator",
        "an operator of any namespace",
    ],
)
def test_good_input_and_what_is_not_to_be_checked_is_taken(there: Namespace, settings: dict[str, Any]) -> None:
    assert "STATUS: pending-install" in install(there, settings)


def test_somebody_who_may_not_read_classes_and_nodes_is_told_which_check_to_leave_out(there: Namespace) -> None:
    as_user = f"--kube-as-user={USER}"
    refused = install(there, {}, as_user, code=1)
    assert "set checks.cluster=false where you may not read" in refused
    assert "STATUS: pending-install" in install(there, {"checks.cluster": False}, as_user)


def test_a_namespace_that_helm_is_yet_to_make_is_checked_too(there: Namespace) -> None:
    to_be = Namespace("pairwise-rm-e2e-yet-to-be-made")
    said = install(to_be, {"storage.runs.storageClass": "fast"}, "--create-namespace", code=1)
    assert 'storage.runs.storageClass: this cluster has no class "fast"' in said


@pytest.fixture
def no_default_class() -> Iterator[None]:
    """Only on a cluster that was started for these tests."""
    if not os.environ.get("PAIRWISE_RM_CLUSTER_IS_OURS"):
        pytest.skip("the default storage class of somebody's cluster is left alone")
    annotation = "storageclass.kubernetes.io/is-default-class"
    classes = json.loads(run("kubectl", "get", "storageclasses", "-o", "json"))["items"]
    [default] = [
        item["metadata"]["name"] for item in classes if item["metadata"].get("annotations", {}).get(annotation)
    ]
    run("kubectl", "annotate", "--overwrite", "storageclass", default, f"{annotation}=false")
    try:
        yield
    finally:
        run("kubectl", "annotate", "--overwrite", "storageclass", default, f"{annotation}=true")


def test_a_cluster_without_a_default_class_is_told(there: Namespace, no_default_class: None) -> None:
    sentence = "storage.data.storageClass: is empty and this cluster has no default class; there are: standard"
    assert sentence in install(there, {}, code=1)
