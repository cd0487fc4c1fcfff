"""What runs code of whoever wrote a file: pickle, `torch.load`, a model's own modules, YAML's tags, `eval`.

Held over the syntax tree of the package and the tools beside it. What is allowed is named, with its reason.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

import pytest

from tests.paths import REPO

FOLDERS = ("pairwise_rm", "charts", "release", "docs", "benchmarks")
UNPICKLING = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
CALLS = {"eval", "exec", "compile", "__import__"}
SAFE_LOADERS = {"SafeLoader", "CSafeLoader", "_Loader"}
ALLOWED = {
    ("pairwise_rm/export/fsdp_merge.py", "imports pickle"): "for the name of its error; weights_only reads the files",
    ("pairwise_rm/train/reward_function.py", "exec_module"): "the file that reward.function names, by its SHA-256",
}


def called(node: ast.Call) -> str:
    return ast.unparse(node.func)


def findings(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (f"imports {name.name}" for name in node.names if name.name.partition(".")[0] in UNPICKLING)
        elif isinstance(node, ast.ImportFrom):
            if (node.module or "").partition(".")[0] in UNPICKLING:
                yield f"imports {node.module}"
        elif isinstance(node, ast.Call):
            yield from _of_call(node)
        elif isinstance(node, ast.Dict):
            for key, value in zip(node.keys, node.values, strict=True):
                if isinstance(key, ast.Constant) and key.value == "trust_remote_code":
                    yield from _trust(value)


def _of_call(node: ast.Call) -> Iterator[str]:
    name, options = called(node), {option.arg: option.value for option in node.keywords}
    last = name.rpartition(".")[2]
    if name in CALLS or last == "exec_module":
        yield last
    if last == "load" and name.partition(".")[0] == "torch" and not _is_true(options.get("weights_only")):
        yield "torch.load without weights_only=True"
    if last in ("read_pickle", "load_pickle"):
        yield last
    if name in ("np.load", "numpy.load") and "allow_pickle" in options:
        yield "allow_pickle"
    if name in ("yaml.load", "yaml.load_all"):
        loader = options.get("Loader", node.args[1] if len(node.args) > 1 else None)
        if loader is None or ast.unparse(loader).rpartition(".")[2] not in SAFE_LOADERS:
            yield f"{name} with a loader that is not safe"
    if name in ("yaml.unsafe_load", "yaml.full_load"):
        yield name
    if len(node.args) > 1 and ast.unparse(node.args[0]).rstrip("'").endswith("trust_remote_code"):
        # As a setting of verl's: its key and its value.
        yield from _trust(node.args[1])
    if "trust_remote_code" in options:
        yield from _trust(options["trust_remote_code"])


def _trust(value: ast.expr) -> Iterator[str]:
    # A value that is passed on comes from the recipe; a plain True does not.
    passed_on = isinstance(value, ast.Attribute | ast.Name) and ast.unparse(value).endswith("trust_remote_code")
    if not passed_on and not (isinstance(value, ast.Constant) and value.value is False):
        yield f"trust_remote_code={ast.unparse(value)}"


def _is_true(value: ast.expr | None) -> bool:
    return isinstance(value, ast.Constant) and value.value is True


def found() -> set[tuple[str, str]]:
    sources = [path for folder in FOLDERS for path in sorted((REPO / folder).rglob("*.py"))]
    assert len(sources) > 100
    return {
        (path.relative_to(REPO).as_posix(), what)
        for path in sources
        for what in findings(ast.parse(path.read_text(encoding="utf-8")))
    }


def test_nothing_runs_code_of_a_file_but_what_is_named_here() -> None:
    assert found() == set(ALLOWED)


def test_a_models_own_code_is_run_only_where_the_recipe_says_so() -> None:
    from pairwise_rm.recipe.load import load_recipe, shipped_recipes

    assert not any(load_recipe(name).model.trust_remote_code for name in shipped_recipes())


@pytest.mark.parametrize(
    ("source", "what"),
    [
        ("import pickle", "imports pickle"),
        ("from joblib import load", "imports joblib"),
        ("torch.load(path)", "torch.load without weights_only=True"),
        ("torch.load(path, weights_only=False)", "torch.load without weights_only=True"),
        ("yaml.load(text)", "yaml.load with a loader that is not safe"),
        ("yaml.load(text, Loader=yaml.FullLoader)", "yaml.load with a loader that is not safe"),
        ("AutoModel.from_pretrained(path, trust_remote_code=True)", "trust_remote_code=True"),
        ("settings = {'trust_remote_code': True}", "trust_remote_code=True"),
        ("Setting('data.trust_remote_code', True, key)", "trust_remote_code=True"),
        ("eval(text)", "eval"),
        ("pd.read_pickle(path)", "read_pickle"),
    ],
)
def test_each_of_them_would_be_found(source: str, what: str) -> None:
    assert list(findings(ast.parse(source))) == [what]
