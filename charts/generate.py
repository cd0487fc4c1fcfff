"""Writes the chart's generated files from the package: `make chart`.

recipes/<name>.yaml     the shipped recipes, every key spelled out, since a template cannot ask pydantic
recipes/defaults.yaml   the recipe's defaults, which an inline recipe overrides
recipes/continues.yaml  the keys that may change when a run resumes in its folder
templates/_stages.tpl   the stages in their order
values.schema.json      see schema.py
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from charts.schema import values_schema
from pairwise_rm.pipeline import STAGES
from pairwise_rm.recipe.load import load_recipe, recipe_yaml, shipped_recipes
from pairwise_rm.recipe.model import Recipe
from pairwise_rm.recipe.yaml_file import dump_yaml
from pairwise_rm.train.run import MAY_CHANGE

CHART = Path(__file__).parent / "pairwise-rm"
_NOTE = "# Written by `make chart` from the package; edit the recipe there.\n"
_STAGES = """{{/* The stages in their order, as JSON. Written by `make chart` from the package. Inputs: none. */}}
{{- define "pairwise-rm.stages" -}}
STAGES
{{- end -}}
"""


def recipe_files() -> dict[str, str]:
    """Content of every file of recipes/, by name."""
    files = {f"{name}.yaml": recipe_yaml(load_recipe(name)) for name in shipped_recipes()}
    whole = Recipe.model_validate({"name": "x", "model": {"path": "x"}}).model_dump(mode="json")
    del whole["name"], whole["model"]["path"]
    files["defaults.yaml"] = dump_yaml(whole)
    files["continues.yaml"] = dump_yaml({"keys": sorted(MAY_CHANGE)})
    return {name: _NOTE + text for name, text in files.items()}


def written() -> dict[Path, str]:
    """Every file that is generated, with its content."""
    files = {CHART / "recipes" / name: text for name, text in recipe_files().items()}
    files[CHART / "templates" / "_stages.tpl"] = _STAGES.replace("STAGES", json.dumps(STAGES))
    return {**files, CHART / "values.schema.json": values_schema(CHART / "values.yaml")}


def main(check: bool) -> int:
    """Writes them; with `check` only lists those that differ, and returns 1 if any does."""
    files = written()
    stale = set((CHART / "recipes").glob("*.yaml")) - set(files)
    differing = [path for path, text in files.items() if not path.is_file() or path.read_text(encoding="utf-8") != text]
    for path in sorted({*stale, *differing}):
        if check:
            print(f"{path}: differs from the package; run `make chart`")
        elif path in stale:
            path.unlink()
        else:
            path.write_text(files[path], encoding="utf-8")
    return int(check and bool(stale or differing))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:] == ["--check"]))
