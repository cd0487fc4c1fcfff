"""The chart's values for a plan, as `helm install --values` takes them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from pairwise_rm.plan.estimate import Estimate
from pairwise_rm.plan.throughput import GIB
from pairwise_rm.recipe.load import apply_overrides, shipped_recipes
from pairwise_rm.recipe.model import Recipe
from pairwise_rm.recipe.yaml_file import dump_yaml

_CPUS_A_GPU = 6  # as in the chart's own values files
_LIMIT = 1.3
"""A pod's memory limit over what is planned: page cache of checkpoints, Python's growth over days."""


def chart_values(name: str, plan: Estimate, overrides: Sequence[str] = ()) -> str:
    """YAML. A recipe that comes with the chart is named with what differs from it, another one is written out.

    Args:
        name: as the user gave the recipe, a shipped one's name or a file.
        plan: of the recipe with all that follows.
        overrides: `key=value`, the user's own and those of a search.
    """
    assert plan.gpu is not None
    layout, gpu = plan.layout, plan.gpu
    changed: dict[str, Any] = {}
    apply_overrides(changed, overrides, Recipe)
    recipe: dict[str, Any] = {"name": name}
    if name not in shipped_recipes():
        recipe = {"name": "", "inline": plan.recipe.model_dump(mode="json", exclude_unset=True)}
    elif changed:
        recipe["overrides"] = changed
    memory = _up(plan.host.total, 10)
    pool: dict[str, Any] = {
        "gpus": layout.gpus_per_node,
        "maxReplicas": layout.nodes,
        "gpuProduct": gpu.chart or "none",
        "resources": {
            "requests": {"cpu": str(_CPUS_A_GPU * layout.gpus_per_node), "memory": f"{memory}Gi"},
            "limits": {"memory": f"{_up(_LIMIT * plan.host.total, 10)}Gi"},
        },
    }
    if gpu.chart is None:
        pool["nodeSelector"] = {"nvidia.com/gpu.product": gpu.node_label}
    storage = {"runs": {"size": f"{_up(plan.storage.runs, 50)}Gi"}}
    if plan.storage.cache:
        storage["cache"] = {"size": f"{_up(2 * plan.storage.cache, 10)}Gi"}
    return dump_yaml({"recipe": recipe, "poolDefaults": pool, "storage": storage})


def as_overrides(changes: Mapping[str, Any]) -> list[str]:
    """`key=value` as the command line takes them."""
    return [f"{key}={_text(value)}" for key, value in changes.items()]


def _text(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {_text(item)}" for key, item in value.items()) + "}"
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def _up(size: float, step: int) -> int:
    """GiB, rounded up to a multiple of `step`."""
    return math.ceil(size / GIB / step) * step
