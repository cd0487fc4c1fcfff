"""YAML with the line of each key, so that an error can name file and line.

Stricter than YAML 1.1: `1e-6` is a number, `on` and `off` are text, a key given twice is
an error.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from pairwise_rm.errors import InputError, first_line

KeyPath = tuple[str | int, ...]


class _Loader(yaml.SafeLoader):
    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except (ValueError, OverflowError, TypeError, AttributeError, LookupError) as error:
            # Of a date in month 13, or a number of thousands of digits, PyYAML passes on what Python says.
            raise yaml.constructor.ConstructorError(None, None, first_line(error), node.start_mark) from error


_REPLACED = ("tag:yaml.org,2002:bool", "tag:yaml.org,2002:float")
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag not in _REPLACED]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF")
)
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(?:(?:[0-9]+\.[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?|[0-9]+[eE][-+]?[0-9]+|\.inf|\.nan)$"),
    list("-+.0123456789"),
)


_TEXT_KEYS = ("tag:yaml.org,2002:str", "tag:yaml.org,2002:merge")


_MOST_VALUES = 100_000
_MOST_LEVELS = 50


def parse_value(text: str) -> Any:
    """The value of a `key=value` override, read as YAML. Raises yaml.YAMLError."""
    return _parsed(text)[1]


def _parsed(text: str) -> tuple[yaml.Node | None, Any]:
    """The tree of nodes, and the value. Raises yaml.YAMLError, and nothing else, for any text."""
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None, None
        if _expanded(node, {}, _MOST_LEVELS) > _MOST_VALUES:
            problem = f"with its aliases it has more than {_MOST_VALUES} values"
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark)
        return node, loader.construct_document(node)
    except RecursionError as error:
        raise yaml.YAMLError("nested too deeply") from error
    finally:
        loader.dispose()


def _expanded(node: yaml.Node, known: dict[int, int], levels: int) -> int:
    """How many values a node has when each alias is written out; ten lines of aliases can stand for billions."""
    if not levels:
        raise yaml.MarkedYAMLError(problem="nested too deeply", problem_mark=node.start_mark)
    if id(node) not in known:
        below = node.value if isinstance(node, yaml.CollectionNode) else []
        children = [part for entry in below for part in (entry if isinstance(entry, tuple) else (entry,))]
        known[id(node)] = 1 + sum(_expanded(child, known, levels - 1) for child in children)
    return known[id(node)]


def key_path(keys: Iterable[str | int]) -> str:
    """Keys with dots between them, as a message names them: on one line, whatever is in them."""
    path = ".".join(map(str, keys))
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in path)


class _Dumper(yaml.SafeDumper):
    """Quotes what `_Loader` would read as something else than text."""


_Dumper.yaml_implicit_resolvers = {
    first: [*yaml.SafeDumper.yaml_implicit_resolvers.get(first, []), *_Loader.yaml_implicit_resolvers.get(first, [])]
    for first in {*yaml.SafeDumper.yaml_implicit_resolvers, *_Loader.yaml_implicit_resolvers}
}


def _text(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    # PyYAML writes these line breaks as they are and reads them back as spaces.
    style = '"' if _ODD_BREAKS.search(text) else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_ODD_BREAKS = re.compile("[\x85\u2028\u2029\ufeff]")
_Dumper.add_representer(str, _text)


def dump_yaml(value: Any) -> str:
    """YAML that `read_yaml` reads back as the same value; keys keep their order."""
    text: str = yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)
    return text


def read_text(path: Path) -> str:
    """A YAML file's text. Raises InputError."""
    try:
        return path.expanduser().read_text(encoding="utf-8")
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise InputError(f"{path}: is a folder, expected a YAML file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read as UTF-8 text: {error}") from error


def read_yaml(path: Path) -> tuple[dict[str, Any], dict[KeyPath, int]]:
    """The mapping in a YAML file and the line of each of its keys. Raises InputError."""
    path = path.expanduser()
    text = read_text(path)
    try:
        node, value = _parsed(text)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise InputError(f"{path}:{line}: not valid YAML: {error.problem}") from error
    except yaml.YAMLError as error:
        raise InputError(f"{path}: not valid YAML: {first_line(error)}") from error
    if value is None:
        raise InputError(f"{path}: is empty")
    if not isinstance(value, dict):
        raise InputError(f"{path}:1: expected a mapping of keys to values, got {type(value).__name__}")
    lines: dict[KeyPath, int] = {}
    _collect(node, (), lines, path)
    return value, lines


def _collect(node: Any, prefix: KeyPath, lines: dict[KeyPath, int], path: Path) -> None:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            line = key.start_mark.line + 1
            if key.tag not in _TEXT_KEYS:
                raise InputError(f"{path}:{line}: expected text as a key, got {key_path([key.value])}; quote it")
            where: KeyPath = (*prefix, key.value)
            if where in lines:
                name = key_path(where)
                raise InputError(f"{path}:{line}: {name} is given twice (also in line {lines[where]})")
            lines[where] = line
            _collect(value, where, lines, path)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            where = (*prefix, index)
            lines[where] = value.start_mark.line + 1
            _collect(value, where, lines, path)
