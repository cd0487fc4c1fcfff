"""`pairwise-rm plan`: what a recipe will take, before anything is rented."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pairwise_rm.cli.arguments import Overrides, RecipeName
from pairwise_rm.errors import InputError, StageError


def plan(
    recipe: RecipeName,
    overrides: Overrides = None,
    gpu: Annotated[
        str | None, typer.Option("--gpu", metavar="NAME", help="Kind of GPU; default: the one that the recipe names.")
    ] = None,
    gpus: Annotated[
        int | None, typer.Option("--gpus", metavar="N", min=1, help="GPUs; more than 8 are nodes of 8.")
    ] = None,
    data: Annotated[
        Path | None, typer.Option("--data", metavar="FILE", help="Converted pairs (parquet) whose lengths count.")
    ] = None,
    response_tokens: Annotated[
        float | None, typer.Option("--response-tokens", metavar="N", min=1, help="Mean length of a response.")
    ] = None,
    price: Annotated[
        float | None, typer.Option("--price", metavar="N", min=0, help="Of one GPU for an hour, in any currency.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object, in bytes and seconds.")] = False,
) -> None:
    """Plan a run: memory by part and phase, host, volumes, seconds and GPU-hours. Exit code 1: it does not fit."""
    from pairwise_rm.checks.problem import refuse
    from pairwise_rm.checks.recipe import shape_problems
    from pairwise_rm.cli.console import console
    from pairwise_rm.plan.estimate import estimate, in_gib
    from pairwise_rm.plan.report import report
    from pairwise_rm.plan.throughput import find_gpu, gpu_of
    from pairwise_rm.recipe.load import load_with_origin

    given = [*(overrides or []), *_of_gpus(gpus)]
    loaded, origin = load_with_origin(recipe, given)
    refuse(shape_problems(loaded), origin)
    kind = None
    if loaded.device == "cuda":
        kind = find_gpu(gpu) if gpu else gpu_of(loaded)
    elif gpu:
        raise InputError(f"--gpu {gpu}: the recipe has device: cpu; leave it out, or set device=cuda")
    found = estimate(loaded, kind, data=data, response=response_tokens, price=price)
    if as_json:
        import json

        typer.echo(json.dumps(found.as_json(), indent=2, ensure_ascii=False))
    else:
        console.print(report(found), soft_wrap=False)
    if not found.fits:
        over = found.memory.over
        raise StageError(f"{loaded.name} does not fit: {over[0][0].phase} by {in_gib(over[0][1])}")


def _of_gpus(gpus: int | None) -> list[str]:
    """Recipe keys for this many GPUs: one node, or nodes of 8. Raises InputError."""
    if gpus is None:
        return []
    if gpus > 8 and gpus % 8:
        raise InputError(f"--gpus {gpus}: expected at most 8, or a multiple of 8")
    return [f"train.nodes={max(1, gpus // 8)}", f"train.gpus_per_node={min(gpus, 8)}"]
