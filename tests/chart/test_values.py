"""Every value does what it says: `value_table.py`, held to values.yaml, so that none is forgotten."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from tests.chart.rendering import at, nested, objects, text
from tests.chart.value_table import CLUSTER, GROUPS, POOL_ROWS, SHOWN_BY, Group, stands
from tests.paths import CHART

VALUES = yaml.safe_load((CHART / "values.yaml").read_text())
ROWS = [pytest.param(group, path, id=path) for group in GROUPS.values() for path in group.rows]


def paths(values: dict[str, Any], schema: dict[str, Any], prefix: str = "") -> Iterator[str]:
    """Dotted paths of all values: a section is what the schema gives properties of its own."""
    for key, value in values.items():
        below = schema["properties"][key]
        if "properties" in below:
            yield from paths(value, below, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}"


def test_the_table_has_every_value_of_values_yaml_and_no_other() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())
    there = [path for group in GROUPS.values() for path in group.rows] + list(SHOWN_BY)
    assert len(there) == len(set(there))
    assert set(there) ^ set(paths(VALUES, schema)) == set()


@pytest.mark.parametrize(("group", "path"), ROWS)
def test_a_value_shows_in_the_rendering_and_not_without_it(group: Group, path: str) -> None:
    setting, seen = group.rows[path]
    default: Any = VALUES
    for key in path.split("."):
        default = default[key]
    assert setting != default
    for place, wanted in seen.items():
        assert stands(group.after(), place, wanted), f"{place}: {at(group.after(), place)}"
        assert not stands(group.before(), place, wanted)


def test_a_pool_takes_every_key_that_the_defaults_of_all_pools_have() -> None:
    base = {"recipe": {"name": "qwen3-8b-8x40g"}}
    settings = nested({path: setting for path, (setting, _) in POOL_ROWS.items()})
    of_all, of_one = ({**base, "poolDefaults": settings}, {**base, "pools": {"gpu": settings}})
    there, wanted = (at(objects(text((), values)), f"{CLUSTER} workerGroupSpecs") for values in (of_one, of_all))
    assert there == wanted


LABELS = {
    ("gpu-operator", "a100-40gb"): {"nvidia.com/gpu.product": "NVIDIA-A100-SXM4-40GB"},
    ("gpu-operator", "a100-80gb"): {"nvidia.com/gpu.product": "NVIDIA-A100-SXM4-80GB"},
    ("gke", "a100-40gb"): {"cloud.google.com/gke-accelerator": "nvidia-tesla-a100"},
    ("gke", "a100-80gb"): {"cloud.google.com/gke-accelerator": "nvidia-a100-80gb"},
    ("eks", "a100-40gb"): {"node.kubernetes.io/instance-type": "p4d.24xlarge"},
    ("eks", "a100-80gb"): {"node.kubernetes.io/instance-type": "p4de.24xlarge"},
    ("aks", "a100-40gb"): {"node.kubernetes.io/instance-type": "Standard_ND96asr_v4"},
    ("aks", "a100-80gb"): {"node.kubernetes.io/instance-type": "Standard_ND96amsr_A100_v4"},
    **{(platform, "none"): {} for platform in ("gpu-operator", "gke", "eks", "aks", "none")},
}
GPU_TAINT = {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}
AKS_TAINT = {"key": "sku", "operator": "Equal", "value": "gpu", "effect": "NoSchedule"}


def test_each_platform_has_its_nodes_labels_and_taints_and_a_pool_adds_its_own() -> None:
    own = {"nodeSelector": {"zone": "a"}, "tolerations": [{"key": "own", "operator": "Exists"}]}
    pools = {f"{p}-{gpu}": {"platform": p, "gpuProduct": gpu, **own} for p, gpu in LABELS}
    rendering = objects(text((), {"pools": {"gpu": None, **pools}}))
    for (platform, product), labels in LABELS.items():
        spec = at(rendering, f"{CLUSTER} workerGroupSpecs {platform}-{product} template spec")
        assert spec["nodeSelector"] == {**labels, "zone": "a"}
        taints = {"none": [], "aks": [GPU_TAINT, AKS_TAINT]}.get(platform, [GPU_TAINT])
        assert spec["tolerations"] == [*taints, {"key": "own", "operator": "Exists"}]
