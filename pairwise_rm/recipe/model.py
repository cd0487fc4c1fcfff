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
    """Accepted for compatibility with the RM-Gallery tutorial; the columns are always the row contract."""
    split: Literal["official"] | None = None
    """`official`: the source's own train and val rows become the train and test files."""
    split_ratio: SplitRatio | None = None
    """The RM-Gallery tutorial's random split, by prompt: no prompt is on both sides."""
    split_seed: int = 42
    """Seed of the random split."""

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
    """What happens to a pair whose prompt is too long: `drop` and count it, or `cut` both responses evenly."""


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
    max_probs_diff: float = Field(0.8, gt=0, le=1)
    """Stop when a rollout token's probability differs by more than this between vLLM and the trainer: stale weights.
    Matching float32 kernels agree to 1e-5; bfloat16 is far looser at its maximum."""
    loggers: list[Literal["console", "wandb"]] = ["console"]
    """Loggers besides metrics.jsonl, which is always written."""
    project: str = "pairwise-rm"
    """Project in W&B."""
    ray_cpus: int | None = Field(None, ge=1)
    """CPUs of the local Ray that is started when RAY_ADDRESS is not set; null: as many as needed."""
    stall_timeout: int = Field(3600, ge=60)
    """Seconds without output or a step after which a run counts as hung and is ended."""
    verl: dict[str, Any] = {}
    """Any further verl key, nested or dotted. Keys that the launcher sets are refused."""


class RewardConfig(Section):
    """The reward is 1 for an exact match and 0 for anything else; these options change that."""

    weight_by_strength: bool = False
    """Scale a pair's reward by strength / 3 (1 for ties)."""
    tie_credit: float = Field(0.0, ge=0, lt=1)
    """Reward when exactly one of verdict and label is `tie`."""
    invalid_penalty: float = Field(0.0, ge=0)
    """Subtracted from the reward when the output is invalid."""


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
