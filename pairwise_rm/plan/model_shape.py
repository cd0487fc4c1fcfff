"""The shape of a model, from its config.json, and what follows from it: every weight counted, none loaded.

>>> shape = ModelShape.of_config("Qwen/Qwen3-8B", known_models()["Qwen/Qwen3-8B"])
>>> shape.weights
8190735360
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from pairwise_rm.errors import InputError
from pairwise_rm.hf_model import is_hub_name, read_config
from pairwise_rm.recipe.model import ModelConfig

_DENSE = ("qwen2", "qwen3", "llama", "mistral")
"""Model types with the layers that are counted here: attention with grouped keys, a gated MLP, two RMSNorms."""
Shape = tuple[int, ...]


@dataclass(frozen=True)
class ModelShape:
    """Sizes of a dense decoder. `source` says where they were read."""

    name: str
    source: str
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    ffn: int
    vocab: int
    tied: bool
    qkv_bias: bool
    o_bias: bool
    mlp_bias: bool
    qk_norm: bool

    @classmethod
    def of_config(cls, name: str, config: Mapping[str, Any], source: str = "config.json") -> ModelShape:
        """Reads config.json by transformers' rules for what is left out.

        Raises InputError for a model whose layers are not counted here, such as a mixture of experts.
        """
        kind = config.get("model_type")
        if kind not in _DENSE:
            raise InputError(f"{name}: model_type {kind!r}: plan knows the weights of {', '.join(_DENSE)} only")
        try:
            hidden, heads = int(config["hidden_size"]), int(config["num_attention_heads"])
            bias = bool(config.get("attention_bias", False))
            return cls(
                name=name,
                source=source,
                layers=int(config["num_hidden_layers"]),
                hidden=hidden,
                heads=heads,
                kv_heads=int(config.get("num_key_value_heads") or heads),
                head_dim=int(config.get("head_dim") or hidden // heads),
                ffn=int(config["intermediate_size"]),
                vocab=int(config["vocab_size"]),
                tied=bool(config.get("tie_word_embeddings", False)),
                # transformers' Qwen2 has these biases whatever its config says, and never one of the output.
                qkv_bias=kind == "qwen2" or bias,
                o_bias=kind != "qwen2" and bias,
                mlp_bias=bool(config.get("mlp_bias", False)),
                qk_norm=kind == "qwen3",
            )
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"{name}: config.json: {error} is missing or no number") from error

    @property
    def q_size(self) -> int:
        return self.heads * self.head_dim

    @property
    def kv_size(self) -> int:
        return self.kv_heads * self.head_dim

    @property
    def embedding(self) -> int:
        """Weights of the input embedding, and as many of the output layer where it is not tied."""
        return self.vocab * self.hidden

    @property
    def linears(self) -> dict[str, tuple[int, int]]:
        """Linear layers of a decoder layer: (outputs, inputs)."""
        return {
            "q_proj": (self.q_size, self.hidden),
            "k_proj": (self.kv_size, self.hidden),
            "v_proj": (self.kv_size, self.hidden),
            "o_proj": (self.hidden, self.q_size),
            "gate_proj": (self.ffn, self.hidden),
            "up_proj": (self.ffn, self.hidden),
            "down_proj": (self.hidden, self.ffn),
        }

    def layer_tensors(self) -> list[Shape]:
        """Shapes of a decoder layer's weights."""
        found: list[Shape] = [*self.linears.values(), (self.hidden,), (self.hidden,)]
        if self.qk_norm:
            found += [(self.head_dim,)] * 2
        if self.qkv_bias:
            found += [(self.q_size,), (self.kv_size,), (self.kv_size,)]
        if self.o_bias:
            found.append((self.hidden,))
        if self.mlp_bias:
            found += [(self.ffn,), (self.ffn,), (self.hidden,)]
        return found

    def tensors(self) -> Iterator[Shape]:
        """Shapes of all weights; a tied output layer is none of its own."""
        for _ in range(1 if self.tied else 2):
            yield (self.vocab, self.hidden)
        for _ in range(self.layers):
            yield from self.layer_tensors()
        yield (self.hidden,)

    @property
    def layer_weights(self) -> int:
        return sum(map(math.prod, self.layer_tensors()))

    @property
    def weights(self) -> int:
        return self.layers * self.layer_weights + self.embedding * (1 if self.tied else 2) + self.hidden

    @property
    def multiplied(self) -> int:
        """Weights that a token is multiplied with in a forward pass: all but the input embedding's rows."""
        return self.layers * self.layer_weights + self.embedding

    def adapted(self, targets: str | Sequence[str]) -> dict[str, tuple[int, int]]:
        """The linear layers that get a LoRA adapter. `all-linear` leaves the output layer out, as peft does."""
        if targets == "all-linear":
            return self.linears
        names = [targets] if isinstance(targets, str) else targets
        return {name: size for name, size in self.linears.items() if name in names}

    def adapter_weights(self, rank: int, targets: str | Sequence[str]) -> int:
        """Weights of all adapters: of each layer `rank` columns of its inputs and of its outputs."""
        return self.layers * rank * sum(sum(size) for size in self.adapted(targets).values())


@functools.cache
def known_models() -> dict[str, dict[str, Any]]:
    """Configs of models that need no download; see known_models.yaml."""
    text = (resources.files("pairwise_rm.plan") / "known_models.yaml").read_text(encoding="utf-8")
    models: dict[str, dict[str, Any]] = yaml.safe_load(text)["models"]
    return models


def shape_of(model: ModelConfig) -> ModelShape:
    """The shape of a recipe's model: of its folder, the hub's cache, the table of known models, or the hub.

    Raises InputError where the config cannot be read.
    """
    path = model.path
    if Path(path).expanduser().is_dir():
        return ModelShape.of_config(path, read_config(path), f"{path}/config.json")
    if model.make:
        return ModelShape.of_config(path, known_models()[model.make], f"the model that `models {model.make}` makes")
    if is_hub_name(path):
        if cached := cached_file(path, "config.json", model.revision):
            return ModelShape.of_config(path, read_config(str(cached.parent)), "config.json in the hub's cache")
        if path in known_models():
            return ModelShape.of_config(path, known_models()[path], "the table of known models")
    return ModelShape.of_config(path, read_config(path, model.revision))


def cached_file(name: str, file: str, revision: str | None) -> Path | None:
    """A hub model's file in the hub's cache, or None; nothing is downloaded."""
    from huggingface_hub import errors, hf_hub_download

    try:
        return Path(hf_hub_download(name, file, revision=revision, local_files_only=True))
    except (errors.LocalEntryNotFoundError, errors.HFValidationError):
        return None
