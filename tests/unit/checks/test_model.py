"""What is read off a model's config and chat template, with the forms that public models have."""

from __future__ import annotations

from typing import Any

import jinja2
import pytest

from pairwise_rm.checks.model import chat_problems, context_window
from pairwise_rm.recipe.model import PromptConfig


@pytest.mark.parametrize(
    ("config", "window"),
    [
        ({}, None),
        ({"max_position_embeddings": 4096}, 4096),
        ({"max_position_embeddings": 4096, "rope_scaling": None}, 4096),
        ({"max_position_embeddings": 4096, "model_max_length": 8192}, 8192),
        ({"max_position_embeddings": 4096, "rope_scaling": {"type": "linear", "factor": 2.0}}, 8192),
        ({"max_position_embeddings": 131072, "rope_scaling": {"rope_type": "llama3", "factor": 8.0}}, 131072),
        (
            {
                "max_position_embeddings": 131072,
                "rope_scaling": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768},
            },
            131072,
        ),
        ({"max_position_embeddings": 40960, "rope_parameters": {"rope_type": "default", "rope_theta": 1e6}}, 40960),
        (
            {
                "model_type": "gemma3_text",
                "max_position_embeddings": 131072,
                "rope_scaling": {"rope_type": "linear", "factor": 8.0},
            },
            131072,
        ),
    ],
)
def test_the_context_window_is_the_one_that_vllm_counts(config: dict[str, Any], window: int | None) -> None:
    assert context_window(config) == window


class Tokenizer:
    """The seam: one character a token, and the chat template rendered for real."""

    name_or_path = "m"

    def __init__(self, source: str) -> None:
        self.template = jinja2.Template(source)

    def apply_chat_template(self, messages: Any, tokenize: bool = True, **options: Any) -> str:
        assert not tokenize
        return str(self.template.render(messages=messages, **options))

    def encode(self, text: str, add_special_tokens: bool) -> str:
        return text

    def decode(self, tokens: str, skip_special_tokens: bool) -> str:
        return tokens


EACH = "{% for m in messages %}"
CHATML = EACH + "<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
START = "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
# No generation prompt of its own: an answer follows [/INST] at once.
MISTRAL = (
    EACH + "{% if m.role == 'user' %}[INST] {{ m.content }} [/INST]{% else %}{{ m.content }}</s>{% endif %}{% endfor %}"
)
# Its last answer has a block of reasoning that a generation prompt has not.
QWEN3 = (
    EACH + "<|im_start|>{{ m.role }}\n{% if m.role == 'assistant' %}<think>\n\n</think>\n\n{% endif %}{{ m.content }}"
    "<|im_end|>\n{% endfor %}" + START
)
HARMONY = (
    EACH
    + "<|start|>{{ m.role }}{% if m.role == 'assistant' %}<|channel|>final{% endif %}<|message|>{{ m.content }}<|end|>"
    "{% endfor %}{% if add_generation_prompt %}<|start|>assistant{% endif %}"
)
TRIMS = CHATML.replace("m.content", "m.content | trim") + START
ONE_TURN = "{{ raise_exception('one') if messages | length > 1 }}{{ messages[0].content }}:"


@pytest.mark.parametrize("source", [CHATML + START, MISTRAL, QWEN3, HARMONY, TRIMS])
def test_chat_templates_of_public_models_pass(source: str) -> None:
    assert chat_problems(Tokenizer(source), PromptConfig(system="Judge."), "m") == []


def test_a_template_for_one_turn_passes_without_a_system_message() -> None:
    assert chat_problems(Tokenizer(ONE_TURN), PromptConfig(), "m") == []


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (CHATML, "has no generation prompt, and an answer begins with '<|im_start|>assistant'"),
        ("{{ messages[-1].content | e }}" + START, "changes or leaves out the user's text"),
        ("Hello", "changes or leaves out the user's text"),
        ("{{ messages[-1].content }}" + START, "changes or leaves out a system message; set prompt.system to null"),
        ("{{ messages[9].content }}", "refuses a user message: "),
        ("{{ thinking_budget + 1 }}", "refuses a user message: "),
    ],
)
def test_a_chat_template_that_cannot_show_the_prompt_is_one_line(source: str, words: str) -> None:
    [problem] = chat_problems(Tokenizer(source), PromptConfig(system="Judge."), "m")
    assert words in problem.text
    assert "\n" not in problem.text
