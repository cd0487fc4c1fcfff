"""The recipe: one strict description of data, prompt, model, training, evaluation and export.

Nothing here is about a cluster: the same file trains on a laptop and on A100 pools. Defaults are the
RM-Gallery tutorial's hyper-parameters. Unknown keys are errors. Importing this module loads pydantic and nothing heavy.
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


class SourceConfig(Section):
    type: Literal["local", "huggingface"] = "local"
    """`local`: a file at `path`. `huggingface`: a file of a hub dataset."""
    source: str = "helpsteer2_pairwise"
    """Name of the converter: helpsteer2_pairwise, helpsteer3_preference or generic_pairwise."""
    path: str | None = None
    """A .jsonl, .jsonl.gz or .parquet file (`~` expands), or the file's path inside the hub dataset."""
    repo: str | None = None
    """Hub dataset, `owner/name`. Default: the converter's own (nvidia/HelpSteer2)."""
    revision: str | None = None
    """Commit of the hub dataset. Default: the converter's pinned one."""
    sha256: str | None = Field(None, pattern="^[0-9a-f]{64}$")
    """Expected SHA-256 of the source file. Default: the pinned one for HelpSteer2."""
    limit: int | None = Field(None, ge=1)
    """Read at most this many source rows."""
    ties: Literal["keep", "drop"] = "keep"
    """Whether pairs without a preferred response are kept, with `tie` as their label."""
    min_strength: int = Field(0, ge=0, le=3)
    """Drop pairs whose preference is weaker than this (ties are governed by `ties`)."""
    max_rejected: int = Field(0, ge=0)
    """Fail when more rows than this are rejected; rejected rows are listed in rejected.jsonl."""


class SplitRatio(Section):
    train: float = Field(gt=0, lt=1)
    """Share of the prompts."""
    test: float = Field(gt=0, lt=1)
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
    """Accepted for the RM-Gallery tutorial's sake; the columns are always the row contract."""
    split: Literal["official"] | None = None
    """`official`: the source's own train and val rows become the train and test files."""
    split_ratio: SplitRatio | None = None
    """The RM-Gallery tutorial's random split, by prompt: no prompt is on both sides."""
    split_seed: int = 42
    """Of the random split."""

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
    """Where the converted pairs go, and which are held out."""


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
    """A recipe's `data`: the RM-Gallery tutorial's `dataset` block, or files that are converted already."""

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
    """Passed to the model's chat template everywhere, `enable_thinking` say."""
    max_prompt_length: int = Field(4096, ge=16)
    """Tokens, chat template included."""
    max_response_length: int = Field(2048, ge=4)
    """Tokens of reasoning and verdict."""
    overlong: Literal["drop", "cut"] = "cut"
    """A pair whose prompt is too long is dropped and counted, or both its responses are cut evenly."""


class LoraConfig(Section):
    rank: int = Field(64, ge=1)
    """Columns of the low-rank factors."""
    alpha: int = Field(32, ge=1)
    """The adapter is scaled by alpha / rank."""
    target_modules: str | list[str] = "all-linear"
    """Names of the layers that get an adapter, or `all-linear`."""


class ModelConfig(Section):
    path: str = Field(min_length=1)
    """A Hugging Face folder or a hub name."""
    make: Literal["smoke", "smollm2"] | None = None
    """Make this small local model at `path` when it is not there (see `pairwise-rm models`)."""
    revision: str | None = None
    """Commit of a hub model."""
    dtype: Literal["bfloat16", "float32"] = "bfloat16"
    """Of rollouts, evaluation and training's passes, whose master weights are float32."""
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
    """The reference model's weights, between their forward passes."""
    params: bool = False
    """The policy's weights, during rollouts."""
    optimizer: bool = False
    """The optimizer's state, outside its steps."""


class TrainConfig(Section):
    epochs: int = Field(10, ge=1)
    """Passes over the training rows."""
    steps: int | None = Field(None, ge=1)
    """Stop after this many steps; null: after `epochs`."""
    batch_size: int = Field(96, ge=1)
    """Prompts a step."""
    mini_batch_size: int = Field(24, ge=1)
    """Prompts an optimizer update."""
    micro_batch_size_per_gpu: int = Field(1, ge=1)
    """Samples in one forward and backward pass."""
    log_prob_micro_batch_size_per_gpu: int | None = Field(None, ge=1)
    """Samples in one forward pass for log-probabilities; null: as `micro_batch_size_per_gpu`."""
    rollouts: int = Field(4, ge=2)
    """Responses a prompt (GRPO's group)."""
    temperature: float = Field(1.0, gt=0)
    """Sampling temperature of rollouts."""
    learning_rate: float = Field(1e-6, gt=0)
    """AdamW's, constant after the warm-up."""
    weight_decay: float = Field(0.01, ge=0)
    """AdamW's."""
    warmup_steps: int = Field(0, ge=0)
    """Steps in which the learning rate rises from zero."""
    kl_loss: KlConfig | None = KlConfig()
    """KL term against the frozen reference model; null trains without a reference."""
    entropy_coeff: float = Field(0.0, ge=0)
    """Weight of the entropy bonus in the loss."""
    nodes: int = Field(1, ge=1)
    """Worker pods, or machines, that train together."""
    gpus_per_node: int = Field(8, ge=1)
    """GPUs of each; with `device: cpu`, processes."""
    tensor_parallel: int = Field(8, ge=1)
    """GPUs that share one vLLM replica during rollouts."""
    gpu_memory_utilization: float = Field(0.6, gt=0, lt=1)
    """Share of a GPU's memory that vLLM takes during rollouts."""
    gradient_checkpointing: bool = True
    """Compute activations again in the backward pass instead of keeping them."""
    remove_padding: bool = True
    """Train on packed sequences."""
    offload: OffloadConfig = OffloadConfig()
    """What rests in the host's memory while it is not needed."""
    save_every: int = Field(20, ge=1)
    """Steps between checkpoints; the last step always saves."""
    validate_every: int | None = Field(20, ge=1)
    """Steps between validations on the test file; null: none (evaluate does it better)."""
    validate_samples: int | None = Field(512, ge=1)
    """Validate on at most this many rows; null: all."""
    keep_checkpoints: int = Field(2, ge=1)
    """Newest checkpoints that stay."""
    max_probs_diff: float = Field(0.8, gt=0, le=1)
    """Stop when a rollout token's probability differs by more between vLLM and the trainer: stale weights.
    Matching float32 kernels agree to 1e-5; bfloat16 is far looser at its maximum."""
    loggers: list[Literal["console", "wandb"]] = ["console"]
    """Beside metrics.jsonl, which is always written."""
    project: str = "pairwise-rm"
    """Project in W&B."""
    ray_cpus: int | None = Field(None, ge=1)
    """Ray CPUs of the local Ray that is started when RAY_ADDRESS names none; null: what is needed."""
    stall_timeout: int = Field(3600, ge=60)
    """Seconds without a line of output or a step after which a run counts as hung and is ended."""
    verl: dict[str, Any] = {}
    """Any further verl key, nested or dotted. Keys that the launcher sets are refused."""


class RewardConfig(Section):
    """An exact match pays 1, anything else 0; these options change that."""

    weight_by_strength: bool = False
    """Scale what a pair pays by strength / 3 (ties pay 1)."""
    tie_credit: float = Field(0.0, ge=0, lt=1)
    """Paid when exactly one of verdict and label is `tie`."""
    invalid_penalty: float = Field(0.0, ge=0)
    """Subtracted when the output is invalid."""


class EvaluateConfig(Section):
    samples: int = Field(1, ge=1)
    """Responses a row; with several the verdict is the majority's."""
    temperature: float | None = Field(None, ge=0)
    """Null: greedy for one sample, 1.0 for several."""
    limit: int | None = Field(None, ge=1)
    """Judge at most this many pairs; null: all."""
    replicas: int = Field(1, ge=1)
    """vLLM engines, each a Ray actor."""
    tensor_parallel: int = Field(1, ge=1)
    """GPUs an engine."""
    gpu_memory_utilization: float = Field(0.9, gt=0, lt=1)
    """Share of a GPU's memory that an engine takes."""
    batch_size: int = Field(256, ge=1)
    """Rows handed to an engine at a time; vLLM batches continuously inside."""
    bootstrap: int = Field(2000, ge=100)
    """Resamples of the 95 % intervals, clustered by prompt."""


class ExportConfig(Section):
    dtype: Literal["bfloat16", "float32"] | None = None
    """Of the exported weights; null: as `model.dtype`."""
    license: str | None = None
    """SPDX identifier for the model card; null: unknown."""
    memory_gib: float | None = Field(None, gt=0)
    """Memory the merging Ray task asks for; null: what its largest output file takes, at most 13."""


class Recipe(Section):
    """All that shapes a judge."""

    name: str = Field(pattern="^[a-z]([a-z0-9-]*[a-z0-9])?$", max_length=40)
    """Of the run and its folder."""
    description: str = ""
    """One line for people."""
    device: Literal["cuda", "cpu"] = "cuda"
    """Where training and vLLM run."""
    seed: int = Field(1, ge=0)
    """Of data order, weights that are made, and sampling."""
    output_dir: str | None = None
    """Where every stage writes. Default: `runs/<name>`."""
    data: RecipeData = RecipeData()
    """The pairs: source, conversion, split."""
    prompt: PromptConfig = PromptConfig()
    """What the judge reads, and how long it may be."""
    model: ModelConfig
    """The model that becomes the judge."""
    train: TrainConfig = TrainConfig()
    """GRPO with rollouts from vLLM."""
    reward: RewardConfig = RewardConfig()
    """What a rollout is paid."""
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
