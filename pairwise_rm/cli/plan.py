"""`pairwise-rm plan`: what a recipe will take, before anything is rented."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pairwise_rm.cli.arguments import Overrides, RecipeName
from pairwise_rm.errors import InputError, StageError

if TYPE_CHECKING:
    from pairwise_rm.plan.estimate import Estimate
    from pairwise_rm.plan.layout_search import Found
    from pairwise_rm.plan.throughput import Gpu
    from pairwise_rm.recipe.model import Recipe

_GPUS_OF_A_NODE = 8


def plan(
    recipe: RecipeName,
    overrides: Overrides = None,
    gpu: Annotated[
        str | None,
        typer.Option(
            "--gpu", metavar="NAME", help="Kind of GPU; default: the one that the recipe names, or a100-80gb."
        ),
    ] = None,
    gpus: Annotated[
        int | None, typer.Option("--gpus", metavar="N", min=1, help="Number of GPUs; more than 8 are nodes of 8.")
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option("--data", metavar="FILE", help="Converted pairs (parquet) whose lengths count."),
    ] = None,
    response_tokens: Annotated[
        float | None, typer.Option("--response-tokens", metavar="N", min=1, help="Mean length of a response.")
    ] = None,
    price: Annotated[
        float | None, typer.Option("--price", metavar="N", min=0, help="Of one GPU for an hour, in any currency.")
    ] = None,
    search: Annotated[
        bool, typer.Option("--search", help="Look for the cheapest layout that fits, and plan that one.")
    ] = False,
    values: Annotated[bool, typer.Option("--values", help="Print just the chart's values for it.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object, in bytes and seconds.")] = False,
) -> None:
    """Plan a run: memory by part and phase, host, volumes, time and GPU-hours; exit code 1 if it does not fit."""
    from pairwise_rm.plan.chart_values import as_overrides, chart_values
    from pairwise_rm.plan.estimate import estimate

    if values and as_json:
        raise InputError("--values and --json exclude each other; keep one")
    given = [*(overrides or []), *_of_gpus(gpus)]
    # A search chooses what would not fit together as it is.
    loaded = _load(recipe, given, checked=not search)
    kind = _kind(loaded, gpu)
    if kind is None and (search or values):
        raise InputError(
            f"--{'search' if search else 'values'}: the recipe has device: cpu, which has no layout of GPUs"
        )
    made = estimate(loaded, kind, data=data, response=response_tokens, price=price)
    found: list[Found] = []
    if search:
        from pairwise_rm.plan.layout_search import search as search_layouts

        found = search_layouts(made, [(made.layout.nodes, made.layout.gpus_per_node)] if gpus else None)
        if not found:
            raise StageError(f"{loaded.name}: no layout that was tried fits on {made.gpu.title if made.gpu else 'it'}")
        given += as_overrides(found[0].changes)
        made = estimate(_load(recipe, given), kind, data=data, response=response_tokens, price=price)
    if values:
        if not made.fits:
            raise StageError(_too_large(made))
        typer.echo(chart_values(recipe, made, given), nl=False)
        return
    _print(made, found, as_json)
    if not made.fits:
        raise StageError(_too_large(made))


def _of_gpus(gpus: int | None) -> list[str]:
    """Recipe keys for this many GPUs: one node, or nodes of 8. Raises InputError."""
    if gpus is None:
        return []
    if gpus > _GPUS_OF_A_NODE and gpus % _GPUS_OF_A_NODE:
        raise InputError(f"--gpus {gpus}: expected at most {_GPUS_OF_A_NODE}, or a multiple of it")
    nodes = max(1, gpus // _GPUS_OF_A_NODE)
    return [f"train.nodes={nodes}", f"train.gpus_per_node={gpus // nodes}"]


def _load(name: str, overrides: list[str], checked: bool = True) -> Recipe:
    from pairwise_rm.checks.problem import refuse
    from pairwise_rm.checks.recipe import shape_problems
    from pairwise_rm.recipe.load import load_with_origin

    loaded, origin = load_with_origin(name, overrides)
    if checked:
        refuse(shape_problems(loaded), origin)
    return loaded


def _kind(recipe: Recipe, name: str | None) -> Gpu | None:
    from pairwise_rm.plan.throughput import find_gpu, gpu_of

    if recipe.device == "cuda":
        return find_gpu(name) if name else gpu_of(recipe)
    if name:
        raise InputError(f"--gpu {name}: the recipe has device: cpu; leave it out, or set device=cuda")
    return None


def _print(plan: Estimate, found: list[Found], as_json: bool) -> None:
    if as_json:
        document: dict[str, Any] = plan.as_json()
        if found:
            document["search"] = [{"changes": one.changes, **one.estimate.as_json()} for one in found]
        typer.echo(json.dumps(document, indent=2, ensure_ascii=False))
        return
    from pairwise_rm.cli.console import console
    from pairwise_rm.plan.report import report, search_table

    if found:
        console.print(search_table(found, plan.price), soft_wrap=False)
        if any("model.lora" in one.changes for one in found):
            console.print(
                "No layout that trains all weights fits; an adapter (LoRA) makes another judge.", soft_wrap=False
            )
        console.print()
    console.print(report(plan), soft_wrap=False)


def _too_large(plan: Estimate) -> str:
    """Which phases do not fit, by how much, and the single changes with which they do."""
    from pairwise_rm.plan.chart_values import as_overrides
    from pairwise_rm.plan.estimate import in_gib
    from pairwise_rm.plan.layout_search import what_helps

    over = ", ".join(f"{peak.phase} by {in_gib(size)}" for peak, size in plan.memory.over)
    over = over or f"the KV cache of {plan.memory.short_cache} does not hold one sequence of full length"
    ways = [" ".join(as_overrides(changes)) for changes in what_helps(plan)]
    help_ = f"what helps: {', or '.join(ways)}" if ways else "no single change helps; --search tries several"
    return f"{plan.recipe.name}: does not fit: {over}; {help_}"
