"""The smoke model and its data: a tiny judge that writes the output format and is at chance, and pairs to learn from.

    folder/
      config.json, model.safetensors, tokenizer.json, ...   a Hugging Face folder, 0.5 M float32 parameters
      preference.jsonl                                      pairs in HelpSteer2's own format, train and val
      made.json                                             maker, seed, version and what was measured

The seed draws the sentences, the initial weights and the order of the warm-start.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from pairwise_rm import __version__
from pairwise_rm.atomic_io import atomic_folder
from pairwise_rm.errors import InputError, StageError
from pairwise_rm.toy.made_record import already_made, write_record
from pairwise_rm.toy.topic_pairs import helpsteer2_row, pairs, topic_combinations

PAIRS_FILE = "preference.jsonl"
TRAIN_DRAWS = 1  # pairs per combination and direction: 432 * 2 = 864
VAL_DRAWS = 1  # 64 * 2 = 128


def make_smoke(folder: Path, seed: int, progress: Callable[[str], None] | None = None) -> None:
    """Makes the smoke folder in one step or leaves what was there; a no-op where it is made already.

    Raises InputError when `folder` holds something else or `seed` is negative, StageError when torch is missing,
    when the folder cannot be written or when the warm-start does not learn the output format.
    """
    if seed < 0:
        raise InputError(f"models smoke: seed must be 0 or more, got {seed}")
    parameters = {"seed": seed, "version": __version__}
    if already_made(folder, "smoke", parameters):
        return
    _torch()  # before anything is written
    with atomic_folder(folder) as temporary:
        write_pairs(temporary / PAIRS_FILE, seed)
        with _two_threads():
            measured = _make_model(temporary, seed, progress or (lambda line: None))
        write_record(temporary, "smoke", parameters, measured)


def write_pairs(path: Path, seed: int) -> None:
    """One JSON object per line: train's pairs, then val's."""
    with open(path, "w", encoding="utf-8") as handle:
        for pair in pairs("train", seed, TRAIN_DRAWS):
            handle.write(json.dumps(helpsteer2_row(pair, "train")) + "\n")
        for pair in pairs("val", seed, VAL_DRAWS):
            handle.write(json.dumps(helpsteer2_row(pair, "val")) + "\n")


@contextlib.contextmanager
def _two_threads() -> Iterator[None]:
    """Two are 1.6 times as fast as one on two cores; so small a model gains nothing from more."""
    torch = _torch()
    before = torch.get_num_threads()
    torch.set_num_threads(min(2, os.cpu_count() or 1))
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _torch() -> Any:
    try:
        import torch
        import transformers
    except ModuleNotFoundError as error:
        raise StageError(f"models smoke: {error.name} is not installed; pip install 'pairwise-rm[cpu]'") from error
    transformers.utils.logging.disable_progress_bar()
    return torch


def _make_model(folder: Path, seed: int, progress: Callable[[str], None]) -> dict[str, Any]:
    from pairwise_rm.toy.warm_start import warm_started_model

    train = pairs("train", seed, TRAIN_DRAWS)
    model, tokenizer, seen = warm_started_model(train, topic_combinations("train"), seed, progress)
    progress(f"smoke model: valid {seen.valid:.2f}, accuracy {seen.accuracy:.2f} (on training pairs)")
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return {"on": "training pairs, both orders, greedy", **seen._asdict()}
