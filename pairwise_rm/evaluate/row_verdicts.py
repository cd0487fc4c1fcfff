"""From rows to verdicts: render, fit, generate, parse, vote.

Training and evaluation see the same tokens: prompts are made by `contract.prompt_fit.PromptFitter`, responses are
parsed by `contract.verdict.extract_preference_from_response` with the same position of `<think>`. A prompt that does
not fit has an invalid verdict with the reason `prompt_too_long`, so every row has one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pairwise_rm.contract.escaping import control_tokens
from pairwise_rm.contract.prompt import PairwiseComparisonTemplate, thinking_of
from pairwise_rm.contract.prompt_fit import TOO_LONG, PromptFitter
from pairwise_rm.contract.rows import Preference, Row
from pairwise_rm.contract.verdict import Thinking, Verdict, extract_preference_from_response
from pairwise_rm.evaluate.engine import EnginePool, Generation, Sampling, engines, revision_of
from pairwise_rm.evaluate.vote import majority
from pairwise_rm.hf_model import load_tokenizer
from pairwise_rm.recipe.model import Recipe

Progress = Callable[[str, int, int], None]
"""Told what is going on, how much of it is done, and how much there is."""

START, JUDGE = "start vLLM", "judge"


@dataclass(frozen=True)
class RowVerdict:
    """The judge's verdict on one row; `verdict` is None exactly when `reason` says why."""

    verdict: Preference | None
    reason: str | None
    samples: list[Verdict]
    texts: list[str]
    tokens: list[int]
    prompt_tokens: int | None
    cut: bool


@dataclass(frozen=True)
class Prompt:
    """A row's token ids (None: too long), and whether the pair was cut to fit."""

    ids: list[int] | None
    cut: bool


@dataclass(frozen=True)
class PromptMaker:
    """Everything about prompts that depends on the model: its tokenizer, template and position of `<think>`."""

    fitter: PromptFitter
    thinking: Thinking

    @classmethod
    def of(cls, recipe: Recipe, model: str) -> PromptMaker:
        """For a model's tokenizer. Raises InputError when it cannot be loaded."""
        prompt = recipe.prompt
        tokenizer = load_tokenizer(
            model, revision=revision_of(recipe, model), trust_remote_code=recipe.model.trust_remote_code
        )
        template = PairwiseComparisonTemplate(prompt.rubric, prompt.template, control_tokens(tokenizer))
        fitter = PromptFitter(
            tokenizer=tokenizer,
            template=template,
            max_tokens=prompt.max_prompt_length,
            overlong=prompt.overlong,
            system=prompt.system,
            chat_template_kwargs=prompt.chat_template_kwargs,
        )
        return cls(fitter, thinking_of(tokenizer, prompt.chat_template_kwargs, prompt.system))

    def make(self, row: Row) -> Prompt:
        fitted = self.fitter.fit(row)
        if fitted is None:
            return Prompt(None, cut=False)
        ids = self.fitter.tokens(self.fitter.messages(fitted))
        if len(ids) > self.fitter.max_tokens:
            # The fitter relies on estimates, and vLLM refuses the whole batch for one prompt that is too long.
            return Prompt(None, cut=False)
        return Prompt(ids, cut=fitted is not row)


def sampling_of(recipe: Recipe) -> Sampling:
    """The recipe's sampling: greedy for one sample and temperature 1 for several, unless it says otherwise."""
    settings = recipe.evaluate
    temperature = settings.temperature
    if temperature is None:
        temperature = 0.0 if settings.samples == 1 else 1.0
    return Sampling(settings.samples, temperature, recipe.prompt.max_response_length, recipe.seed)


def row_verdicts_of(
    recipe: Recipe, model: str, rows: Sequence[Row], progress: Progress | None = None
) -> list[RowVerdict]:
    """Judges rows, in order, with engines started for this model, or none where no prompt fits.

    Raises StageError when vLLM fails.
    """
    maker = PromptMaker.of(recipe, model)
    prompts = [maker.make(row) for row in rows]
    if not askable(prompts):
        return verdicts_from(prompts, [], maker.thinking)
    if progress:
        progress(START, 0, 1)
    with engines(recipe, model) as pool:
        if progress:
            progress(START, 1, 1)
        return generate_verdicts(pool, prompts, sampling_of(recipe), maker.thinking, progress)


def generate_verdicts(
    pool: EnginePool,
    prompts: Sequence[Prompt],
    sampling: Sampling,
    thinking: Thinking,
    progress: Progress | None = None,
) -> list[RowVerdict]:
    """One verdict per prompt, in order."""
    asked = askable(prompts)
    skipped = len(prompts) - len(asked)

    def done(count: int) -> None:
        if progress:
            progress(JUDGE, skipped + count, len(prompts))

    return verdicts_from(prompts, pool.generate(asked, sampling, done), thinking)


def askable(prompts: Sequence[Prompt]) -> list[list[int]]:
    """The token ids of the prompts that fit: those that vLLM is asked for."""
    return [prompt.ids for prompt in prompts if prompt.ids is not None]


def verdicts_from(prompts: Sequence[Prompt], generations: Sequence[Generation], thinking: Thinking) -> list[RowVerdict]:
    """One verdict per prompt, in order, from what was generated for the `askable` ones."""
    answers = iter(generations)
    return [_row_verdict(prompt, next(answers) if prompt.ids is not None else None, thinking) for prompt in prompts]


def _row_verdict(prompt: Prompt, generation: Generation | None, thinking: Thinking) -> RowVerdict:
    if prompt.ids is None or generation is None:
        return RowVerdict(None, TOO_LONG, [], [], [], None, cut=False)
    samples = [extract_preference_from_response(text, thinking) for text in generation.texts]
    verdict, reason = majority(samples)
    return RowVerdict(verdict, reason, samples, generation.texts, generation.tokens, len(prompt.ids), prompt.cut)
