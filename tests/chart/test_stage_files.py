"""A stage's file is the recipe that the package itself makes of the same name and overrides, cut to what shapes it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from pairwise_rm.recipe.load import load_recipe, shipped_recipes
from pairwise_rm.recipe.model import Recipe
from pairwise_rm.train.preflight import ray_cpus_needed
from tests.chart.rendering import STAGES, Values, loaded, nested, objects, over, refusal, text
from tests.chart.renderings import for_recipe

OF_TRAINING = {"name", "device", "seed", "output_dir", "model", "data", "prompt", "train", "reward"}
SECTIONS = {
    "convert": OF_TRAINING - {"output_dir"},
    "train": OF_TRAINING,
    "evaluate": OF_TRAINING | {"evaluate"},
    "export": OF_TRAINING | {"export"},
}
NOTHINGS = {
    # false, 0, "" and null count
    "data.configs.min_strength": 0,
    "prompt.system": "",
    "train.kl_loss": None,
    "train.gradient_checkpointing": False,
    "train.weight_decay": 0,
    "train.validate_every": None,
    "train.offload.reference": False,
    "evaluate.temperature": 0,
    "export.dtype": None,
}


def files(values: Values) -> dict[str, str]:
    [config] = [item for item in objects(text((), values)) if item["kind"] == "ConfigMap"]
    data: dict[str, str] = config["data"]
    return {stage: data[f"{stage}.yaml"] for stage in STAGES}


def wanted(name: str, settings: dict[str, Any]) -> Recipe:
    return load_recipe(name, [f"{key}={yaml.safe_dump(value).split(chr(10))[0]}" for key, value in settings.items()])


def holds_to(content: str, stage: str, recipe: Recipe) -> None:
    found = loaded(content)
    for section in SECTIONS[stage] - {"name", "model", "data", "output_dir"}:
        assert getattr(found, section) == getattr(recipe, section), section
    if recipe.model.make is None:
        assert found.model == recipe.model
    there, given = (part.data.model_dump() for part in (found, recipe))
    assert there["export"].pop("output_dir").startswith("/mnt/data/judge/")
    del given["export"]["output_dir"]
    if recipe.model.make is not None:
        there["configs"]["path"] = given["configs"]["path"]
    assert there == given


@pytest.mark.parametrize("name", shipped_recipes())
def test_each_stage_of_a_shipped_recipe_gets_the_sections_that_shape_it_and_no_other(name: str) -> None:
    values = for_recipe(name)
    path = values["recipe"]["overrides"].get("data", {}).get("configs", {}).get("path")
    recipe = wanted(name, {"data.configs.path": path} if path else {})
    for stage, content in files(values).items():
        assert set(yaml.safe_load(content)) == SECTIONS[stage]
        holds_to(content, stage, recipe)


@pytest.mark.parametrize("key", NOTHINGS)
def test_an_override_with_false_0_empty_or_null_counts(key: str) -> None:
    overrides = nested({f"recipe.overrides.{key}": setting for key, setting in NOTHINGS.items()})
    recipe = wanted("qwen3-14b-8x80g", NOTHINGS)
    for stage, content in files(overrides).items():
        section, *keys = key.split(".")
        if section in SECTIONS[stage]:
            found: Any = yaml.safe_load(content)[section]
            for part in keys:
                found = found[part]
            assert (type(found), found) == (type(NOTHINGS[key]), NOTHINGS[key])
        holds_to(content, stage, recipe)


def test_an_override_lays_a_section_where_the_recipe_has_null() -> None:
    overrides = nested({"recipe.overrides.model.lora": {"rank": 8}})
    assert loaded(files(overrides)["train"]).model == wanted("qwen3-14b-8x80g", {"model.lora": {"rank": 8}}).model


INLINE: dict[str, Values] = {
    "the smallest": {"name": "mine", "model": {"path": "Qwen/Qwen3-4B"}, "data": {"configs": {"type": "huggingface"}}},
    "with a split of its own": {
        "name": "mine",
        "model": {"path": "Qwen/Qwen3-4B"},
        "data": {
            "configs": {"type": "local", "path": "/mnt/data/p.jsonl"},
            "export": {"split_ratio": {"train": 0.9, "test": 0.1}},
        },
    },
    "with files that are converted already": {
        "name": "mine",
        "model": {"path": "/mnt/cache/models/m"},
        "data": {"files": {"train": "/mnt/data/train.parquet", "test": "/mnt/data/test.parquet"}},
        "train": {"kl_loss": None, "verl": {"trainer": {"x": False}}},
    },
    "with odd text": {
        "name": "mine",
        "model": {"path": "Qwen/Qwen3-4B"},
        "data": {"configs": {"type": "huggingface"}},
        "prompt": {
            "rubric": "a: 'b'\n\n  {{ c }}\ttab # no comment \u2028 end\n",
            "system": "null",
            "template": "on: {{ query }} #{{ response_a }}'{{ response_b }}",
        },
    },
}


@pytest.mark.parametrize("inline", INLINE.values(), ids=INLINE)
def test_an_inline_recipe_has_the_defaults_that_the_package_gives_it(inline: Values, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(inline))
    recipe = load_recipe(str(tmp_path / "mine.yaml"))
    rendered = files({"recipe": {"name": "", "inline": inline}})
    assert len(rendered) == len(STAGES)
    for stage, content in rendered.items():
        holds_to(content, stage, recipe)


# ---- what a run takes ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["smoke", "qwen3-14b-8x80g", "qwen3-32b-2x8x80g"])
def test_a_pool_needs_the_ray_cpus_that_training_takes(name: str) -> None:
    recipe = load_recipe(name)
    needed = -(-ray_cpus_needed(recipe) // recipe.train.nodes)
    exactly = over(for_recipe(name), {"poolDefaults": {"rayCpus": needed}})
    assert files(exactly)
    assert f"set at least {needed}" in refusal(over(exactly, {"poolDefaults": {"rayCpus": needed - 1}}))
