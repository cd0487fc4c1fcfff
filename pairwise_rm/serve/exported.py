"""An exported folder to serve; its recipe.yaml says how the judge is prompted.

Only the folder has to be named: prompt, lengths, data type and sampling come from the recipe, by the functions that
`evaluate` and `judge` use.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError, field_validator

from pairwise_rm.errors import InputError
from pairwise_rm.evaluate.engine import engine_arguments
from pairwise_rm.hf_model import check_model_folder
from pairwise_rm.recipe.load import load_recipe
from pairwise_rm.recipe.model import Recipe, Section

RECIPE = "recipe.yaml"
_OWNED = ("model", "served_model_name", "uds", "host", "port", "tensor_parallel_size", "trust_remote_code")
"""A model's own code runs where the recipe says so, and not by another way."""


class ServeArguments(Section):
    """Arguments of `pairwise_rm.serve.app:build`."""

    model: str = Field(min_length=1)
    """The exported folder."""
    export: str | None = None
    """Digest of the export stage that writes it, as a RayJob is given; null: whatever the folder holds is served."""
    tensor_parallel: int | None = Field(None, ge=1)
    """GPUs of a replica; null: the recipe's `evaluate.tensor_parallel`."""
    vllm: dict[str, Any] = Field({})
    """Further options of `vllm serve`, `{max_num_seqs: 64}` say."""

    @field_validator("vllm")
    @classmethod
    def _free(cls, options: dict[str, Any]) -> dict[str, Any]:
        if owned := [key for key in options if key.replace("-", "_") in _OWNED]:
            raise ValueError(f"{owned[0]} is set here already; it cannot be chosen")
        return options

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> ServeArguments:
        """Raises InputError that names the argument."""
        try:
            return cls.model_validate(dict(given))
        except ValidationError as error:
            problem = error.errors()[0]
            key = ".".join(map(str, problem["loc"]))
            if problem["type"] == "extra_forbidden":
                raise InputError(f"args.{key}: unknown; known are {', '.join(cls.model_fields)}") from None
            raise InputError(f"args.{key}: {problem['msg'].removeprefix('Value error, ')}") from None


@dataclass(frozen=True)
class Exported:
    """A folder that `export` wrote, checked, and how to start vLLM on it."""

    folder: Path
    recipe: Recipe
    tensor_parallel: int
    options: Mapping[str, Any]

    @classmethod
    def of(cls, arguments: ServeArguments) -> Exported:
        """Raises InputError, with one line, when the folder is no exported judge."""
        folder = Path(arguments.model).expanduser().absolute()
        check_model_folder(str(folder))
        if not (folder / RECIPE).is_file():
            raise InputError(f"{folder}: no {RECIPE}; `pairwise-rm export` writes it beside the weights")
        recipe = load_recipe(str(folder / RECIPE))
        width = arguments.tensor_parallel or recipe.evaluate.tensor_parallel
        return cls(folder, recipe, width, arguments.vllm)

    @property
    def name(self) -> str:
        """Name of the model in requests to /v1."""
        return self.recipe.name

    def vllm_arguments(self, socket: str) -> list[str]:
        """Arguments of vLLM's server: evaluation's own, and what a server needs."""
        settings = engine_arguments(self.recipe, str(self.folder))
        del settings["disable_log_stats"]
        settings["tensor_parallel_size"] = self.tensor_parallel
        settings |= {"served_model_name": self.name, "uds": socket, "disable_uvicorn_access_log": True}
        if self.tensor_parallel > 1:
            # A replica's GPUs are on one node: vLLM starts processes, not Ray actors.
            settings["distributed_executor_backend"] = "mp"
        settings |= {key.replace("-", "_"): value for key, value in self.options.items()}
        return _flags(settings)


def _flags(settings: Mapping[str, Any]) -> list[str]:
    flags: list[str] = []
    for key, value in settings.items():
        flag = f"--{key.replace('_', '-')}"
        if value is None or value is False:
            continue
        if value is True:
            flags.append(flag)
        else:
            flags += [flag, json.dumps(value) if isinstance(value, dict | list) else str(value)]
    return flags
