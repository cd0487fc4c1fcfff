"""The values that `pairwise-rm plan --values` prints are values of the chart."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from pairwise_rm.plan.chart_values import as_overrides, chart_values
from pairwise_rm.plan.estimate import estimate
from pairwise_rm.plan.layout_search import search
from pairwise_rm.plan.throughput import find_gpu
from pairwise_rm.recipe.load import load_recipe, recipe_yaml
from tests.chart.rendering import rendered


@pytest.mark.parametrize(
    ("name", "gpu", "count"),
    [
        ("qwen3-8b-lora-1x80g", "a100-80gb", (1, 1)),
        ("qwen3-8b-8x40g", "h200", (1, 2)),
        ("qwen3-14b-8x80g", "l40s", (1, 2)),  # LoRA, with keys of verl's
        ("qwen3-32b-8x80g", "a100-80gb", (2, 8)),
    ],
)
def test_what_a_search_finds_renders(name: str, gpu: str, count: tuple[int, int]) -> None:
    kind = find_gpu(gpu)
    found = search(estimate(load_recipe(name), kind), [count])[0]
    overrides = as_overrides(found.changes)
    plan = estimate(load_recipe(name, overrides), kind)
    values = yaml.safe_load(chart_values(name, plan, overrides))
    objects = rendered([], values)
    pool = objects["RayCluster"][0]["spec"]["workerGroupSpecs"][0]
    assert pool["maxReplicas"] == count[0]
    limits = pool["template"]["spec"]["containers"][0]["resources"]["limits"]
    assert int(limits["nvidia.com/gpu"]) == count[1]


def test_a_recipe_of_ones_own_is_written_out(tmp_path: Path) -> None:
    file = tmp_path / "own.yaml"
    file.write_text(recipe_yaml(load_recipe("qwen3-8b-8x40g")))
    plan = estimate(load_recipe(str(file)), find_gpu("h100-80gb"))
    values = yaml.safe_load(chart_values(str(file), plan))
    assert values["recipe"]["name"] == ""
    assert rendered([], values)["RayCluster"]
