"""All renderings that must hold what every rendering must hold: presets, shipped recipes, and each group of values."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from pairwise_rm.recipe.load import load_recipe, shipped_recipes
from tests.chart.rendering import Values, text
from tests.chart.value_table import GROUPS
from tests.paths import CHART

PRESETS = {file.stem.removeprefix("values-"): file for file in sorted(CHART.glob("values-*.yaml"))}


def for_recipe(name: str) -> Values:
    """A shipped recipe on pools that just have what it takes, with a file where it wants one of the user's."""
    recipe = load_recipe(name)
    pool: Values = {"gpus": recipe.train.gpus_per_node, "maxReplicas": recipe.train.nodes}
    if recipe.device == "cpu":
        pool |= {"gpuResource": ""}
    source = recipe.data.configs
    users = source.type == "local" and not str(source.path).startswith(f"{recipe.model.path}/")
    overrides = {"data": {"configs": {"path": "/mnt/data/pairs.jsonl"}}} if users else {}
    return {"recipe": {"name": name, "overrides": overrides}, "poolDefaults": pool}


CASES: dict[str, tuple[tuple[Path, ...], Values]] = {
    "default": ((), {}),
    **{f"preset {name}": ((file,), {}) for name, file in PRESETS.items()},
    **{f"recipe {name}": ((), for_recipe(name)) for name in shipped_recipes()},
    "serving the judge of the release": ((), {"serve": {"enabled": True}}),
    **{f"values: {name}": ((), group.values()) for name, group in GROUPS.items()},
}


@cache
def rendering(case: str) -> str:
    files, values = CASES[case]
    return text(files, values)
