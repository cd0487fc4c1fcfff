"""From a name or a file and `key=value` overrides to a checked recipe.

>>> load_recipe("smoke", ["train.steps=3"]).train.steps
3
"""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from pairwise_rm.errors import InputError
from pairwise_rm.recipe.model import DataConfigFile, DatasetConfig, Recipe
from pairwise_rm.recipe.yaml_file import KeyPath, dump_yaml, key_path, parse_value, read_yaml

Model = TypeVar("Model", bound=BaseModel)

# Below these keys any name is accepted here: verl and the chat template check them.
_OPEN = {("train", "verl"), ("prompt", "chat_template_kwargs")}
# What pydantic calls the members of a union, such as `str | list[str]`, in the location of an error.
_UNION_MEMBERS = ("str", "int", "float", "bool")


@dataclass(frozen=True)
class Origin:
    """Where the keys of a recipe stand: its file with the line of each key, and the overrides."""

    path: Path
    lines: dict[KeyPath, int]
    overrides: Sequence[str] = ()

    def place(self, *keys: str) -> str:
        """`FILE:LINE` of the first of these dotted keys that is given, or the override that gives it.

        A key that is left to its default has the line of its section, or none.
        """
        paths = [tuple(key.split(".")) for key in keys]
        given = [path for path in paths if self._override(path) or path in self.lines]
        return self.place_of((given or paths or [()])[0])

    def place_of(self, where: KeyPath) -> str:
        if override := self._override(where):
            return f"override {override!r}"
        while where:
            if where in self.lines:
                return f"{self.path}:{self.lines[where]}"
            where = where[:-1]
        return str(self.path)

    def _override(self, where: KeyPath) -> str | None:
        key = ".".join(map(str, where))
        for override in self.overrides:
            name = override.partition("=")[0]
            if key and (key == name or key.startswith(f"{name}.") or name.startswith(f"{key}.")):
                return override
        return None


def shipped_recipes() -> list[str]:
    """Names of the recipes that come with the package."""
    folder = resources.files("pairwise_rm.recipe") / "shipped"
    return sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml"))


def find_recipe(name_or_path: str) -> Path:
    """The file of a shipped recipe, or the given file. Raises InputError when it is neither."""
    path = Path(name_or_path).expanduser()
    if path.suffix in (".yaml", ".yml") or "/" in name_or_path:
        return path
    names = shipped_recipes()
    if name_or_path in names:
        return Path(str(resources.files("pairwise_rm.recipe") / "shipped" / f"{name_or_path}.yaml"))
    if path.is_file():
        return path
    close = difflib.get_close_matches(name_or_path, names, n=1)
    hint = f"did you mean {close[0]}? " if close else ""
    raise InputError(f"recipe {name_or_path!r}: {hint}expected a YAML file or one of {', '.join(names)}")


def load_recipe(name_or_path: str, overrides: Sequence[str] = ()) -> Recipe:
    """A recipe whose keys and types are right. Raises InputError that names file, line and full key path."""
    return load_with_origin(name_or_path, overrides)[0]


def load_with_origin(name_or_path: str, overrides: Sequence[str] = ()) -> tuple[Recipe, Origin]:
    """As `load_recipe`, with the place of each key, for checks that are made later."""
    path = find_recipe(name_or_path)
    value, lines = read_yaml(path)
    if "dataset" in value and "model" not in value:
        raise InputError(f"{path}: a data config, not a recipe; `pairwise-rm convert --config {path}` reads it")
    apply_overrides(value, overrides, Recipe)
    origin = Origin(path, lines, overrides)
    return _check(Recipe, value, origin), origin


def load_data_config(path: Path, overrides: Sequence[str] = ()) -> DatasetConfig:
    """The RM-Gallery tutorial's `data_config.yaml`. Overrides start with `dataset.`"""
    return load_data_config_with_origin(path, overrides)[0]


def load_data_config_with_origin(path: Path, overrides: Sequence[str] = ()) -> tuple[DatasetConfig, Origin]:
    """As `load_data_config`, with the place of each key."""
    value, lines = read_yaml(path)
    if "model" in value and "dataset" not in value:
        raise InputError(f"{path}: a recipe, not a data config; give it without --config")
    apply_overrides(value, overrides, DataConfigFile)
    origin = Origin(path, lines, overrides)
    return _check(DataConfigFile, value, origin).dataset, origin


def recipe_yaml(recipe: Recipe) -> str:
    """The resolved recipe, every key spelled out; loading it again gives the same recipe."""
    return dump_yaml(recipe.model_dump(mode="json"))


def digest(value: Any) -> str:
    """12 hex digits over anything JSON-able: equal content, equal digest."""
    return digest_of(json.dumps(value, sort_keys=True, separators=(",", ":"), default=str).encode())


def digest_of(content: bytes) -> str:
    """The first 12 hex digits of a SHA-256: by these a RayJob names the recipe file that it was made for."""
    return hashlib.sha256(content).hexdigest()[:12]


def flatten(value: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings to dotted keys; an empty mapping stays a value."""
    flat: dict[str, Any] = {}
    for key, item in value.items():
        name = f"{prefix}{key}"
        if isinstance(item, dict) and item:
            flat.update(flatten(item, f"{name}."))
        else:
            flat[name] = item
    return flat


def first_difference(old: dict[str, Any], new: dict[str, Any]) -> str | None:
    """`key: old -> new` for the first dotted key in which two configurations differ."""
    # Not an empty mapping, but the keys that the other side has in it.
    before, after = ({key: item for key, item in flatten(side).items() if item != {}} for side in (old, new))
    for key in [*before, *(key for key in after if key not in before)]:
        if before.get(key) != after.get(key):
            return f"{key}: {json.dumps(before.get(key))} -> {json.dumps(after.get(key))}"
    return None


# ---- overrides -----------------------------------------------------------------------------------


def apply_overrides(value: dict[str, Any], overrides: Iterable[str], model: type[BaseModel]) -> None:
    """Sets each `a.b.c=value` in the nested mapping. Raises InputError for a key that does not exist."""
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals or not key:
            raise InputError(f"override {override!r}: expected key=value, for example train.steps=30")
        try:
            item = parse_value(text) if text else ""
        except yaml.YAMLError:
            raise InputError(f"override {override!r}: the value is not valid YAML; quote it") from None
        path = tuple(key.split("."))
        _check_key(path, model, override)
        _set(value, path, item, override)


def _check_key(path: tuple[str, ...], model: type[BaseModel], override: str) -> None:
    current: Any = model
    for depth, part in enumerate(path):
        if path[:depth] in _OPEN:
            return
        if current is None or not part:
            raise InputError(f"override {override!r}: {key_path(path[:depth])} has no keys of its own")
        if part not in fields_by_key(current):
            name = key_path(path[: depth + 1])
            raise InputError(f"override {override!r}: unknown key {name}{_suggest(part, current)}")
        current = _section_of(fields_by_key(current)[part].annotation)


def fields_by_key(section: type[BaseModel]) -> dict[str, FieldInfo]:
    """A section's fields by their keys in YAML, of which some, such as `from`, are no names in Python."""
    return {info.alias or name: info for name, info in section.model_fields.items()}


def _section_of(annotation: Any) -> Any:
    for candidate in (annotation, *get_args(annotation)):
        if get_origin(candidate) is None and isinstance(candidate, type) and issubclass(candidate, BaseModel):
            return candidate
    return None


def _suggest(part: str, section: Any) -> str:
    names = list(fields_by_key(section))
    close = difflib.get_close_matches(part, names, n=1)
    return f"; did you mean {close[0]}?" if close else f"; known here: {', '.join(names)}"


def _set(value: dict[str, Any], path: tuple[str, ...], item: Any, override: str) -> None:
    for depth, part in enumerate(path[:-1]):
        below = value.get(part)
        if below is None:
            below = value[part] = {}
        if not isinstance(below, dict):
            raise InputError(f"override {override!r}: {'.'.join(path[: depth + 1])} is a value, not a section")
        value = below
    value[path[-1]] = item


# ---- errors --------------------------------------------------------------------------------------


def _check(model: type[Model], value: dict[str, Any], origin: Origin) -> Model:
    try:
        return model.model_validate(value)
    except ValidationError as error:
        problems = [_sentence(problem, model) for problem in error.errors()]
        where, text = problems[0]
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise InputError(f"{origin.place_of(where)}: {text}{more}") from None


def _sentence(problem: Any, model: type[BaseModel]) -> tuple[KeyPath, str]:
    # Union members add their type's name to the location; a key path has only keys and indices.
    where: KeyPath = tuple(problem["loc"])
    kind = problem["type"]
    section: Any = model
    named: list[str | int] = []
    for part in where:
        if section is not None and isinstance(part, str):
            known = fields_by_key(section)
            if part not in known and not (kind == "extra_forbidden" and part == where[-1]):
                continue
            field = known.get(part)
            section = _section_of(field.annotation) if field else section
        elif isinstance(part, str) and ((section is None and part in _UNION_MEMBERS) or not _is_key(part)):
            continue
        named.append(part)
    key = key_path(named)
    if kind == "extra_forbidden":
        return tuple(named), f"unknown key {key}{_suggest(str(where[-1]), section)}"
    if kind == "missing":
        return tuple(named), f"{key} is missing"
    text = problem["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
    if kind == "value_error":
        return tuple(named), f"{key}: {text}" if key else text
    return tuple(named), f"{key}: expected {text}, got {_shown(problem['input'])}"


def _is_key(part: str) -> bool:
    return part.replace("_", "").isalnum()


def _shown(value: Any) -> str:
    text = json.dumps(value, default=str)
    return text if len(text) <= 60 else text[:57] + "..."
