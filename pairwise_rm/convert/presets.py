"""The presets: field mappings for public preference sets, as data in `presets.yaml`.

An entry of that file is a name with `about` (the set, for people), `fields` (one mapping, or several for a set that
comes in several shapes) and, where the columns alone do not tell the set from others, `sniff`.
"""

from __future__ import annotations

import functools
from importlib import resources
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, field_validator

from pairwise_rm.recipe.model import FieldMapping


class Preset(BaseModel):
    """`sniff`: columns that tell the set from others, for `convert --sniff`, and what their text begins with."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    about: str
    fields: list[FieldMapping]
    sniff: dict[str, str | None] = {}

    @field_validator("fields", mode="before")
    @classmethod
    def _one_or_several(cls, value: Any) -> Any:
        return [value] if isinstance(value, dict) else value


@functools.cache
def presets() -> dict[str, Preset]:
    """All presets by name, in the file's order."""
    text = (resources.files("pairwise_rm.convert") / "presets.yaml").read_text(encoding="utf-8")
    return {name: Preset.model_validate(entry) for name, entry in yaml.safe_load(text).items()}
