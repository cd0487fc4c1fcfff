"""What can be told from the recipe alone. Types and single values are checked when it is loaded, by its model.

The chart refuses the sizes too (templates/_check_recipe.tpl), and what its JSON schema can say; what else these checks
find ends the convert stage in its first seconds.
"""

from __future__ import annotations

from collections.abc import Iterator

from pairwise_rm.checks.problem import Problem
from pairwise_rm.contract.prompt import PairwiseComparisonTemplate
from pairwise_rm.errors import InputError
from pairwise_rm.recipe.model import DatasetConfig, PromptConfig, Recipe, RecipeData

CALLERS_OWN = (
    *("conversation", "add_generation_prompt", "continue_final_message", "tokenize", "padding", "truncation"),
    *("max_length", "return_tensors", "return_dict", "return_assistant_tokens_mask", "tokenizer_kwargs"),
)
"""Arguments of `apply_chat_template` that its callers here and in verl set, or that would change what it returns."""


def recipe_problems(recipe: Recipe) -> list[Problem]:
    """All of this layer."""
    return [*source_problems(recipe.data), *shape_problems(recipe), *verl_problems(recipe)]


def shape_problems(recipe: Recipe) -> list[Problem]:
    """Those of prompt and training, which count also where the pairs are converted already."""
    return [*prompt_problems(recipe.prompt), *size_problems(recipe)]


def source_problems(data: DatasetConfig) -> Iterator[Problem]:
    """Source and split of a recipe or of a data config; none where the pairs are converted already."""
    from pairwise_rm.convert.converters import get_converter

    if isinstance(data, RecipeData) and data.files:
        return
    configs = data.configs
    try:
        hub = get_converter(configs.source, configs.fields, configs.pairs_per_prompt).hub
    except InputError as error:
        yield Problem(str(error))
        return
    if configs.type == "local":
        if not configs.path:
            yield Problem(
                "data.configs.path: missing, which `type: local` needs",
                ("data.configs.path", "data.configs.type", "data.configs"),
            )
        for key in ("repo", "revision"):
            if getattr(configs, key) is not None:
                yield Problem(f"data.configs.{key}: only a source of `type: huggingface` has one")
    elif hub is None:
        for key in ("repo", "path"):
            if not getattr(configs, key):
                yield Problem(
                    f"data.configs.{key}: missing, the converter {configs.source} has no hub dataset of its own",
                    (f"data.configs.{key}", "data.configs.type", "data.configs"),
                )


def prompt_problems(prompt: PromptConfig) -> Iterator[Problem]:
    """The template, rendered with texts that it has to show; arguments for the chat template that are not free."""
    try:
        PairwiseComparisonTemplate(prompt.rubric, prompt.template)
    except InputError as error:
        yield Problem(str(error))
    for name in prompt.chat_template_kwargs:
        if name in CALLERS_OWN:
            yield Problem(f"prompt.chat_template_kwargs.{name}: is set by the code that renders the prompt")


def size_problems(recipe: Recipe) -> Iterator[Problem]:
    """Batches that verl cannot share among the GPUs."""
    train = recipe.train
    gpus = train.nodes * train.gpus_per_node
    if train.batch_size % train.mini_batch_size:
        mini = train.mini_batch_size
        yield Problem(
            f"train.batch_size: must be a multiple of train.mini_batch_size {mini}, got {train.batch_size}",
            ("train.batch_size", "train.mini_batch_size"),
        )
    for name in ("batch_size", "mini_batch_size"):
        samples = getattr(train, name) * train.rollouts
        if samples % gpus:
            yield Problem(
                f"train.{name}: {getattr(train, name)} x {train.rollouts} rollouts = {samples} samples, "
                f"must be a multiple of {gpus} GPUs",
                (f"train.{name}", "train.rollouts", "train.gpus_per_node", "train.nodes"),
            )
    a_gpu = train.mini_batch_size * train.rollouts // gpus
    if a_gpu % train.micro_batch_size_per_gpu:
        yield Problem(
            f"train.micro_batch_size_per_gpu: must divide the {a_gpu} samples that a GPU has of a mini-batch, "
            f"got {train.micro_batch_size_per_gpu}",
            ("train.micro_batch_size_per_gpu", "train.mini_batch_size", "train.gpus_per_node"),
        )
    total = train.batch_size * train.rollouts // gpus
    log_prob = train.log_prob_micro_batch_size_per_gpu or train.micro_batch_size_per_gpu
    if total % log_prob:
        yield Problem(
            f"train.log_prob_micro_batch_size_per_gpu: must divide the {total} samples of a GPU, got {log_prob}",
            ("train.log_prob_micro_batch_size_per_gpu", "train.micro_batch_size_per_gpu", "train.batch_size"),
        )
    if gpus % train.tensor_parallel:
        yield Problem(
            f"train.tensor_parallel: {train.tensor_parallel} must divide the {gpus} GPUs (nodes x gpus_per_node)",
            ("train.tensor_parallel", "train.gpus_per_node", "train.nodes"),
        )


def training_problems(recipe: Recipe) -> Iterator[Problem]:
    """A split that leaves training without rows; no mistake in a recipe that is only converted or evaluated."""
    export, every = recipe.data.export, recipe.train.validate_every
    if recipe.data.files:
        return
    if export.split == "test":
        yield Problem("data.export.split: test leaves no rows for training", ("data.export.split", "data.export"))
    elif export.split_ratio and export.split_ratio.train == 1 and every is not None:
        yield Problem(
            f"data.export.split_ratio: holds no rows out for train.validate_every {every}; set that to null",
            ("data.export.split_ratio", "data.export", "train.validate_every"),
        )


def verl_problems(recipe: Recipe) -> Iterator[Problem]:
    """Keys of `train.verl` that are ours or, where verl is installed, unknown to it."""
    from pairwise_rm.train.verl_arguments import resolve_keys

    try:
        resolve_keys(recipe)
    except InputError as error:
        yield Problem(str(error), placed=False)
