"""From rows to verdicts: render, fit, generate, parse, vote.

Training and evaluation see the same tokens: prompts are made by `contract.prompt_fit.PromptFitter`, responses are
parsed by `contract.verdict.extract_preference_from_response` with the same position of `<think>`. A prompt that does
not fit has an invalid verdict with the reason `prompt_too_long`, so every row has one.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pairwise_rm.contract.escaping import control_tokens
from pairwise_rm.contract.prompt import PairwiseComparisonTemplate, thinking_of
from pairwise_rm.contract.prompt_fit import TOO_LONG, PromptFitter
from pairwise_rm.contract.rows import Preference, Row
from pairwise_rm.contract.verdict import Thinking, Verdict, extract_preference_from_response
from pairwise_rm.evaluate.engine import Generation, Sampling, Say, batches_of, engines, revision_of
from pairwise_rm.evaluate.generation_shards import Shards
from pairwise_rm.evaluate.provenance import generation_digest
from pairwise_rm.evaluate.vote import majority
from pairwise_rm.hf_model import load_tokenizer
from pairwise_rm.ray_session import seconds_after_sigterm
from pairwise_rm.recipe.model import Recipe
from pairwise_rm.signals import SigtermNoted

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
    recipe: Recipe,
    model: str,
    rows: Sequence[Row],
    progress: Progress | None = None,
    *,
    say: Say | None = None,
    partial: Path | None = None,
) -> list[RowVerdict]:
    """Judges rows, in order, with engines started for this model, or none where no prompt fits.

    With `partial`, a folder, each batch is kept there as soon as it is judged, and what an interrupted call has kept is
    not judged again. The caller removes it once the verdicts are safe. SIGTERM then lets the batches that run end, if
    they do within `train.stop_grace` seconds.

    Raises StageError when vLLM fails, or when the disk is full, and KeyboardInterrupt after SIGTERM.
    """
    maker = PromptMaker.of(recipe, model)
    prompts = [maker.make(row) for row in rows]
    asked = askable(prompts)
    sampling = sampling_of(recipe)
    shards = None
    if partial is not None and asked:
        shards = Shards(partial, generation_digest(recipe, model, sampling, asked), len(asked))
    try:
        generations = _generate(recipe, model, prompts, rows, sampling, shards, progress, say or (lambda event: None))
    finally:
        if shards:
            shards.leave()
    return verdicts_from(prompts, [generations[at] for at in range(len(asked))], maker.thinking)


def _generate(
    recipe: Recipe,
    model: str,
    prompts: Sequence[Prompt],
    rows: Sequence[Row],
    sampling: Sampling,
    shards: Shards | None,
    progress: Progress | None,
    say: Say,
) -> Mapping[int, Generation]:
    """What the model writes for each prompt that fits, by its index among these."""
    asked = askable(prompts)
    asked_rows = [row for row, prompt in zip(rows, prompts, strict=True) if prompt.ids is not None]
    done = dict(shards.found) if shards else {}
    skipped = len(prompts) - len(asked)

    def tell() -> None:
        if progress:
            progress(JUDGE, skipped + len(done), len(prompts))

    for file in shards.damaged if shards else ():
        say(f"warning: {file}: damaged; its rows are judged again")
    if done:
        say(f"goes on: {len(done):,} of {len(asked):,} rows are judged already")
    missing = [index for index in range(len(asked)) if index not in done]
    if not missing:
        return done
    if progress:
        progress(START, 0, 1)
    grace = seconds_after_sigterm(recipe.train.stop_grace)
    with engines(recipe, model, say) as pool, SigtermNoted() if shards else contextlib.nullcontext() as sigterm:
        if progress:
            progress(START, 1, 1)

        def stop_at() -> float | None:
            return None if sigterm is None or sigterm.at is None else sigterm.at + grace

        def name(index: int) -> str:
            return _name(asked_rows[index])

        try:
            for batch, generations in pool.generate(
                asked, batches_of(missing, pool.batch_size), sampling, name, stop_at
            ):
                if shards:
                    shards.add(batch, generations)
                done |= zip(batch, generations, strict=True)
                tell()
            if stop_at() is not None:
                raise KeyboardInterrupt
        except KeyboardInterrupt:
            if shards:
                say(f"stopped; the same command goes on, {len(done):,} of {len(asked):,} rows are judged")
            raise
    return done


def _name(row: Row) -> str:
    return f"{row['source_id'] or row['pair_id']} {row['order']}"


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
