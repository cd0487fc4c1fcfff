"""`pairwise-rm models`: makes the small local models."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def models(
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="smoke or smollm2; without a name, both are listed.")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Folder to make it in; default models/NAME.")] = None,
    seed: Annotated[int, typer.Option("--seed", help="Random seed of the smoke model and its pairs.")] = 1,
) -> None:
    """Make a small local model: smoke (tiny, with pairs to learn from) or smollm2 (SmolLM2-135M-Instruct)."""
    from pairwise_rm.cli.console import ConsoleReporter
    from pairwise_rm.pipeline import make_model
    from pairwise_rm.toy import MAKERS

    if name is None:
        for known, text in MAKERS.items():
            typer.echo(f"{known:<9} {text}")
        return
    make_model(name, out or Path("models") / name, seed, ConsoleReporter())
