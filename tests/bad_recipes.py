"""Recipes with one mistake each, and the doors at which a mistake can be refused: one table for all of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

from tests.model_files import safetensors, save_byte_tokenizer

RECIPE = "qwen3-14b-8x80g"
Layer = Literal["recipe", "files", "model"]

TURNS = "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}<|end|>{% endfor %}"
ASSISTANT = "{% if add_generation_prompt %}<|assistant|>{% endif %}"
CHAT = TURNS + ASSISTANT
GEMMA = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}" + CHAT
RAISES = "{{ raise_exception('no such conversation') }}"
REWRITES = CHAT.replace("m['content']", "m['content'] | upper")


class Mistake(NamedTuple):
    """Overrides of RECIPE, or a change of the files beside it.

    `helm`: what the chart says; None where it cannot tell, and the convert stage has to. `absent`: what is wrong is
    that a file is not there, which a dry run tells and does not refuse.
    """

    layer: Layer
    said: str
    overrides: Mapping[str, Any] = MappingProxyType({})
    helm: str | None = None
    change: Callable[[Path], object] = lambda folder: None
    absent: bool = False


def template(text: str) -> dict[str, Any]:
    return {"prompt.template": text}


def chat(text: str) -> Callable[[Path], object]:
    return lambda folder: (folder / "model" / "chat_template.jinja").write_text(text)


def config(**changed: int) -> Callable[[Path], object]:
    return lambda folder: write_config(folder / "model", **changed)


def source(name: str, content: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_text(content)


def swallow_tags(folder: Path) -> None:
    save_byte_tokenizer(folder / "model", CHAT, eos="<eos>", bos_token="<think>", pad_token="</think>")


HELPSTEER3_ROW = json.dumps(
    {"context": [{"role": "user", "content": "?"}], "response1": "a", "response2": "b", "overall_preference": -1}
)

MISTAKES: dict[str, Mistake] = {
    "a batch of 100 with mini-batches of 24": Mistake(
        "recipe",
        "train.batch_size: must be a multiple of train.mini_batch_size 24, got 100",
        {"train.batch_size": 100},
        "recipe train.batch_size: must be a multiple of train.mini_batch_size 24, got 100",
    ),
    "tensor_parallel 3 on 8 GPUs": Mistake(
        "recipe",
        "train.tensor_parallel: 3 must divide the 8 GPUs",
        {"train.tensor_parallel": 3},
        "recipe train.tensor_parallel: 3 must divide the 8 GPUs",
    ),
    "a mini-batch that 8 GPUs cannot share": Mistake(
        "recipe",
        "train.mini_batch_size: 3 x 4 rollouts = 12 samples, must be a multiple of 8 GPUs",
        {"train.batch_size": 6, "train.mini_batch_size": 3},
        "recipe train.mini_batch_size: 3 x 4 rollouts must be a multiple of 8 GPUs",
    ),
    "a micro-batch that does not divide": Mistake(
        "recipe",
        "train.micro_batch_size_per_gpu: must divide the 12 samples",
        {"train.micro_batch_size_per_gpu": 5, "train.log_prob_micro_batch_size_per_gpu": 1},
        "recipe train.micro_batch_size_per_gpu: must divide the 12 samples",
    ),
    "a template without response B": Mistake(
        "recipe",
        "prompt.template: never uses response_b",
        template("{{ query }} {{ response_a }}"),
        "does not match pattern 'response_b'",
    ),
    "a template that never shows response B": Mistake(
        "recipe",
        "prompt.template: never shows response_b",
        template("{{ query }} {{ response_a }} {% if query == '' %}{{ response_b }}{% endif %}"),
    ),
    "a template that does not compile": Mistake(
        "recipe", "prompt.template: line 1: ", template("{{ query }} {{ response_a }} {{ response_b }")
    ),
    "a template with an unknown variable": Mistake(
        "recipe",
        "prompt.template: unknown variable 'rubrik'",
        template("{{ rubrik }} {{ query }} {{ response_a }} {{ response_b }}"),
    ),
    "a template that cannot be rendered": Mistake(
        "recipe",
        "prompt.template: cannot be rendered: ",
        template("{{ query }} {{ response_a }} {{ response_b }} {{ query / 2 }}"),
    ),
    "a LoRA rank of 1024": Mistake(
        "recipe",
        "model.lora.rank: expected 1, 8, 16, 32, 64, 128, 256, 320 or 512, got 1024",
        {"model.lora": {"rank": 1024}},
        "at '/recipe/overrides/model/lora",
    ),
    "a LoRA rank that vLLM does not list": Mistake(
        "recipe", "model.lora.rank: expected 1, 8", {"model.lora": {"rank": 24}}, "at '/recipe/overrides/model/lora"
    ),
    "a local source without a path": Mistake(
        "recipe",
        "data.configs.path: missing, which `type: local` needs",
        {"data.configs": {"type": "local", "path": None}},
        'recipe data.configs.path: "" is relative',
    ),
    "an unknown converter": Mistake(
        "recipe",
        "data.configs.source: 'helpsteer9' is no known converter",
        {"data.configs.source": "helpsteer9"},
        "at '/recipe/overrides/data/configs/source'",
    ),
    "two splits": Mistake(
        "recipe",
        "data.export: split and split_ratio exclude each other",
        {"data.export": {"split": "official", "split_ratio": {"train": 0.9, "test": 0.1}}},
        "recipe data.export: split and split_ratio exclude each other",
    ),
    "a key that verl does not know": Mistake(
        "recipe", "train.verl.trainer.nonsense: verl has no key", {"train.verl": {"trainer": {"nonsense": 1}}}
    ),
    "a key of verl's that is ours": Mistake(
        "recipe", "train.verl.trainer.nnodes: belongs to the launcher", {"train.verl": {"trainer": {"nnodes": 3}}}
    ),
    "an argument of the chat template that is ours": Mistake(
        "recipe",
        "prompt.chat_template_kwargs.tokenize: is set by",
        {"prompt.chat_template_kwargs": {"tokenize": False}},
    ),
    "an unknown key": Mistake(
        "recipe",
        "unknown key train.setps; did you mean steps?",
        {"train.setps": 3},
        "additional properties 'setps' not allowed",
    ),
    "our own reward as the function": Mistake(
        "recipe",
        "reward.function.path: pkg://pairwise_rm.train.reward is the reward that a recipe has without function",
        {"reward.function": {"path": "pkg://pairwise_rm.train.reward"}},
    ),
    # ---- files
    "a source that is not there": Mistake(
        "files", "nothing.jsonl does not exist", {"data.configs.path": "FOLDER/nothing.jsonl"}, absent=True
    ),
    "a source of an unknown kind": Mistake(
        "files",
        "pairs.txt is of no known kind",
        {"data.configs.path": "FOLDER/pairs.txt"},
        change=source("pairs.txt", "x"),
    ),
    "HelpSteer3 with split: official and no test_path": Mistake(
        "files",
        "pairs.jsonl name no split; give data.configs.test_path",
        {"data.configs.source": "helpsteer3_preference"},
        change=source("pairs.jsonl", HELPSTEER3_ROW),
    ),
    "a reward that is not there": Mistake(
        "files",
        "mine.py: no such file",
        {"reward.function": {"path": "FOLDER/mine.py"}},
        absent=True,
    ),
    "a reward that raises": Mistake(
        "files",
        "mine.py: raised ZeroDivisionError",
        {"reward.function": {"path": "FOLDER/mine.py"}},
        change=source(
            "mine.py", "def compute_score(data_source, solution_str, ground_truth, extra_info):\n    return 1 / 0\n"
        ),
    ),
    "an empty source": Mistake("files", "is empty, expected preference rows", change=source("pairs.jsonl", "")),
    # ---- the model
    "12 attention heads on 8 GPUs": Mistake(
        "model",
        "train.tensor_parallel: 8 must divide the model's 12 attention heads",
        change=config(num_attention_heads=12),
    ),
    "a context window that is too small": Mistake(
        "model",
        "prompt: 6144 tokens of prompt and response wanted, the model has 4096 positions",
        change=config(max_position_embeddings=4096),
    ),
    "a chat template without a system message": Mistake(
        "model",
        "refuses a system message: System role not supported; set prompt.system to null",
        {"prompt.system": "You judge."},
        change=chat(GEMMA),
    ),
    "a chat template that raises": Mistake(
        "model", "its chat template refuses a user message: no such conversation", change=chat(RAISES)
    ),
    "a chat template that rewrites the text": Mistake(
        "model", "changes or leaves out the user's text", change=chat(REWRITES)
    ),
    "a chat template without a generation prompt": Mistake(
        "model", "has no generation prompt, and an answer begins with '<|assistant|>'", change=chat(TURNS)
    ),
    "a tokenizer that swallows <think>": Mistake("model", "the judge's format must survive it", change=swallow_tags),
    "a prompt longer than its limit": Mistake(
        "model",
        "prompt.max_prompt_length: 100 tokens, the prompt around an empty pair has ",
        {"prompt.max_prompt_length": 100},
    ),
    "a response shorter than a verdict": Mistake(
        "model",
        "prompt.max_response_length: 16 tokens, the shortest verdict has ",
        {"prompt.max_response_length": 16},
    ),
}


def write_config(model: Path, **changed: int) -> None:
    given = {"num_attention_heads": 16, "max_position_embeddings": 40960, **changed}
    (model / "config.json").write_text(json.dumps(given))


def write_files(folder: Path) -> None:
    """What RECIPE needs to pass at every door: a model without weights to speak of, and two pairs."""
    model = folder / "model"
    model.mkdir(parents=True)
    save_byte_tokenizer(model, CHAT, eos="<eos>")
    write_config(model)
    (model / "model.safetensors").write_bytes(safetensors(1))
    row = {"prompt": "q", "response_1": "a", "response_2": "b", "preference_strength": 1}
    rows = [{**row, "prompt": f"q{at}", "split": split} for at, split in enumerate(("train", "val"))]
    (folder / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
