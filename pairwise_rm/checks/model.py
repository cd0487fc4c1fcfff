"""What the model's config and tokenizer tell; of a hub model only these small files are downloaded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from pairwise_rm.checks.problem import Problem
from pairwise_rm.contract.escaping import control_tokens
from pairwise_rm.contract.prompt import PairwiseComparisonTemplate, chat_prompt, chat_tokens, thinking_of
from pairwise_rm.contract.rows import Message
from pairwise_rm.contract.verdict import THINK_CLOSE, THINK_OPEN, Thinking, extract_preference_from_response
from pairwise_rm.errors import InputError, missing_extra
from pairwise_rm.hf_model import (
    HubOutOfReach,
    check_base_model,
    is_hub_name,
    load_tokenizer,
    model_location,
    read_config,
)
from pairwise_rm.recipe.model import PromptConfig, Recipe

_USER_TEXT = """\
What is <b>2 & 3</b> in "{x}"?

# Query
  two  spaces, é
<think>x</think>
<preference>A</preference>"""
"""A prompt has markup, quotes, braces, blank lines and the judge's own tags, and all of it has to arrive."""
_ANSWER = "?pairwise-rm-answer?"


class LookedAt(NamedTuple):
    """`tokenizer` is None where it could not be loaded, or its chat template cannot be used."""

    problems: list[Problem]
    tokenizer: Any


def model_problems(recipe: Recipe) -> list[Problem]:
    """All of this layer."""
    looked = look_at_model(recipe)
    if looked.tokenizer is None or looked.problems:
        return looked.problems
    return list(_length_problems(recipe, looked.tokenizer))


def look_at_model(recipe: Recipe) -> LookedAt:
    """The model's files, config and chat template, and the tokenizer for what needs it further."""
    model = recipe.model
    try:
        check_base_model(model)
        config = read_config(model.path, model.revision)
    except InputError as error:
        there = Path(model.path).expanduser().exists()
        absent = isinstance(error, HubOutOfReach) or (not there and bool(model.make or not is_hub_name(model.path)))
        return LookedAt([Problem(str(error), ("model.path",), absent=absent)], None)
    problems = list(_config_problems(recipe, config))
    try:
        tokenizer = load_tokenizer(
            model_location(model.path), revision=model.revision, trust_remote_code=model.trust_remote_code
        )
    except InputError as error:
        return LookedAt([*problems, Problem(str(error), ("model.path",))], None)
    except ModuleNotFoundError as error:
        if not (sentence := missing_extra(error)):
            raise
        return LookedAt([*problems, Problem(f"model.path: {sentence}", absent=True)], None)
    chat = chat_problems(tokenizer, recipe.prompt, model.path)
    return LookedAt([*problems, *chat], None if chat else tokenizer)


def _config_problems(recipe: Recipe, config: Mapping[str, Any]) -> Iterator[Problem]:
    config = config.get("text_config") or config
    heads = config.get("num_attention_heads")
    for section in ("train", "evaluate"):
        parallel = getattr(recipe, section).tensor_parallel
        if heads and heads % parallel:
            yield Problem(f"{section}.tensor_parallel: {parallel} must divide the model's {heads} attention heads")
    window = context_window(config)
    wanted = recipe.prompt.max_prompt_length + recipe.prompt.max_response_length
    if window and wanted > window:
        yield Problem(
            f"prompt: {wanted} tokens of prompt and response wanted, the model has {window} positions",
            ("prompt.max_prompt_length", "prompt.max_response_length", "prompt"),
        )


def context_window(config: Mapping[str, Any]) -> int | None:
    """The positions that vLLM counts for this config, RoPE scaling included; None where it does not say."""
    window = config.get("max_position_embeddings")
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    kind = rope.get("rope_type", rope.get("type"))
    if not isinstance(window, int):
        return None
    window = max(window, config.get("model_max_length") or 0)
    if kind in (None, "su", "longrope", "llama3"):
        return window
    if "gemma3" in str(config.get("model_type")):
        return window  # its max_position_embeddings has the factor in it
    if kind == "yarn":
        window = rope.get("original_max_position_embeddings") or window
    return int(window * (rope.get("factor") or 1))


# ---- the chat template ---------------------------------------------------------------------------


def chat_problems(tokenizer: Any, prompt: PromptConfig, model: str) -> list[Problem]:
    """Whether the model's chat template shows the judge's prompt, and whether its tokenizer keeps the verdict."""
    user: Message = {"role": "user", "content": _USER_TEXT}
    options = prompt.chat_template_kwargs
    keys = ("prompt.chat_template_kwargs", "model.path") if options else ("model.path",)
    try:
        shown = chat_prompt(tokenizer, [user], options)
    except InputError as error:
        return [Problem(f"model.path: {error}; take a model for chat, or mend its chat template", keys)]
    if _USER_TEXT not in shown:
        return [
            Problem(
                f"model.path: the chat template of {model} changes or leaves out the user's text, which a judge has to "
                "see whole; take a model for chat, or mend its chat template",
                keys,
            )
        ]
    return [
        *_system_problems(tokenizer, prompt, user, model),
        *_turn_problems(tokenizer, prompt, user, model),
        *_format_problems(tokenizer, thinking_of(tokenizer, options), model),
    ]


def _system_problems(tokenizer: Any, prompt: PromptConfig, user: Message, model: str) -> Iterator[Problem]:
    if not prompt.system:
        return
    system: Message = {"role": "system", "content": prompt.system}
    try:
        shown = chat_prompt(tokenizer, [system, user], prompt.chat_template_kwargs)
    except InputError as error:
        yield Problem(str(error), ("prompt.system",))
        return
    if prompt.system.strip() not in shown or _USER_TEXT not in shown:
        yield Problem(
            f"prompt.system: the chat template of {model} changes or leaves out a system message; "
            "set prompt.system to null, and say it in prompt.template"
        )


def _turn_problems(tokenizer: Any, prompt: PromptConfig, user: Message, model: str) -> Iterator[Problem]:
    """A template has to begin the assistant's turn, or the model would go on with the user's."""
    options = prompt.chat_template_kwargs
    asked = chat_prompt(tokenizer, [user], options)
    if asked != chat_prompt(tokenizer, [user], options, add_generation_prompt=False):
        return
    try:
        answered = chat_prompt(
            tokenizer, [user, {"role": "assistant", "content": _ANSWER}], options, add_generation_prompt=False
        )
    except InputError:
        return  # a template for one turn only; that a prompt ends as it does is then all that it says
    before = answered.partition(_ANSWER)[0]
    begun = before.removeprefix(asked.rstrip()).replace(THINK_OPEN, "").replace(THINK_CLOSE, "")
    if before != answered and before.startswith(asked.rstrip()) and begun.strip():
        yield Problem(
            f"model.path: the chat template of {model} has no generation prompt, and an answer begins with "
            f"{begun.strip()!r}; add it to the template under `if add_generation_prompt`, or take a model for chat"
        )


def _format_problems(tokenizer: Any, thinking: Thinking, model: str) -> Iterator[Problem]:
    # verl decodes with skip_special_tokens: a tokenizer that counts <think> as special would lose every reward.
    said = {"response": "<think>x</think><preference>A</preference>", "prompt": "x</think><preference>A</preference>"}
    text = said.get(thinking, "<preference>A</preference>")
    decoded = tokenizer.decode(tokenizer.encode(text, add_special_tokens=False), skip_special_tokens=True)
    if not extract_preference_from_response(decoded, thinking).valid:
        yield Problem(
            f"{model}: its tokenizer turns {text!r} into {decoded!r}; the judge's format must survive it",
            ("model.path",),
        )


# ---- lengths -------------------------------------------------------------------------------------


def _length_problems(recipe: Recipe, tokenizer: Any) -> Iterator[Problem]:
    """Limits that no pair can keep to, whatever it says."""
    prompt = recipe.prompt
    try:
        template = PairwiseComparisonTemplate(prompt.rubric, prompt.template, control_tokens(tokenizer))
    except InputError:
        return  # the recipe's own layer says it
    row = {"messages": [{"role": "user", "content": "?"}], "responses": ["", ""]}
    least = len(chat_tokens(tokenizer, template.messages(row, prompt.system), prompt.chat_template_kwargs))
    if least > prompt.max_prompt_length:
        yield Problem(
            f"prompt.max_prompt_length: {prompt.max_prompt_length} tokens, the prompt around an empty pair has {least}"
        )
    thinking = thinking_of(tokenizer, prompt.chat_template_kwargs)
    opened = {"response": "", "prompt": THINK_OPEN}.get(thinking, f"{THINK_OPEN}{THINK_CLOSE}")
    verdict = f"{THINK_OPEN}{THINK_CLOSE}<preference>A</preference>".removeprefix(opened)
    shortest = len(tokenizer.encode(verdict, add_special_tokens=False))
    if shortest > prompt.max_response_length:
        yield Problem(
            f"prompt.max_response_length: {prompt.max_response_length} tokens, the shortest verdict has {shortest}"
        )
