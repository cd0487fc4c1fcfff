"""Asking the driver to save and end."""

from __future__ import annotations

from pathlib import Path

from pairwise_rm.atomic_io import write_text

ASK_FILE = "save_and_end"


def ask(folder: Path, deadline: float | None) -> None:
    write_text(folder / ASK_FILE, "" if deadline is None else f"{deadline}\n")
