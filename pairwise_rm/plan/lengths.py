"""How long prompts and responses are: from the data where they are there, else assumed, and said so."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pairwise_rm.contract.prompt import PairwiseComparisonTemplate
from pairwise_rm.contract.prompt_fit import PromptFitter
from pairwise_rm.contract.rows import read_rows
from pairwise_rm.errors import InputError, first_line
from pairwise_rm.hf_model import is_hub_name, load_tokenizer
from pairwise_rm.plan.model_shape import cached_file
from pairwise_rm.recipe.model import Recipe
from pairwise_rm.run_folder import RunFolder

_CHARACTERS_A_TOKEN = 4.0
"""Of English text under the tokenizers of Qwen and Llama."""
_MOST = 2000
"""Rows that are measured, evenly spread over the file."""
_LAST_STEPS = 20
_BINS = 8
_HELPSTEER2_ROWS = 2 * 8_677
_HELPSTEER2_PROMPT, _HELPSTEER2_RESPONSE = 830, 1_460
"""Mean characters of HelpSteer2's training rows (benchmarks/convert.py)."""


@dataclass(frozen=True)
class Lengths:
    """Tokens of prompts and responses, with how they were found out.

    `prompts`: of a sample of rows, sorted; `longest`: the longest that there can be; `rows`: of the training file that
    fit, or None where nobody knows. `estimated`: whether the prompts' tokens are an estimate.
    """

    prompts: Sequence[int]
    longest: int
    rows: int | None
    response: float
    prompt_source: str
    response_source: str
    estimated: bool

    @property
    def prompt(self) -> float:
        """The mean."""
        return sum(self.prompts) / len(self.prompts)

    @property
    def sequence(self) -> float:
        """A mean prompt with a mean response."""
        return self.prompt + self.response

    def percentile(self, share: float) -> int:
        return self.prompts[min(len(self.prompts) - 1, int(share * len(self.prompts)))]

    def histogram(self) -> list[tuple[int, int, int]]:
        """(from, to, prompts) of equal bins, empty where only a mean is known."""
        if len(self.prompts) < 2:
            return []
        width = -(-(self.longest + 1) // _BINS)
        counts = [0] * _BINS
        for length in self.prompts:
            counts[min(length // width, _BINS - 1)] += 1
        return [(at * width, (at + 1) * width - 1, count) for at, count in enumerate(counts)]


def lengths_of(recipe: Recipe, data: Path | None = None, response: float | None = None) -> Lengths:
    """Lengths of the pairs in `data`, or of the recipe's training file where it has been converted already.

    Args:
        data: a parquet file of pairs.
        response: mean tokens of a response, where the user knows it.

    Raises InputError where `data` cannot be read, or none of its prompts fits.
    """
    mean, response_source = _response(recipe, response)
    own = RunFolder.of(recipe).train_file
    file = data or (own if own.is_file() else None)
    if file is not None:
        prompts, rows, how, estimated = _of_file(recipe, file)
        return Lengths(prompts, prompts[-1], rows, mean, how, response_source, estimated)
    most = recipe.prompt.max_prompt_length
    if recipe.data.configs.type == "huggingface" and recipe.data.configs.source == "helpsteer2_pairwise":
        turn: Any = {"role": "user", "content": "x" * _HELPSTEER2_PROMPT}
        typical = {"messages": [turn], "responses": ["x" * _HELPSTEER2_RESPONSE] * 2}
        tokens = min(most, _estimate(_template(recipe).messages(typical, recipe.prompt.system)))
        how = "estimated: mean lengths of HelpSteer2, 4 characters a token (--data FILE measures)"
        return Lengths([tokens], most, _HELPSTEER2_ROWS, mean, how, response_source, True)
    how = "assumed: all as long as prompt.max_prompt_length (--data FILE measures)"
    return Lengths([most], most, None, mean, how, response_source, True)


def _response(recipe: Recipe, given: float | None) -> tuple[float, str]:
    limit = recipe.prompt.max_response_length
    if given is not None:
        return min(given, limit), "as given"
    measured = list(_response_lengths(RunFolder.of(recipe).metrics))[-_LAST_STEPS:]
    if measured:
        return sum(measured) / len(measured), f"mean of the last {len(measured)} steps of this run"
    return limit / 2, f"assumed: half of prompt.max_response_length {limit:,} (--response-tokens N says it)"


def _response_lengths(metrics: Path) -> Iterator[float]:
    """`response_length/mean` of each step; a line that is being written is left out."""
    if not metrics.is_file():
        return
    for line in metrics.read_text(encoding="utf-8").splitlines():
        try:
            value = json.loads(line).get("response_length/mean")
        except ValueError:
            continue
        if isinstance(value, int | float):
            yield float(value)


def _template(recipe: Recipe, tokenizer: Any = None) -> PairwiseComparisonTemplate:
    from pairwise_rm.contract.escaping import control_tokens

    return PairwiseComparisonTemplate(
        recipe.prompt.rubric, recipe.prompt.template, control_tokens(tokenizer) if tokenizer else ()
    )


def _of_file(recipe: Recipe, file: Path) -> tuple[list[int], int, str, bool]:
    """Sorted tokens of a sample's prompts, rows that fit, how they were counted, whether that is an estimate."""
    rows = read_rows([file]).rows
    sample = rows[:: -(-len(rows) // _MOST)]
    prompt = recipe.prompt
    tokenizer, why = _tokenizer(recipe)
    template = _template(recipe, tokenizer)
    if tokenizer is None:
        found = [_estimate(template.messages(row, prompt.system)) for row in sample]
        found = [
            min(n, prompt.max_prompt_length) for n in found if prompt.overlong == "cut" or n <= prompt.max_prompt_length
        ]
        how = f"estimated: 4 characters a token, since {why}"
    else:
        fitter = PromptFitter(
            tokenizer, template, prompt.max_prompt_length, prompt.overlong, prompt.system, prompt.chat_template_kwargs
        )
        fitted = [fitter.fit(row) for row in sample]
        found = [len(fitter.tokens(fitter.messages(row))) for row in fitted if row is not None]
        how = f"counted by the model's tokenizer in {len(sample):,} of {len(rows):,} rows of {file.name}"
    if not found:
        raise InputError(f"prompt.max_prompt_length: none of the rows fits into {prompt.max_prompt_length} tokens")
    return sorted(found), round(len(rows) * len(found) / len(sample)), how, tokenizer is None


def _tokenizer(recipe: Recipe) -> tuple[Any, str]:
    """The model's tokenizer, or None and why it is not there. Nothing is downloaded for it."""
    model = recipe.model
    folder: Path | None = Path(model.path).expanduser()
    if is_hub_name(model.path):
        config = None if model.make else cached_file(model.path, "tokenizer_config.json", model.revision)
        folder = config and config.parent
    if folder is None or not folder.is_dir():
        return None, "the model's tokenizer is not on this machine"
    try:
        return load_tokenizer(str(folder), trust_remote_code=model.trust_remote_code), ""
    except (InputError, ModuleNotFoundError) as error:
        return None, first_line(error)


def _estimate(messages: Sequence[Any]) -> int:
    return round(sum(len(message["content"]) for message in messages) / _CHARACTERS_A_TOKEN) + 8
