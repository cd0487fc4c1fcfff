"""Every message that a user can meet, read out of the sources: the package's errors and issues, the chart's refusals.

A message is read from the syntax tree, without running anything: `raise InputError(f"{path}: no such file")` gives
`<path>: no such file`. Names of files and functions are of no account, so a message stays the same when it moves.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

REPO = Path(__file__).resolve().parents[1]
PACKAGE = REPO / "pairwise_rm"
TEMPLATES = REPO / "charts" / "pairwise-rm" / "templates"

_PROBLEM = "Problem"
"""One line of a check; the lines of a layer are raised together as an InputError."""
_ROOT_ERROR, _ROW_ERRORS, _ISSUE = "PairwiseError", {"RowError", "UnreadableRow"}, "Issue"
_GAP = "…"
_MOST = 24
"""Alternatives of one message; more are a sign that what is read is no message."""
_FAIL = re.compile(r'fail (?:\(printf )?"((?:[^"\\]|\\.)*)"')
_REMEDY = re.compile(r'define "((?:set|make) [^"]*)"')

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Message:
    """`text` with `<name>` for what varies; `kind`: input, stage, row, issue or chart."""

    text: str
    kind: str

    @property
    def shape(self) -> str:
        """The text without the names of what varies."""
        return re.sub(r"<[^<>]*>", _GAP, self.text)


def all_messages() -> list[Message]:
    """Those of the package and of the chart, each once, in the order of the sources."""
    found: dict[tuple[str, str], Message] = {}
    for message in (*package_messages(), *chart_messages()):
        found.setdefault((message.shape, message.kind), message)
    return list(found.values())


def chart_messages(folder: Path = TEMPLATES) -> Iterator[Message]:
    """What `helm install` refuses with."""
    for template in sorted(folder.glob("_*.tpl")):
        text = template.read_text(encoding="utf-8")
        for found in _FAIL.finditer(text):
            written = found[1].replace('\\"', '"')
            yield Message(re.sub(r"%[sdvq]", f"<{_GAP}>", written), "chart")
        # Helm names the template in which the API server forbids a lookup; the name says what to set.
        yield from (Message(found[1], "chart") for found in _REMEDY.finditer(text))


def package_messages(folder: Path = PACKAGE) -> Iterator[Message]:
    """What the command line and a stage end with, and the issues that `status` shows."""
    modules = [_Module(ast.parse(path.read_text(encoding="utf-8"))) for path in sorted(folder.rglob("*.py"))]
    errors = _errors(modules)
    for module in modules:
        yield from module.messages(errors)


def _errors(modules: Iterable[_Module]) -> dict[str, str]:
    """Each error class with the kind of its messages."""
    bases = {name: above for module in modules for name, above in module.bases.items()}
    kinds = {"InputError": "input", "StageError": "stage", _ROOT_ERROR: "stage", _PROBLEM: "input"}

    def kind(name: str) -> str | None:
        if name in kinds or name not in bases:
            return kinds.get(name)
        return next((found for base in bases[name] if (found := kind(base))), None)

    known = {name: found for name in bases if (found := kind(name))}
    return {**known, _ISSUE: "issue", **dict.fromkeys(_ROW_ERRORS, "row")}


@dataclass
class _Module:
    tree: ast.Module
    bases: dict[str, list[str]] = field(init=False)
    makers: list[Function] = field(init=False)
    functions: dict[str, Function] = field(init=False)
    constants: dict[str, ast.expr] = field(init=False)

    def __post_init__(self) -> None:
        nodes = list(ast.walk(self.tree))
        self.bases = {
            node.name: [base.id for base in node.bases if isinstance(base, ast.Name)]
            for node in nodes
            if isinstance(node, ast.ClassDef)
        }
        self.makers = [node for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
        self.functions = {function.name: function for function in self.makers}
        self.constants = {
            node.targets[0].id: node.value
            for node in self.tree.body
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
        }

    def messages(self, errors: dict[str, str]) -> Iterator[Message]:
        for function in self.makers:
            scope = _Scope(self, function)
            validates = any("validator" in ast.unparse(decorator) for decorator in function.decorator_list)
            for node in ast.walk(function):
                if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name) or not node.args:
                    continue
                kind = "input" if validates and node.func.id == "ValueError" else errors.get(node.func.id)
                if kind:
                    # A row's reason and an issue's subject stand first.
                    text = node.args[1] if kind in ("row", "issue") and len(node.args) > 1 else node.args[0]
                    lines = scope.texts(text)
                    if kind == "issue" or not any(map(_says_something, lines)):
                        lines = _Scope(self, function, within=True).texts(text)
                    yield from (Message(line.rstrip("; "), kind) for line in lines if _says_something(line))


def _says_something(text: str) -> bool:
    """Whether anything is left without what varies; else the message is another one's, passed on."""
    return re.search(r"[A-Za-z]{3,}", re.sub(r"<[^<>]*>", "", text)) is not None


@dataclass
class _Scope:
    """A function in which a message is made. `within`: look up also what stands inside of a text."""

    module: _Module
    function: Function
    depth: int = 0
    within: bool = False

    def texts(self, node: ast.expr) -> list[str]:
        """What an expression can be, as texts; a gap where it cannot be told."""
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            return [" ".join(node.value.split()) if "\n" in node.value else node.value]
        if isinstance(node, ast.JoinedStr):
            return _joined([self._part(part) for part in node.values])
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
            return _joined([self.texts(node.left), self.texts(node.right)])
        if isinstance(node, ast.IfExp):
            return [*self.texts(node.body), *self.texts(node.orelse)]
        if isinstance(node, ast.BoolOp):
            return [text for value in node.values for text in self.texts(value)]
        if isinstance(node, ast.Call):
            return self._called(node)
        if isinstance(node, ast.Name):
            return self._assigned(node.id)
        return [f"<{_name(node)}>"]

    def _part(self, node: ast.expr) -> list[str]:
        if isinstance(node, ast.FormattedValue):
            constant = self.module.constants.get(node.value.id) if isinstance(node.value, ast.Name) else None
            if isinstance(constant, ast.Constant) and isinstance(constant.value, str):
                return [constant.value]
            if self.within and isinstance(node.value, ast.Name | ast.Call | ast.IfExp):
                found = self.texts(node.value)
                return found if len(found) > 1 or _says_something(found[0]) else [f"<{_name(node.value)}>"]
            return [f"<{_name(node.value)}>"]
        return self.texts(node)

    def _called(self, node: ast.Call) -> list[str]:
        function = node.func
        if isinstance(function, ast.Attribute) and function.attr == "join" and len(node.args) == 1:
            parts = node.args[0]
            if isinstance(parts, ast.GeneratorExp):
                return self.texts(parts.elt)
            return self.texts(parts) if isinstance(parts, ast.Name) else [f"<{_GAP}>"]
        name = function.id if isinstance(function, ast.Name) else None
        if isinstance(function, ast.Attribute) and ast.unparse(function.value) == "self":
            name = function.attr
        called = self.module.functions.get(name or "")
        if called is None or self.depth > 3:
            return [f"<{_GAP}>"]
        inside = _Scope(self.module, called, self.depth + 1, self.within)
        values = [
            found.value
            for found in ast.walk(called)
            if isinstance(found, ast.Return | ast.Yield) and found.value is not None
        ]
        return [text for value in values for text in inside.texts(value)][:_MOST]

    def _assigned(self, name: str) -> list[str]:
        """What is assigned to a name in this function, or added to it where it is a list."""
        if self.depth > 3:
            return [f"<{name}>"]
        here = _Scope(self.module, self.function, self.depth + 1, self.within)
        found: list[str] = []
        for node in ast.walk(self.function):
            if isinstance(node, ast.Assign | ast.AnnAssign | ast.AugAssign) and node.value:
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                found += here._elements(node.value) if any(_is(target, name) for target in targets) else []
            elif isinstance(node, ast.Call) and ast.unparse(node.func) == f"{name}.append":
                found += here.texts(node.args[0])
        return found or [f"<{name}>"]

    def _elements(self, node: ast.expr) -> list[str]:
        if isinstance(node, ast.List | ast.Tuple):
            return [text for item in node.elts for text in self._elements(item)]
        return self.texts(node.value if isinstance(node, ast.Starred) else node)


def _is(node: ast.expr, name: str) -> bool:
    return isinstance(node, ast.Name) and node.id == name


def _joined(parts: list[list[str]]) -> list[str]:
    texts = [""]
    for part in parts:
        texts = [before + after for before in texts for after in part][:_MOST]
    return texts


def _name(node: ast.expr) -> str:
    """What a value is called where the message shows it."""
    if isinstance(node, ast.Name):
        return node.id.strip("_")
    if isinstance(node, ast.Attribute):
        return node.attr.strip("_")
    if isinstance(node, ast.Call) and len(node.args) == 1 and isinstance(node.args[0], ast.Name):
        return node.args[0].id
    return _GAP
