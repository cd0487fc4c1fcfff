"""values.schema.json knows every value, and helm refuses what is not one in a sentence that says where it stands."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.chart.rendering import nested, refusal
from tests.paths import CHART

SCHEMA = json.loads((CHART / "values.schema.json").read_text())
# Kubernetes' own shapes that the API server knows, and mappings in which any name goes.
OPEN = {
    "/properties/global",
    *(f"/definitions/affinity/properties/{kind}" for kind in ("nodeAffinity", "podAffinity", "podAntiAffinity")),
    *(f"/definitions/networkPolicyPeer/properties/{key}" for key in ("namespaceSelector", "podSelector", "ipBlock")),
    "/definitions/variable/properties/valueFrom",
    "/definitions/volume",
    "/definitions/container",
    "/definitions/topologySpreadConstraint/properties/labelSelector",
    "/definitions/egressRule/properties/ports/items",
    *(f"/definitions/{form}.TrainConfig/properties/verl" for form in ("recipe", "overrides")),
    *(f"/definitions/{form}.PromptConfig/properties/chat_template_kwargs" for form in ("recipe", "overrides")),
}


def schemas(schema: Any, path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every schema within this one, with its JSON pointer."""
    if isinstance(schema, dict):
        yield path, schema
        for key, below in schema.items():
            yield from schemas(below, f"{path}/{key}")
    elif isinstance(schema, list):
        for index, below in enumerate(schema):
            yield from schemas(below, f"{path}/{index}")


def values(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every value, which is what has no keys of its own in values.yaml."""
    for key, below in schema["properties"].items():
        if "properties" in below:
            yield from values(below, f"{path}{key}.")
        else:
            yield f"{path}{key}", below


def test_no_object_takes_a_key_that_it_does_not_know() -> None:
    objects = {path: schema for path, schema in schemas(SCHEMA) if schema.get("type") == "object"}
    taking = {path for path, schema in objects.items() if not closed(schema)}
    assert taking == OPEN


def closed(schema: dict[str, Any]) -> bool:
    return schema.get("maxProperties") == 0 or schema.get("additionalProperties", True) is not True


def test_every_key_has_a_sentence() -> None:
    keys = {
        f"{path}/{name}": key
        for path, schema in schemas(SCHEMA)
        if not path.endswith("/properties")
        for name, key in schema.get("properties", {}).items()
    }
    assert len(keys) > 300
    assert [path for path, key in keys.items() if "description" not in key] == []


def test_every_value_has_a_type_and_a_sentence() -> None:
    for path, schema in values(SCHEMA):
        assert schema["description"][0].isupper() or schema["description"][0] in "`'", path
        assert {"type", "enum", "anyOf", "$ref"} & set(schema), path


@pytest.mark.parametrize("form", ["recipe", "overrides"])
def test_the_recipe_is_the_package_s_own(form: str) -> None:
    sections = {name for name in SCHEMA["definitions"] if name.startswith(f"{form}.")}
    assert f"{form}.Recipe" in sections
    assert all(SCHEMA["definitions"][name]["additionalProperties"] is False for name in sections)
    assert all("required" not in SCHEMA["definitions"][name] for name in sections if form == "overrides")


# ---- what helm says ------------------------------------------------------------------------------

BAD: dict[str, tuple[Any, str]] = {
    # unknown keys, at every depth
    "haed": ({}, "at '': additional properties 'haed' not allowed"),
    "image.repo": ("x", "at '/image': additional properties 'repo' not allowed"),
    "stages.tune": ({}, "at '/stages': additional properties 'tune' not allowed"),
    "poolDefaults.rdma.cuont": (1, "at '/poolDefaults/rdma': additional properties 'cuont' not allowed"),
    "storage.logs": ({}, "at '/storage': additional properties 'logs' not allowed"),
    "secrets.wandb.token": ("abc", "at '/secrets/wandb': additional properties 'token' not allowed"),
    "batch.kueue.queue": ("x", "at '/batch/kueue': additional properties 'queue' not allowed"),
    "head.tolerations": ([{"efect": "x"}], "at '/head/tolerations/0': additional properties 'efect' not allowed"),
    "head.resources": ({"request": {}}, "at '/head/resources': additional properties 'request' not allowed"),
    "head.affinity": ({"nodeAfinity": {}}, "at '/head/affinity': additional properties 'nodeAfinity' not allowed"),
    "pools.big.gpu": (8, "at '/pools/big': additional properties 'gpu' not allowed"),
    # of the recipe
    "recipe.overrides.modle": ({}, "at '/recipe/overrides': additional properties 'modle' not allowed"),
    "recipe.overrides.train.stepz": (3, "at '/recipe/overrides/train': additional properties 'stepz' not allowed"),
    "recipe.overrides.train.kl_loss": (
        {"coeff": 1},
        "at '/recipe/overrides/train/kl_loss': additional properties 'coeff' not allowed",
    ),
    "recipe.overrides.train.learning_rate": (
        "fast",
        "at '/recipe/overrides/train/learning_rate': got string, want number",
    ),
    "recipe.overrides.train.steps": (0, "at '/recipe/overrides/train/steps': minimum: got 0, want 1"),
    "recipe.overrides.device": ("tpu", "at '/recipe/overrides/device': value must be one of 'cuda', 'cpu'"),
    "recipe.inline": ({"name": "x", "train": {"stepz": 3}}, "at '/recipe/inline': missing property 'model'"),
    "recipe.inline.train": ({"stepz": 3}, "at '/recipe/inline/train': additional properties 'stepz' not allowed"),
    # null, by which Helm removes a key
    "stages.convert": (None, "at '/stages': missing property 'convert'"),
    "podDisruptionBudget": (None, "at '': missing property 'podDisruptionBudget'"),
    "poolDefaults.resources": (None, "at '/poolDefaults': missing property 'resources'"),
    # enums
    "mode": ("both", "at '/mode': value must be one of 'shared', 'ephemeral'"),
    "image.pullPolicy": ("Sometimes", "at '/image/pullPolicy': value must be one of 'Always', 'IfNotPresent', 'Never'"),
    "submission.mode": ("SidecarMode", "at '/submission/mode': value must be one of 'K8sJobMode', 'HTTPMode'"),
    "head.gpuNodes": ("never", "at '/head/gpuNodes': value must be one of 'forbid', 'avoid', 'allow'"),
    "poolDefaults.gpuProduct": ("h100", "at '/poolDefaults/gpuProduct': value must be one of 'a100-40gb', 'a100-80gb'"),
    "poolDefaults.platform": ("do", "at '/poolDefaults/platform': value must be one of 'gpu-operator', 'gke', 'eks'"),
    "storage.runs.accessMode": ("RWX", "at '/storage/runs/accessMode': value must be one of 'ReadWriteOnce', 'Re"),
    "stages.train.first": (["export"], "at '/stages/train/first/0': value must be 'convert'"),
    "autoscaling.upscalingMode": ("Fast", "at '/autoscaling/upscalingMode': value must be one of 'Default'"),
    "batch.deletionRules": (
        [{"policy": "DeleteAll", "condition": {}}],
        "at '/batch/deletionRules/0/policy': value must be one of 'DeleteCluster'",
    ),
    # types
    "fullnameOverride": (7, "at '/fullnameOverride': got number, want string"),
    "image.pullSecrets": ("key", "at '/image/pullSecrets': got string, want array"),
    "autoscaling.enabled": ("yes", "at '/autoscaling/enabled': got string, want boolean"),
    "auth.token": ("abc", "at '/auth/token': got string, want boolean"),
    "podLabels": ({"a": 1}, "at '/podLabels/a': got number, want string"),
    "head.env": ([{"value": "x"}], "at '/head/env/0': missing property 'name'"),
    "commonLabels": ({"a": True}, "at '/commonLabels/a': got boolean, want string"),
    "extraObjects": ([1], "at '/extraObjects/0': got number, want string or object"),
    "extraVolumes": ([{"name": "x"}], "at '/extraVolumes/0': minProperties: got 1, want 2"),
    "head.extraVolumeMounts": ([{"name": "x"}], "at '/head/extraVolumeMounts/0': missing property 'mountPath'"),
    "head.extraContainers": ([{"name": "x"}], "at '/head/extraContainers/0': missing property 'image'"),
    "poolDefaults.topologySpreadConstraints": (
        [{"maxSkew": 1, "whenUnsatisfiable": "DoNotSchedule"}],
        "at '/poolDefaults/topologySpreadConstraints/0': missing property 'topologyKey'",
    ),
    # patterns and ranges
    "image.digest": ("sha256:1", "at '/image/digest': 'sha256:1' does not match pattern"),
    "rayVersion": ("2", "at '/rayVersion': '2' does not match pattern"),
    "storage.runs.size": ("1 TB", "at '/storage/runs/size': '1 TB' does not match pattern"),
    "storage.cache.size": ("0Gi", "at '/storage/cache/size': '0Gi' does not match pattern"),
    "storage.data.size": (0, "at '/storage/data/size': minimum: got 0, want 1"),
    "storage.upload": ("bucket/x", "at '/storage/upload': 'bucket/x' does not match pattern"),
    "submission.resources": ({"limits": {"cpu": "two"}}, "at '/submission/resources/limits/cpu': 'two' does not match"),
    "poolDefaults.sharedMemory": ("lots", "at '/poolDefaults/sharedMemory': 'lots' does not match pattern"),
    "networkPolicy.egress.cidrs": (["all"], "at '/networkPolicy/egress/cidrs/0': 'all' does not match pattern"),
    "networkPolicy.egress.hosts": (["https://x.y"], "at '/networkPolicy/egress/hosts/0': 'https://x.y' does not match"),
    "nameOverride": ("a b", "at '/nameOverride': 'a b' does not match pattern"),
    "serviceAccount.name": ("Cloud", "at '/serviceAccount/name': 'Cloud' does not match pattern"),
    "poolDefaults.runtimeClassName": ("a_b", "at '/poolDefaults/runtimeClassName': 'a_b' does not match pattern"),
    "podMonitor.interval": ("often", "at '/podMonitor/interval': 'often' does not match pattern"),
    "poolDefaults.gpus": (-1, "at '/poolDefaults/gpus': minimum: got -1, want 0"),
    "probes.startupSeconds": (1, "at '/probes/startupSeconds': minimum: got 1, want 5"),
    "stages.train.gpuTimeout": (0, "at '/stages/train/gpuTimeout': minimum: got 0, want 1"),
}  # fmt: skip


@pytest.mark.parametrize("path", BAD)
def test_a_bad_value_is_refused_where_it_stands(path: str) -> None:
    # Helm names all that is wrong at once.
    assert BAD[path][1] in refusal(nested({path: setting for path, (setting, _) in BAD.items()}))


@pytest.mark.parametrize(
    ("section", "name", "setting"),
    [("pools", "GPU", {}), ("poolDefaults.nccl", "LEVEL", "1"), ("serve.vllm", "--max-num-seqs", 1)],
)
def test_a_bad_name_is_refused_where_it_stands(section: str, name: str, setting: Any) -> None:
    said = refusal(nested({section: {name: setting}}))
    assert f"at '/{section.replace('.', '/')}': additional properties '{name}' not allowed" in said
