"""The chart refuses what the package refuses: one table, held to both.

The package checks a recipe when it is loaded, in the first seconds of each stage and, in its preflight, when training
starts, before it asks for GPUs. The chart says the same before anything is made, in Helm's templates, which cannot call
the package. Where only one of them can refuse, the table says why.
"""

from __future__ import annotations

import ast
import contextlib
import importlib.util
import inspect
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from pairwise_rm.checks import model as model_checks
from pairwise_rm.checks import recipe as recipe_checks
from pairwise_rm.errors import InputError
from pairwise_rm.recipe import model as recipe_model
from pairwise_rm.recipe.load import flatten, load_recipe
from pairwise_rm.run_folder import RunFolder
from pairwise_rm.train import preflight as checks
from tests.chart.chart_sentences import sentences
from tests.chart.rendering import Values, nested, refusal, rendered

RECIPE = "qwen3-14b-8x80g"
IN_CONVERT = "not to be said in the schema; the convert stage, which needs no GPU, says it in its first seconds"
IN_TRAIN = "a recipe that is only converted or evaluated may have it; the train stage says it before it waits"
WANDB = ("WANDB_API_KEY", "WANDB_MODE")
# Looked for, not imported: preflight itself does no more.
pytestmark = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("transformers", "pyarrow", "verl", "vllm", "ray")),
    reason="needs what training needs",
)


class Row(NamedTuple):
    """Values that differ from the default, and what each says to them; None where it takes them."""

    values: dict[str, Any]
    chart: str | None
    package: str | None
    why: str = ""
    """Why only one of them refuses."""


def recipe(**overrides: Any) -> dict[str, Any]:
    return {f"recipe.overrides.{key.replace('__', '.')}": setting for key, setting in overrides.items()}


def both(values: dict[str, Any], sentence: str) -> Row:
    """Refused by both in one sentence; the chart's begins with `recipe`."""
    return Row(values, f"recipe {sentence}", sentence)


def mapping(sentence: str, **fields: Any) -> Row:
    """A field mapping that makes no pairs."""
    return Row(recipe(data__configs__fields=fields), None, sentence, IN_CONVERT)


_TWO, _SIDED = {"response_a": "a", "response_b": "b"}, {"chosen": "c", "rejected": "r"}
ROWS: dict[str, Row] = {
    "the default": Row({}, None, None),
    # ---- the recipe
    "two splits": Row(
        recipe(data__export__split_ratio={"train": 0.9, "test": 0.1}),
        "recipe data.export: split and split_ratio exclude each other; set the other one to null",
        "split and split_ratio exclude each other; keep one",
    ),
    "a split that does not add up": Row(
        recipe(data__export={"split": None, "split_ratio": {"train": 0.9, "test": 0.2}}),
        "recipe data.export.split_ratio: train + test must be 1, got 0.9 + 0.2",
        "train + test must be 1, got 0.9 + 0.2",
    ),
    "a run folder without a name": Row(
        recipe(output_dir=" "), 'recipe output_dir: " "; the chart sets it', "output_dir: must name a folder"
    ),
    "flash attention without a GPU": both(
        recipe(device="cpu", model__attention="flash_attention_2"),
        "model.attention: flash_attention_2 needs a GPU; use sdpa with device: cpu",
    ),
    "tensor parallelism without a GPU": both(recipe(device="cpu"), "train.tensor_parallel: must be 1 with device: cpu"),
    "tensor parallelism that does not divide the GPUs": both(
        recipe(train__tensor_parallel=3), "train.tensor_parallel: 3 must divide the 8 GPUs (nodes x gpus_per_node)"
    ),
    "a batch that is no multiple of its mini-batch": both(
        recipe(train__batch_size=95), "train.batch_size: must be a multiple of train.mini_batch_size 24, got 95"
    ),
    "a batch that the GPUs cannot share": Row(
        recipe(train__batch_size=3, train__mini_batch_size=3),
        "recipe train.batch_size: 3 x 4 rollouts must be a multiple of 8 GPUs",
        "train.batch_size: 3 x 4 rollouts = 12 samples, must be a multiple of 8 GPUs",
    ),
    "a mini-batch that the GPUs cannot share": Row(
        recipe(train__batch_size=6, train__mini_batch_size=3),
        "recipe train.mini_batch_size: 3 x 4 rollouts must be a multiple of 8 GPUs",
        "train.mini_batch_size: 3 x 4 rollouts = 12 samples, must be a multiple of 8 GPUs",
    ),
    "samples that a micro-batch does not divide": both(
        recipe(train__micro_batch_size_per_gpu=5),
        "train.micro_batch_size_per_gpu: must divide the 12 samples that a GPU has of a mini-batch, got 5",
    ),
    "samples that a forward pass does not divide": both(
        recipe(train__log_prob_micro_batch_size_per_gpu=7),
        "train.log_prob_micro_batch_size_per_gpu: must divide the 48 samples of a GPU, got 7",
    ),
    "two rewards": both(
        recipe(reward={"function": {"path": "/mnt/data/mine.py"}, "tie_credit": 0.5}),
        "reward: tie_credit does nothing beside function, which gives the whole reward; keep one",
    ),
    "our own reward as a function": Row(
        recipe(reward__function={"path": "pkg://pairwise_rm.train.reward"}),
        None,
        "is the reward that a recipe has without function; set its options in reward",
        IN_CONVERT,
    ),
    "all pairs held out, and trained on": Row(
        recipe(data__export__split="test"), None, "data.export.split: test leaves no rows for training", IN_TRAIN
    ),
    "no pair held out, and validated on": Row(
        recipe(data__export={"split": None, "split_ratio": {"train": 1.0}}),
        None,
        "data.export.split_ratio: holds no rows out for train.validate_every 20; set that to null",
        IN_TRAIN,
    ),
    "a reward that is no Python file": Row(
        recipe(reward__function={"path": "/mnt/data/mine.txt"}),
        'recipe reward.function.path: expected a .py file, or pkg:// and a module, got "/mnt/data/mine.txt"',
        "reward.function.path: expected a .py file, or pkg:// and a module, got '/mnt/data/mine.txt'",
    ),
    # ---- the files
    "held-out files that the split does not read": Row(
        recipe(data__configs={"test_path": "test.jsonl"}, data__export__split="test"),
        "recipe data.configs.test_path: only `split: official` reads it; name all files in configs.path",
        "configs.test_path: only `split: official` reads it; name all files in configs.path",
    ),
    # ---- the source
    "a file without a path": Row(
        recipe(data__configs={"type": "local"}),
        'recipe data.configs.path: "" is relative; give a path below /mnt/data',
        "data.configs.path: missing, which `type: local` needs",
    ),
    "a converter without a data set of its own": Row(
        recipe(data__configs__source="generic_pairwise"),
        None,
        "data.configs.repo: missing, the converter generic_pairwise has no hub dataset of its own",
        IN_CONVERT,
    ),
    "a file of a hub": Row(
        recipe(data__configs={"type": "local", "path": "/mnt/data/p.jsonl", "repo": "a/b"}),
        None,
        "data.configs.repo: only a source of `type: huggingface` has one",
        IN_CONVERT,
    ),
    "an unknown converter": Row(
        recipe(data__configs__source="helpsteer9"),
        "at '/recipe/overrides/data/configs/source': value must be one of",
        "data.configs.source: 'helpsteer9' is no known converter",
    ),
    # ---- the prompt
    "a template without a response": Row(
        recipe(prompt__template="{{ query }} {{ response_a }}"),
        "'{{ query }} {{ response_a }}' does not match pattern 'response_b'",
        "prompt.template: never uses response_b; a judge has to see them",
    ),
    "an argument of the chat template that is not free": Row(
        recipe(prompt__chat_template_kwargs={"tokenize": False}),
        None,
        "prompt.chat_template_kwargs.tokenize: is set by the code that renders the prompt",
        IN_CONVERT,
    ),
    "a rank that vLLM does not have": Row(
        recipe(model__lora={"rank": 1024}),
        "at '/recipe/overrides/model/lora",
        "model.lora.rank: expected 1, 8, 16, 32, 64, 128, 256, 320 or 512, got 1024",
    ),
    # ---- W&B
    "W&B without a key": Row(
        recipe(train__loggers=["wandb"]),
        "secrets.wandb.existingSecret: is empty, and the recipe logs to W&B (train.loggers); name a secret",
        "train.loggers: wandb needs WANDB_API_KEY (or WANDB_MODE=offline)",
    ),
    "W&B without a key, online": Row(
        recipe(train__loggers=["wandb"]) | {"extraEnv": [{"name": "WANDB_MODE", "value": "online"}]},
        "secrets.wandb.existingSecret: is empty, and the recipe logs to W&B (train.loggers); name a secret",
        "train.loggers: wandb needs WANDB_API_KEY (or WANDB_MODE=offline)",
    ),
    "W&B without a key, offline": Row(
        recipe(train__loggers=["wandb"]) | {"extraEnv": [{"name": "WANDB_MODE", "value": "offline"}]}, None, None
    ),
    "W&B with a key": Row(
        recipe(train__loggers=["wandb"]) | {"head.env": [{"name": "WANDB_API_KEY", "value": "x"}]}, None, None
    ),
    # ---- a field mapping
    "a mapping without responses": mapping(
        "expected one of response_a/response_b, chosen/rejected and answers", prompt="q"
    ),
    "a mapping of one field for both responses": mapping(
        "response_a and response_b are the same field a",
        prompt="q",
        response_a="a",
        response_b="a",
        preferred={"from": "p", "A": ["x"], "B": ["y"]},
    ),
    "a mapping with one response": mapping("expected both of response_a and response_b", response_a="a"),
    "a mapping with a better response alone": mapping("expected both of chosen and rejected", chosen="c"),
    "a mapping without a label": mapping("response_a and response_b need preferred or preference_strength", **_TWO),
    "a mapping with two labels": mapping(
        "preferred and preference_strength go with response_a and response_b", **_SIDED, preference_strength="s"
    ),
    "a label with two meanings": mapping(
        "x is listed for two of A, B and tie", **_TWO, preferred={"from": "w", "A": ["x"], "B": ["x"]}
    ),
    "answers without a prompt": mapping(
        "answers need a prompt, and take no strength", answers={"from": "a", "score": "s"}
    ),
    "answers without an order": mapping("expected one of rank and score", prompt="q", answers={"from": "a"}),
    "a mapping of another converter": Row(
        recipe(data__configs__fields=_SIDED, data__configs__source="helpsteer3_preference"),
        None,
        "fields go with source: generic_pairwise, not with helpsteer3_preference",
        IN_CONVERT,
    ),
    # ---- what the pools give: the package sees them as the nodes of the Ray cluster
    "more GPUs than there are": Row(
        recipe(train={"nodes": 2}),
        "recipe train.nodes x train.gpus_per_node: 2 pods with 8 GPUs wanted, the pools give 1 such; "
        "raise pools.<name>.gpus or maxReplicas, or take another recipe",
        "train.nodes x train.gpus_per_node: 16 GPUs wanted, the Ray cluster has 8",
    ),
    "more GPUs than pools of a fixed size give": Row(
        {"autoscaling.enabled": False, "poolDefaults.replicas": 0},
        "raise pools.<name>.gpus or replicas",
        "train.nodes x train.gpus_per_node: 8 GPUs wanted, the Ray cluster has 0",
    ),
    "larger pods than there are": Row(
        {"poolDefaults.gpus": 4, "poolDefaults.maxReplicas": 4},
        "recipe train.nodes x train.gpus_per_node: 1 pods with 8 GPUs wanted, the pools give 0 such",
        "train.nodes: 1 Ray nodes with 8 GPUs wanted, the cluster has 0",
    ),
    "just enough Ray CPUs": Row({"poolDefaults.rayCpus": 35}, None, None),
    "too few Ray CPUs": Row(
        {"poolDefaults.rayCpus": 34},
        "pools.gpu.rayCpus: 34 is too few; verl takes 35 Ray CPUs on 1 pods for 8 GPUs, so set at least 35",
        "Ray CPUs: 35 wanted by verl and its TransferQueue, the cluster has 34",
    ),
    "just enough Ray CPUs on two nodes": Row(
        recipe(train={"nodes": 2}) | {"poolDefaults.maxReplicas": 2, "poolDefaults.rayCpus": 30}, None, None
    ),
    "too few Ray CPUs on two nodes": Row(
        recipe(train={"nodes": 2}) | {"poolDefaults.maxReplicas": 2, "poolDefaults.rayCpus": 29},
        "pools.gpu.rayCpus: 29 is too few; verl takes 59 Ray CPUs on 2 pods for 16 GPUs, so set at least 30",
        "Ray CPUs: 59 wanted by verl and its TransferQueue, the cluster has 58",
    ),
    "GPUs that are only counted": Row(
        {"poolDefaults.gpuResource": ""},
        "pools.gpu.gpuResource: is empty, so its GPUs are only counted; the recipe qwen3-14b-8x80g has device: cuda",
        None,
        "Ray believes the number of GPUs that it is started with",
    ),
    "more engines than the pools have room for": Row(
        recipe(evaluate={"replicas": 9, "tensor_parallel": 8}),
        "recipe evaluate.replicas x evaluate.tensor_parallel: 9 engines with 8 GPUs on one pod wanted, "
        "the pools have room for 1",
        None,
        "training does not evaluate; the evaluation waits for its engines until stages.evaluate.gpuTimeout",
    ),
}
# What only the package can refuse, by a part of its sentence.
NOT_OF_VALUES = {
    "training needs ": "what the image has installed",
    "flash_attention_2 needs the package flash-attn": "what the image has installed",
    "model.lora: needs the package peft": "what the image has installed",
    "wanted, the file has ": "the pairs, which are not converted yet",
    "prompt.max_prompt_length: none of the ": "the pairs, which are not converted yet",
    "reward.weight_by_strength: ": "the pairs, which are not converted yet",
    "; the judge's format must survive it": "the model's tokenizer",
    "model.path: ": "the model's tokenizer and chat template",
    "prompt.system: the chat template": "the model's chat template",
    "tokens, the prompt around an empty pair": "the model's tokenizer",
    "tokens, the shortest verdict": "the model's tokenizer",
    "attention heads": "the model's config.json",
    "tokens of prompt and response wanted": "the model's config.json",
    " GiB wanted for ": "the free space of the volume, or the memory of a machine without a cluster",
    "GPUs wanted, this machine has ": "the GPUs of a machine without a cluster",
    "train.ray_cpus: ": "a key for a machine without a cluster",
}


# ---- what the chart says --------------------------------------------------------------------------


def said_by_chart(row: Row) -> str:
    return "" if row.chart is None else refusal(nested(row.values))


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_the_chart_says_what_the_table_has(row: Row) -> None:
    if row.chart is None:
        assert rendered([], nested(row.values))
        return
    assert row.chart in said_by_chart(row)
    assert said_by_chart(row).count("Error:") == 1


CHART = [pytest.param(p, id=name) for name, p in sentences(("_check_recipe.tpl", "_check_capacity.tpl"))]


@pytest.mark.parametrize("pattern", CHART)
def test_each_of_the_chart_s_checks_of_a_recipe_has_a_row(pattern: str) -> None:
    assert any(re.search(pattern, said_by_chart(row)) for row in ROWS.values())


# ---- what the package says ------------------------------------------------------------------------


def ray_nodes(values: Values) -> list[dict[str, Any]]:
    """The pods that the chart's one pool can have, as Ray lists them."""
    pool = values.get("poolDefaults", {})
    fixed = not values.get("autoscaling", {}).get("enabled", True)
    gpus = pool.get("gpus", 8)
    node = {"GPU": gpus, "CPU": pool.get("rayCpus", 4 * gpus + 8)}
    return [{"Resources": node, "Alive": True}] * pool.get("replicas" if fixed else "maxReplicas", 1)


def said_by_package(row: Row, folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """All that is refused when the recipe is loaded, by preflight, and by the Ray cluster of the chart's pools."""
    import ray

    values = nested(row.values)
    given = flatten(values.get("recipe", {}).get("overrides", {}))
    for name in WANDB:
        monkeypatch.delenv(name, raising=False)
    for variable in (*values.get("extraEnv", []), *values.get("head", {}).get("env", [])):
        monkeypatch.setenv(variable["name"], variable["value"])
    monkeypatch.setenv("RAY_ADDRESS", "ray://nowhere")
    monkeypatch.setattr(checks, "ray_session", lambda *_: contextlib.nullcontext())
    monkeypatch.setattr(ray, "nodes", lambda: ray_nodes(values))
    said = []
    try:
        # A model that is not there, so that nothing is fetched: what needs it is not in the table.
        given |= {"model.path": str(folder / "none")}
        loaded = load_recipe(RECIPE, [f"{key}={json.dumps(setting)}" for key, setting in given.items()])
    except InputError as error:
        return str(error)
    said += [problem.text for problem in recipe_checks.source_problems(loaded.data)]
    said += [problem.text for problem in recipe_checks.training_problems(loaded)]
    for check in (lambda: checks.preflight(loaded, RunFolder.of(loaded)), lambda: checks.check_cluster(loaded)):
        try:
            check()
        except InputError as error:
            said += str(error).splitlines()
    # Of the model that is not there, and of an image that may lack it.
    rest = [line for line in said if not re.search("no such model folder|needs the package flash-attn", line)]
    return "\n".join(rest)


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_the_package_says_what_the_table_has(row: Row, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = said_by_package(row, tmp_path, monkeypatch)
    if row.package is None:
        assert said == ""
    else:
        assert row.package in said


SAYING = ("InputError", "StageError", "ValueError", "Problem", "append")


def written() -> Iterator[str]:
    """Every sentence of the recipe's validators and of preflight, as a pattern of what is said."""
    for module in (recipe_model, recipe_checks, model_checks, checks):
        for node in ast.walk(ast.parse(inspect.getsource(module))):
            if isinstance(node, ast.Yield):
                yield from _pattern(node.value)
            elif isinstance(node, ast.Call) and _called(node) in SAYING:
                yield from _pattern(node.args[0])


def _called(call: ast.Call) -> str:
    return call.func.id if isinstance(call.func, ast.Name) else getattr(call.func, "attr", "")


def _pattern(node: ast.AST | None) -> Iterator[str]:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield re.escape(node.value)
    elif isinstance(node, ast.JoinedStr):
        parts = [re.escape(str(part.value)) if isinstance(part, ast.Constant) else ".*" for part in node.values]
        yield "".join(parts)


WRITTEN = sorted(set(written()))


@pytest.mark.parametrize("pattern", WRITTEN)
def test_each_of_the_package_s_checks_has_a_row_or_is_not_of_values(
    pattern: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    not_of_values = [part for part in NOT_OF_VALUES if re.escape(part) in pattern]
    in_a_row = any(
        re.search(pattern, said_by_package(row, tmp_path, monkeypatch)) for row in ROWS.values() if row.package
    )
    assert in_a_row != bool(not_of_values)


def test_what_only_one_of_them_refuses_has_its_reason() -> None:
    for name, row in ROWS.items():
        assert bool(row.why) == ((row.chart is None) != (row.package is None)), name
    assert [part for part in NOT_OF_VALUES if not any(re.escape(part) in pattern for pattern in WRITTEN)] == []
