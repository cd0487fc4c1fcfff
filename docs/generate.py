"""Writes the pages that are made from the sources: `make docs`.

recipe.md             the recipe's keys, from its pydantic model
troubleshooting.md    every message, from the sources, with what to do about it from troubleshooting.yaml
"""

from __future__ import annotations

import json
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import yaml
from annotated_types import Ge, Gt, Le, Lt, MaxLen, MinLen
from pydantic.fields import FieldInfo

from docs.messages import Message, all_messages
from pairwise_rm.recipe.load import fields_by_key, load_recipe, shipped_recipes
from pairwise_rm.recipe.model import Recipe, Section
from pairwise_rm.train.run import MAY_CHANGE

DOCS = Path(__file__).parent
ENTRIES = DOCS / "troubleshooting.yaml"
OF_COMMANDS = ["input", "stage"]
"""Kinds of messages that a section has where it does not say so."""


def pages() -> dict[Path, str]:
    """Each generated page with its content."""
    return {DOCS / "recipe.md": recipe_page(), DOCS / "troubleshooting.md": troubleshooting_page()}


_RECIPE = """\
# Recipe reference

<!-- Written by `make docs` from pairwise_rm/recipe/model.py. -->

A recipe says what shapes a judge, and nothing about the cluster. It is a YAML file, or the name of one that comes with
the package. Keys are set on the command line as `train.steps=30`, and in the chart as `recipe.overrides`. Unknown keys
are errors. `pairwise-rm validate RECIPE --show` prints a recipe with every key.

```yaml
name: my-judge
data:
  configs: {{source: generic_pairwise, path: pairs.jsonl}}
  export: {{split_ratio: {{train: 0.9, test: 0.1}}}}
model: {{path: Qwen/Qwen3-8B, lora: {{rank: 64}}}}
train: {{gpus_per_node: 1, tensor_parallel: 1, batch_size: 32, mini_batch_size: 16}}
```

| shipped recipe | |
|---|---|
{shipped}

A run goes on in its folder when one of these changes: {continues}. A change of any other key of data, prompt, model,
train or reward is another run.
{sections}
"""

_TROUBLESHOOTING = """\
# Troubleshooting

<!-- Written by `make docs` from the sources and docs/troubleshooting.yaml. -->

Every message of the command line and of the chart, with what it means and what to do. Search this page for the words of
the message; `<…>` stands for what varies. With `convert --config`, keys begin with `dataset.` instead of `data.`.

The command line prints one line, `error: …`, and ends with exit code 2 when the input is wrong and 1 when the work
failed. A traceback is a defect of ours: please report it.
"""

_REJECTED = """\
## Rejected rows

Why a row is no pair. `rejected.jsonl` has one line for each such row, with its number, the reason and the beginning of
its text. Rows of parquet files that are converted already are counted by such reasons too.
"""


# ---- recipe --------------------------------------------------------------------------------------


def recipe_page() -> str:
    """All keys of a recipe, one table a section."""
    shipped = [f"| `{name}` | {load_recipe(name).description} |" for name in shipped_recipes()]
    return _RECIPE.format(
        shipped="\n".join(shipped),
        continues=", ".join(f"`{key}`" for key in sorted(MAY_CHANGE)),
        sections="\n".join(_section(Recipe, ())),
    )


def _section(model: type[Section], path: tuple[str, ...]) -> list[str]:
    lines = ["", f"## `{'.'.join(path)}`" if path else "## Top level", ""]
    if path and model.__doc__ and model.__doc__ != Section.__doc__:
        lines += [" ".join(model.__doc__.split()), ""]
    lines += ["| key | type | default | |", "|---|---|---|---|"]
    below: list[tuple[type[Section], tuple[str, ...]]] = []
    for name, info in fields_by_key(model).items():
        section = _section_of(info.annotation)
        if section:
            below.append((section, (*path, name)))
        shown = f"[`{name}`](#{_anchor((*path, name))})" if section else f"`{name}`"
        lines.append(f"| {shown} | {_cell(_type(info))} | {_cell(_default(info))} | {_cell(info.description or '')} |")
    for section, where in below:
        lines += _section(section, where)
    return lines


def _section_of(annotation: Any) -> type[Section] | None:
    for candidate in (annotation, *get_args(annotation)):
        if get_origin(candidate) is None and isinstance(candidate, type) and issubclass(candidate, Section):
            return candidate
    return None


def _anchor(path: tuple[str, ...]) -> str:
    return "".join(path)


def _type(info: FieldInfo) -> str:
    section = _section_of(info.annotation)
    if section:
        return "section or null" if type(None) in get_args(info.annotation) else "section"
    bounds = [_bound(rule) for rule in sorted(info.metadata, key=lambda rule: type(rule).__name__)]
    kind, bounds = _kind(info.annotation), [bound for bound in bounds if bound]
    return f"{kind}, {', '.join(bounds)}" if bounds else kind


def _kind(annotation: Any) -> str:
    names = {str: "text", int: "integer", float: "number", bool: "true or false", type(None): "null", Any: "any"}
    if annotation in names:
        return names[annotation]
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return ", ".join(f"`{value}`" for value in arguments)
    if origin is list:
        return f"list of {_kind(arguments[0])}"
    if origin is dict:
        return "mapping"
    return " or ".join(_kind(argument) for argument in arguments)


def _bound(rule: Any) -> str:
    signs = {Ge: ("≥", "ge"), Gt: (">", "gt"), Le: ("≤", "le"), Lt: ("<", "lt")}
    if type(rule) in signs:
        sign, name = signs[type(rule)]
        return f"{sign} {getattr(rule, name)}"
    if isinstance(rule, MinLen):
        return "not empty"
    if isinstance(rule, MaxLen):
        return f"at most {rule.max_length} characters"
    pattern = getattr(rule, "pattern", None)
    return f"like `{pattern}`" if pattern else ""


def _default(info: FieldInfo) -> str:
    if info.is_required():
        return "required"
    if isinstance(info.default, Section):
        return ""
    return f"`{json.dumps(info.default)}`"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


# ---- troubleshooting -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Entry:
    """A class of messages. `found`: those of the sources; `written`: further ones, as they stand in the file."""

    section: str
    kinds: list[str]
    title: str
    match: list[str]
    written: list[str]
    means: str
    do: str
    found: list[Message]


def entries() -> list[Entry]:
    """All entries of troubleshooting.yaml, each with the messages that belong to it."""
    made = [
        Entry(
            part["section"],
            part.get("kinds", OF_COMMANDS),
            one["title"],
            one["match"],
            one.get("written", []),
            one["means"],
            one["do"],
            [],
        )
        for part in yaml.safe_load(ENTRIES.read_text(encoding="utf-8"))
        for one in part["entries"]
    ]
    for message in all_messages():
        if message.kind != "row" and (entry := entry_of(message, made)):
            entry.found.append(message)
    return made


def entry_of(message: Message, among: list[Entry]) -> Entry | None:
    """The entry with the longest part of the message; None where no entry has one."""
    of_its_kind = [entry for entry in among if message.kind in entry.kinds]
    having = [(len(part), entry) for entry in of_its_kind for part in entry.match if belongs(message, part)]
    return max(having, key=lambda one: one[0])[1] if having else None


def belongs(message: Message, part: str) -> bool:
    """Whether a message has this part; `…` stands for anything."""
    return re.search(".*?".join(map(re.escape, part.split("…"))), message.shape) is not None


def troubleshooting_page() -> str:
    """Every message below what it means."""
    parts = yaml.safe_load(ENTRIES.read_text(encoding="utf-8"))
    made = entries()
    lines = [_TROUBLESHOOTING]
    for part in parts:
        lines += ["", f"## {part['section']}", ""]
        if part.get("intro"):
            lines += [part["intro"], ""]
        for entry in made:
            if entry.section == part["section"]:
                lines += _entry(entry)
    return "\n".join([*lines, *_rows(), ""])


def _entry(entry: Entry) -> list[str]:
    messages = [message.text for message in entry.found] + entry.written
    return [
        f"### {entry.title}",
        "",
        *(f"- {_code(text)}" for text in dict.fromkeys(messages)),
        "",
        f"**Meaning.** {entry.means}",
        "",
        f"**What to do.** {entry.do}",
        "",
    ]


def _rows() -> list[str]:
    rows = dict.fromkeys(message.text for message in all_messages() if message.kind == "row")
    return [_REJECTED, *(f"- {_code(text)}" for text in rows)]


def _code(text: str) -> str:
    """A code span, which may hold backticks."""
    return f"`` {text} ``" if "`" in text else f"`{text}`"


def main(check: bool) -> int:
    """Writes the pages; with `check` only tells which differ, and returns 1 when any does."""
    differing = [path for path, text in pages().items() if not path.is_file() or path.read_text("utf-8") != text]
    for path in differing:
        if check:
            print(f"{path}: differs from the sources; run `make docs`")
        else:
            path.write_text(pages()[path], encoding="utf-8")
    return int(check and bool(differing))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:] == ["--check"]))
