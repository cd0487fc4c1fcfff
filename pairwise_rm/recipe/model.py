"""The recipe: one strict description of data, prompt, model, training, evaluation and export.

A recipe has no settings of a cluster: the same file trains on a laptop and on A100 pools. Defaults are the
RM-Gallery tutorial's hyper-parameters. Unknown keys are errors. Importing this module loads nothing heavier than
pydantic.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator


class Section(BaseModel):
    """Strict: unknown keys and wrong types are errors, nothing is coerced."""

    model_config = ConfigDict(
        extra="forbid", strict=True, use_attribute_docstrings=True, frozen=True, allow_inf_nan=False
    )


# ---- data: the RM-Gallery tutorial's `dataset` block, keys and all --------------------------------------------


Word = str | int | float | bool


class PreferredField(Section):
    """A field that says which response is preferred. A value that is not listed rejects its row."""

    model_config = ConfigDict(serialize_by_alias=True)

    from_: str = Field(alias="from")
    """The field, as a dotted path."""
    A: list[Word] = Field(["A"], min_length=1)
    """Its values where the first response is preferred; 1 and "1" are the same."""
    B: list[Word] = Field(["B"], min_length=1)
    """Its values where the second response is preferred."""
    tie: list[Word] = ["tie"]
    """Its values where neither is."""

    @model_validator(mode="after")
    def _says_one_thing(self) -> PreferredField:
        named = [word_key(word) for words in (self.A, self.B, self.tie) for word in dict.fromkeys(map(word_key, words))]
        twice = next((word for word in named if named.count(word) > 1), None)
        if twice is not None:
            raise ValueError(f"{twice} is listed for two of A, B and tie")
        return self


def word_key(word: Word) -> str:
    """A label as it is compared: text as it stands, numbers and booleans as JSON writes them, 1.0 as 1."""
    if isinstance(word, str):
        return word
    if isinstance(word, bool):
        return "true" if word else "false"
    return str(int(word)) if isinstance(word, float) and word.is_integer() else str(word)


class AnswersField(Section):
    """A list of answers to one prompt, from which the best is paired with each worse one."""

    model_config = ConfigDict(serialize_by_alias=True)

    from_: str = Field(alias="from")
    """The list, as a dotted path."""
    text: str = "text"
    """Where an answer's text is, within the answer."""
    rank: str | None = None
    """Where an answer's rank is: the lowest is the best."""
    score: str | None = None
    """Where an answer's score is: the highest is the best."""

    @model_validator(mode="after")
    def _one_order(self) -> AnswersField:
        if (self.rank is None) == (self.score is None):
            raise ValueError("expected one of rank and score")
        return self


class FieldMapping(Section):
    """Where a row has the parts of a pair; each is a field, or a dotted path into a nested one (`answers.0.text`).

    The responses are `response_a` and `response_b` with a label, `chosen` and `rejected`, or `answers`.
    """

    prompt: str | None = None
    """Text, a list of turns, or a transcript. Not needed where both responses are whole conversations."""
    system: str | None = None
    """Text of a system message before the prompt, where the row has one."""
    response_a: str | None = None
    """The first response: text, or a conversation whose last turn it is."""
    response_b: str | None = None
    """The second response."""
    preferred: PreferredField | None = None
    """The label, in words."""
    preference_strength: str | None = None
    """The label from -3 (the first response is much better) to 3, instead of `preferred`."""
    chosen: str | None = None
    """The better response, which needs no label. A list of texts is paired with each of `rejected`."""
    rejected: str | None = None
    """The worse response."""
    answers: AnswersField | None = None
    """More than two answers with a rank or a score."""
    strength: str | None = None
    """How much better the preferred response is, from 1 to 3; 0 is a tie."""
    subset: str | None = None
    """The row's category, for accuracy by subset."""
    id: str | None = None
    """The row's own id, which goes through to the verdicts."""
    split: str | None = None
    """`train`, or one of `val`, `validation` and `test`, for `split: official`."""

    @model_validator(mode="after")
    def _makes_pairs(self) -> FieldMapping:
        labelled = self.response_a is not None or self.response_b is not None
        decided = self.chosen is not None or self.rejected is not None
        if labelled + decided + (self.answers is not None) != 1:
            raise ValueError("expected one of response_a/response_b, chosen/rejected and answers")
        if labelled and (self.response_a is None or self.response_b is None):
            raise ValueError("expected both of response_a and response_b")
        if decided and (self.chosen is None or self.rejected is None):
            raise ValueError("expected both of chosen and rejected")
        label = self.preferred is not None or self.preference_strength is not None
        if labelled and not label:
            raise ValueError("response_a and response_b need preferred or preference_strength")
        if label and not labelled:
            raise ValueError("preferred and preference_strength go with response_a and response_b")
        if self.answers is not None and (self.prompt is None or self.strength is not None):
            raise ValueError("answers need a prompt, and take no strength")
        parts = ("prompt", "system", "response_a", "response_b", "chosen", "rejected")
        given = [(name, path) for name in parts if (path := getattr(self, name)) is not None]
        for at, (name, path) in enumerate(given):
            if first := next((earlier for earlier, same in given[:at] if same == path), None):
                raise ValueError(f"{first} and {name} are the same field {path}")
        return self


class SourceConfig(Section):
    type: Literal["local", "huggingface"] = "local"
    """`local`: files at `path`. `huggingface`: files of a hub dataset."""
    source: str = "helpsteer2_pairwise"
    """How rows are read: helpsteer2_pairwise, helpsteer3_preference, generic_pairwise, or a preset such as trl,
    ultrafeedback, hh_rlhf, arena, safe_rlhf or skywork."""
    fields: FieldMapping | None = None
    """Where the rows have prompt, responses and label, for `source: generic_pairwise`. Default: under its own names."""
    pairs_per_prompt: int | None = Field(None, ge=1)
    """Take at most this many pairs of one row with many answers, the worst answers first. Default: all."""
    path: str | list[str] | None = None
    """A file, a folder, a pattern (`train-*.parquet`) or a list of them (`~` expands); inside the hub dataset for a hub
    source. Read in the order of names: .jsonl, .json, .csv, .tsv (also .gz, .zst) or .parquet."""
    test_path: str | list[str] | None = None
    """The same for held-out rows in files of their own; with `split: official`, all rows of `path` are for training."""
    repo: str | None = None
    """Hub dataset, `owner/name`. Default: the converter's own (nvidia/HelpSteer2)."""
    revision: str | None = None
    """Commit of the hub dataset. Default: the converter's pinned one."""
    sha256: str | None = Field(None, pattern="^[0-9a-f]{64}$")
    """Expected SHA-256 of the source's one file. Default: the pinned one for HelpSteer2."""
    limit: int | None = Field(None, ge=1)
    """Read at most this many source rows; with `test_path`, so many of each side."""
    duplicates: Literal["drop", "keep"] = "drop"
    """Whether a pair that comes again with the same preferred response is kept once or each time."""
    conflicts: Literal["drop", "majority", "first"] = "drop"
    """A pair that comes again with another label: drop all its rows, or keep the majority's label, or the first one."""
    identical: Literal["drop", "keep"] = "drop"
    """Whether pairs whose responses are the same text are kept."""
    ties: Literal["keep", "drop"] = "keep"
    """Whether pairs without a preferred response are kept, with `tie` as their label."""
    min_strength: int = Field(0, ge=0, le=3)
    """Drop pairs whose preference is weaker than this (ties are governed by `ties`)."""
    max_rejected: int = Field(0, ge=0)
    """Fail when more rows than this are rejected, after all were read; they are listed in rejected.jsonl."""

    @model_validator(mode="before")
    @classmethod
    def _mapped_rows_are_generic(cls, value: Any) -> Any:
        # The default counts as no source: the chart spells it out in every recipe.
        default = cls.model_fields["source"].default
        if isinstance(value, dict) and value.get("fields") is not None and value.get("source", default) == default:
            return {**value, "source": "generic_pairwise"}
        return value

    @model_validator(mode="after")
    def _fields_are_of_the_generic_converter(self) -> SourceConfig:
        if self.fields is not None and self.source != "generic_pairwise":
            raise ValueError(f"fields go with source: generic_pairwise, not with {self.source}")
        return self


class SplitRatio(Section):
    train: float = Field(gt=0, le=1)
    """Share of the prompts; 1.0 holds none out."""
    test: float = Field(0.0, ge=0, lt=1)
    """Share of the prompts that is held out."""

    @model_validator(mode="after")
    def _adds_up(self) -> SplitRatio:
        if abs(self.train + self.test - 1) > 1e-6:
            raise ValueError(f"train + test must be 1, got {self.train} + {self.test}")
        return self


class OutputConfig(Section):
    output_dir: str | None = None
    """Where the parquet files go. Default in a recipe: `<output_dir>/data`."""
    formats: list[Literal["parquet"]] = ["parquet"]
    """Parquet is the one format that training reads."""
    preserve_structure: bool = True
    """Accepted for compatibility with the RM-Gallery tutorial; the columns are always the row contract."""
    split: Literal["official", "test"] | None = None
    """`official`: the source's own split, by file with `test_path`, else by row; null without `split_ratio` means the
    same. `test`: all are held out."""
    split_ratio: SplitRatio | None = None
    """The RM-Gallery tutorial's random split, by prompt: no prompt is on both sides."""
    split_seed: int = 42
    """Seed of the random split."""

    @property
    def is_official(self) -> bool:
        """Whether the source says which rows are held out, which it also does when no split is named."""
        return self.split != "test" and self.split_ratio is None

    @model_validator(mode="after")
    def _one_split(self) -> OutputConfig:
        if self.split and self.split_ratio:
            raise ValueError("split and split_ratio exclude each other; keep one")
        return self


class DatasetConfig(Section):
    """The RM-Gallery tutorial's `dataset` block: `data_config.yaml` holds it under `dataset`, a recipe under `data`."""

    name: str = "helpsteer2_pairwise"
    """Name of the data in the model card."""
    configs: SourceConfig = SourceConfig()
    """Where the pairs come from, and which of them."""
    export: OutputConfig = OutputConfig(split="official")
    """Where the converted pairs are written, and which are held out."""

    @model_validator(mode="after")
    def _test_path_is_read(self) -> DatasetConfig:
        if self.configs.test_path and not self.export.is_official:
            raise ValueError("configs.test_path: only `split: official` reads it; name all files in configs.path")
        return self


class DataConfigFile(Section):
    """The whole of the RM-Gallery tutorial's `data_config.yaml`."""

    dataset: DatasetConfig
    """Source, conversion and split."""


class PairFiles(Section):
    train: str
    """Parquet of the training rows, ours or RM-Gallery's."""
    test: str
    """Parquet of the held-out rows."""


class RecipeData(DatasetConfig):
    """A recipe's `data`: the RM-Gallery tutorial's `dataset` block, or files that are already converted."""

    files: PairFiles | None = None
    """Train and evaluate on these instead of converting; `convert` then has nothing to do."""


# ---- the rest of the recipe ----------------------------------------------------------------------


class PromptConfig(Section):
    rubric: str | None = None
    """What "better" means; replaces the default rubric."""
    template: str | None = None
    """A jinja2 template over query, response_a, response_b and rubric; replaces the default prompt."""
    system: str | None = None
    """A system message before the prompt."""
    chat_template_kwargs: dict[str, Any] = {}
    """Passed to the model's chat template everywhere, for example `enable_thinking`."""
    max_prompt_length: int = Field(4096, ge=16)
    """Limit of the prompt in tokens, chat template included."""
    max_response_length: int = Field(2048, ge=4)
    """Limit of reasoning and verdict in tokens."""
    overlong: Literal["drop", "cut"] = "cut"
    """What happens to a pair whose prompt is too long: `drop` and count it, or `cut` the longer response first, then
    both, and the middle of a query that is too long by itself; a cut pair is marked."""


LoraRank = Literal[1, 8, 16, 32, 64, 128, 256, 320, 512]
"""The ranks that vLLM has kernels for (`vllm.config.lora.MaxLoRARanks`); vLLM itself is too heavy to be asked here."""


class LoraConfig(Section):
    rank: LoraRank = 64
    """Columns of the low-rank factors; one of the ranks that vLLM lists."""
    alpha: int = Field(32, ge=1)
    """The adapter is scaled by alpha / rank."""
    target_modules: str | list[str] = "all-linear"
    """Names of the layers that get an adapter, or `all-linear`."""


class ModelConfig(Section):
    path: str = Field(min_length=1)
    """A Hugging Face folder or a hub name."""
    make: Literal["smoke", "smollm2"] | None = None
    """Make this small local model at `path` if it does not exist (see `pairwise-rm models`)."""
    revision: str | None = None
    """Commit of a hub model."""
    dtype: Literal["bfloat16", "float32"] = "bfloat16"
    """Data type of rollouts, evaluation and training's passes; the trainer's master weights are float32."""
    attention: Literal["flash_attention_2", "sdpa", "eager"] = "sdpa"
    """Attention of the trainer; flash_attention_2 needs a GPU and an image with flash-attn (images/README.md)."""
    trust_remote_code: bool = False
    """Run Python code that comes with the model."""
    lora: LoraConfig | None = None
    """Train a LoRA adapter; null trains all weights."""


class KlConfig(Section):
    coef: float = Field(0.001, ge=0)
    """Weight of the term in the loss."""
    type: Literal["kl", "abs", "mse", "low_var_kl", "full"] = "low_var_kl"
    """Estimator of the divergence, by verl's names."""


class OffloadConfig(Section):
    reference: bool = True
    """Offload the reference model's weights between forward passes."""
    params: bool = False
    """Offload the policy's weights during rollouts."""
    optimizer: bool = False
    """Offload the optimizer's state between its steps."""


class TrainConfig(Section):
    epochs: int = Field(10, ge=1)
    """Passes over the training rows."""
    steps: int | None = Field(None, ge=1)
    """Stop after this many steps; null: after `epochs`."""
    batch_size: int = Field(96, ge=1)
    """Prompts per step."""
    mini_batch_size: int = Field(24, ge=1)
    """Prompts per optimizer update."""
    micro_batch_size_per_gpu: int = Field(1, ge=1)
    """Samples in one forward and backward pass."""
    log_prob_micro_batch_size_per_gpu: int | None = Field(None, ge=1)
    """Samples in one forward pass for log-probabilities; null: as `micro_batch_size_per_gpu`."""
    rollouts: int = Field(4, ge=2)
    """Responses per prompt (the size of GRPO's group)."""
    temperature: float = Field(1.0, gt=0)
    """Sampling temperature of rollouts."""
    learning_rate: float = Field(1e-6, gt=0)
    """AdamW's learning rate, constant after the warm-up."""
    weight_decay: float = Field(0.01, ge=0)
    """AdamW's weight decay."""
    warmup_steps: int = Field(0, ge=0)
    """Steps in which the learning rate rises from zero."""
    kl_loss: KlConfig | None = KlConfig()
    """KL term against the frozen reference model; null trains without a reference."""
    entropy_coeff: float = Field(0.0, ge=0)
    """Weight of the entropy bonus in the loss."""
    nodes: int = Field(1, ge=1)
    """Worker pods, or machines, that train together."""
    gpus_per_node: int = Field(8, ge=1)
    """GPUs per node; with `device: cpu`, processes."""
    tensor_parallel: int = Field(8, ge=1)
    """GPUs that share one vLLM replica during rollouts."""
    gpu_memory_utilization: float = Field(0.6, gt=0, lt=1)
    """Share of a GPU's memory that vLLM takes during rollouts."""
    gradient_checkpointing: bool = True
    """Compute activations again in the backward pass instead of keeping them."""
    remove_padding: bool = True
    """Train on packed sequences."""
    offload: OffloadConfig = OffloadConfig()
    """What is offloaded to host memory while it is not needed."""
    save_every: int = Field(20, ge=1)
    """Steps between checkpoints; the last step always saves."""
    validate_every: int | None = Field(20, ge=1)
    """Steps between validations on the test file; null: none (evaluate does it better)."""
    validate_samples: int | None = Field(512, ge=1)
    """Validate on at most this many rows; null: all."""
    keep_checkpoints: int = Field(2, ge=1)
    """Number of newest checkpoints to keep."""
    compare_weights: bool = True
    """After each weight sync compare exact sums of vLLM's weights with the trainer's; stop when they differ."""
    max_probs_diff: float = Field(0.8, gt=0, le=1)
    """Stop when a rollout token's probability differs by more than this between vLLM and the trainer: stale weights.
    Matching float32 kernels agree to 1e-5; bfloat16 is far looser at its maximum."""
    max_probs_diff_mean: float = Field(0.1, gt=0, le=1)
    """The same bound for the mean over a step's tokens."""
    min_probs_correlation: float = Field(0.5, ge=-1, le=1)
    """Stop when the correlation of these probabilities between vLLM and the trainer is below this."""
    loggers: list[Literal["console", "wandb"]] = ["console"]
    """Loggers besides metrics.jsonl, which is always written."""
    project: str = "pairwise-rm"
    """Project in W&B."""
    ray_cpus: int | None = Field(None, ge=1)
    """CPUs of the local Ray that is started when RAY_ADDRESS is not set; null: as many as needed."""
    stall_timeout: int = Field(3600, ge=60)
    """Seconds without progress after which an attempt counts as hung, for what it has not done before; for the rest
    several times as long as it takes is enough."""
    restarts: int = Field(10, ge=0)
    """Attempts that may follow one that failed, without a new checkpoint between them."""
    stop_grace: float = Field(25.0, ge=0)
    """Seconds in which a training that is told to stop (SIGTERM) ends its step and saves, and in which an evaluation
    ends the batches that run; 0: it stops at once."""
    preemption_margin: float = Field(5, ge=0)
    """When a node is about to go: seconds before its end by which the last save has to be done."""
    verl: dict[str, Any] = {}
    """Any further verl key, nested or dotted. Keys that the launcher sets are refused."""


PACKAGED = "pkg://"
"""Begins the name of a module where a file could stand, as in verl."""
_OUR_REWARD = ("pairwise_rm", "pairwise_rm.train.reward")
"""Modules with our own `compute_score`, which as a function of the recipe would not be given its options."""


class RewardFunction(Section):
    path: str
    """A Python file (`~` expands) that every Ray node can read, or `pkg://` and an installed module."""
    name: str = "compute_score"
    """Name of the function, called as verl calls it: `(data_source, solution_str, ground_truth, extra_info)`."""

    @field_validator("path")
    @classmethod
    def _file_or_module(cls, value: str) -> str:
        module = value.removeprefix(PACKAGED)
        named = all(part.isidentifier() for part in module.split("."))
        if not (named if value.startswith(PACKAGED) else value.endswith(".py")):
            raise ValueError(f"expected a .py file, or {PACKAGED} and a module, got {value!r}")
        if value.startswith(PACKAGED) and module in _OUR_REWARD:
            raise ValueError(f"{value} is the reward that a recipe has without function; set its options in reward")
        return value


class RewardConfig(Section):
    """The reward is 1 for an exact match and 0 for anything else; these options change that."""

    function: RewardFunction | None = None
    """A function of yours that gives the reward; accuracy and the other verdict metrics stay as they are."""
    weight_by_strength: bool = False
    """Scale a pair's reward by strength / 3 (1 for ties)."""
    tie_credit: float = Field(0.0, ge=0, lt=1)
    """Reward when exactly one of verdict and label is `tie`."""
    invalid_penalty: float = Field(0.0, ge=0)
    """Subtracted from the reward when the output is invalid."""

    @model_validator(mode="after")
    def _one_reward(self) -> RewardConfig:
        options = sorted(name for name in type(self).model_fields if name != "function")
        if self.function and (other := [name for name in options if getattr(self, name)]):
            raise ValueError(f"{other[0]} does nothing beside function, which gives the whole reward; keep one")
        return self


class EvaluateConfig(Section):
    samples: int = Field(1, ge=1)
    """Responses per row; with several, the verdict is that of the majority."""
    temperature: float | None = Field(None, ge=0)
    """Sampling temperature; null: greedy for one sample, 1.0 for several."""
    limit: int | None = Field(None, ge=1)
    """Judge at most this many pairs; null: all."""
    replicas: int = Field(1, ge=1)
    """vLLM engines, each a Ray actor."""
    tensor_parallel: int = Field(1, ge=1)
    """GPUs per engine."""
    gpu_memory_utilization: float = Field(0.9, gt=0, lt=1)
    """Share of a GPU's memory that an engine takes."""
    batch_size: int = Field(256, ge=1)
    """Rows passed to an engine at a time; vLLM batches continuously within them."""
    bootstrap: int = Field(2000, ge=100)
    """Resamples of the 95 % intervals, clustered by prompt."""


class ExportConfig(Section):
    dtype: Literal["bfloat16", "float32"] | None = None
    """Data type of the exported weights; null: as `model.dtype`."""
    license: str | None = None
    """SPDX identifier for the model card; null: unknown."""
    memory_gib: float | None = Field(None, gt=0)
    """Memory that the merging Ray task requests; null: enough for its largest output file, at most 13."""


class Recipe(Section):
    """All settings of a run, from data to export."""

    name: str = Field(pattern="^[a-z]([a-z0-9-]*[a-z0-9])?$", max_length=40)
    """Name of the run and its folder."""
    description: str = ""
    """One line that describes the recipe."""
    device: Literal["cuda", "cpu"] = "cuda"
    """Where training and vLLM run."""
    seed: int = Field(1, ge=0)
    """Seed of data order, of weights that are made, and of sampling."""
    output_dir: str | None = None
    """Folder in which all stages write. Default: `runs/<name>`."""
    data: RecipeData = RecipeData()
    """The pairs: source, conversion, split."""
    prompt: PromptConfig = PromptConfig()
    """The judge's prompt, and its limits of length."""
    model: ModelConfig
    """The model that becomes the judge."""
    train: TrainConfig = TrainConfig()
    """GRPO with rollouts from vLLM."""
    reward: RewardConfig = RewardConfig()
    """The reward of a rollout."""
    evaluate: EvaluateConfig = EvaluateConfig()
    """Judging the held-out pairs, both orders of each."""
    export: ExportConfig = ExportConfig()
    """The trained judge as a Hugging Face folder."""

    @field_validator("output_dir")
    @classmethod
    def _not_empty(cls, value: str | None) -> str | None:
        if value is not None and not value.strip():
            raise ValueError("must name a folder")
        return value

    @model_validator(mode="after")
    def _consistent(self) -> Recipe:
        if self.device == "cpu" and self.model.attention == "flash_attention_2":
            raise ValueError("model.attention: flash_attention_2 needs a GPU; use sdpa with device: cpu")
        if self.device == "cpu" and self.train.tensor_parallel > 1:
            raise ValueError("train.tensor_parallel: must be 1 with device: cpu")
        return self
