"""values.schema.json: keys, types and descriptions from values.yaml, what its values cannot tell from `shapes.py`,
and the recipe's part from pydantic, so that `helm install` itself refuses an unknown key.

Draft 7, which Helm 3 and 4 both check.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import yaml

from charts.shapes import DEFINITIONS, SHAPES, partial
from pairwise_rm.contract.prompt import NEEDED
from pairwise_rm.convert.converters import known_sources
from pairwise_rm.recipe.model import Recipe

Schema = dict[str, Any]
_TYPES = {bool: "boolean", int: "integer", float: "number", str: "string"}


def values_schema(values: Path) -> str:
    """Content of values.schema.json. Raises ValueError for a value without a type or a description."""
    text = values.read_text(encoding="utf-8")
    node = yaml.compose(text)
    assert isinstance(node, yaml.MappingNode)
    root = _section(node, (), _comments(text))
    root["properties"]["global"] = {"type": "object", "description": "Helm's own, where the chart is a part of another"}
    whole, definitions = _recipe()
    root["properties"]["recipe"]["properties"]["inline"] |= whole
    root["properties"]["recipe"]["properties"]["overrides"] |= {"$ref": "#/definitions/overrides.Recipe"}
    root["definitions"] = {**DEFINITIONS, **definitions}
    pools = root["properties"]["pools"]
    pool = {"anyOf": [{"type": "null"}, partial(root["properties"]["poolDefaults"])]}
    pools["patternProperties"] = dict.fromkeys(pools["patternProperties"], pool)
    return (
        json.dumps({"$schema": "http://json-schema.org/draft-07/schema#", "title": "pairwise-rm", **root}, indent=2)
        + "\n"
    )


def _comments(text: str) -> dict[int, str]:
    """The comment that ends above each line, by the line's number. `# --` starts one, and shows it in README.md too."""
    found: dict[int, str] = {}
    comment: str | None = None
    for number, line in enumerate(text.splitlines()):
        stripped = line.strip()
        if stripped.startswith("# -- "):
            comment = stripped.removeprefix("# -- ")
        elif stripped.startswith("# "):
            comment = f"{comment or ''}{stripped.removeprefix('#')}".strip()
        else:
            if comment is not None:
                found[number] = comment
            comment = None
    return found


def _section(node: yaml.MappingNode, path: tuple[str, ...], comments: dict[int, str]) -> Schema:
    properties: Schema = {}
    for key, value in node.value:
        where = (*path, key.value)
        schema = _value(value, where, comments)
        if comment := comments.get(key.start_mark.line):
            schema = {"description": comment, **schema}
        else:
            raise ValueError(f"values.yaml: {'.'.join(where)} has no comment")
        properties[key.value] = schema
    # In Helm a null removes the key, and templates would then fail far from the cause.
    given = [key.value for key, value in node.value if value.tag != "tag:yaml.org,2002:null"]
    return {"type": "object", "additionalProperties": False, "required": given, "properties": properties}


def _value(node: yaml.Node, path: tuple[str, ...], comments: dict[int, str]) -> Schema:
    for pattern, shape in SHAPES.items():
        if re.fullmatch(pattern, ".".join(path)):
            return dict(shape)
    if isinstance(node, yaml.MappingNode) and node.value:
        return _section(node, path, comments)
    kind = type(yaml.safe_load(yaml.serialize(node)))
    if kind not in _TYPES:
        raise ValueError(f"values.yaml: {'.'.join(path)} is {kind.__name__}; say its shape in charts/shapes.py")
    return {"type": _TYPES[kind]}


# ---- the recipe ----------------------------------------------------------------------------------


def _recipe() -> tuple[Schema, dict[str, Schema]]:
    """A whole recipe or an empty one, and the definitions of two forms: with required keys, and without."""
    schema = Recipe.model_json_schema(ref_template="#/definitions/recipe.{model}")
    definitions = {f"recipe.{name}": part for name, part in schema.pop("$defs").items()} | {"recipe.Recipe": schema}
    for part in definitions.values():
        _drop(part, "title")
    _narrow(definitions)
    loose = json.loads(json.dumps(definitions).replace("#/definitions/recipe.", "#/definitions/overrides."))
    definitions |= {name.replace("recipe.", "overrides.", 1): partial(part) for name, part in loose.items()}
    return {"anyOf": [{"type": "object", "maxProperties": 0}, {"$ref": "#/definitions/recipe.Recipe"}]}, definitions


def _narrow(definitions: dict[str, Schema]) -> None:
    """What `pairwise_rm.checks.recipe` refuses in a single value, as far as a schema can say it."""
    definitions["recipe.SourceConfig"]["properties"]["source"]["enum"] = known_sources()
    template = definitions["recipe.PromptConfig"]["properties"]["template"]
    [text] = [kind for kind in template["anyOf"] if kind["type"] == "string"]
    text["allOf"] = [{"pattern": name} for name in NEEDED]


def _drop(schema: Any, key: str) -> None:
    """Removes pydantic's titles, which only repeat the names; a property of that name stays."""
    if isinstance(schema, dict):
        if isinstance(schema.get(key), str):
            del schema[key]
        for value in schema.values():
            _drop(value, key)
    elif isinstance(schema, list):
        for value in schema:
            _drop(value, key)
