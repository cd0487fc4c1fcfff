"""`pairwise-rm judge`: ask a judge about a prompt and two responses, or a file of them, in both orders."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pairwise_rm.cli.arguments import Overrides, RecipeName
from pairwise_rm.errors import InputError


def judge(
    recipe: RecipeName,
    overrides: Overrides = None,
    prompt: Annotated[str | None, typer.Option("--prompt", help="The query.")] = None,
    response_a: Annotated[str | None, typer.Option("--response-a", help="The first response.")] = None,
    response_b: Annotated[str | None, typer.Option("--response-b", help="The second response.")] = None,
    file: Annotated[
        Path | None,
        typer.Option(
            "--file", help="Rows with prompt (or messages), response_a and response_b; any file that convert reads."
        ),
    ] = None,
    source: Annotated[
        str | None,
        typer.Option(
            "--source",
            help="How rows of --file are read, as data.configs.source names it; default: the recipe's, or plain names.",
        ),
    ] = None,
    model: Annotated[
        str | None, typer.Option("--model", help="A model folder or hub name; default: the run's export.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object per item.")] = False,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Write one JSON object per item there; if interrupted, the same command goes on."),
    ] = None,
) -> None:
    """Print the verdict with its reasoning, in both orders."""
    from pairwise_rm.atomic_io import write_text
    from pairwise_rm.cli.console import ConsoleReporter, console
    from pairwise_rm.evaluate.generation_shards import partial_folder, remove_shards
    from pairwise_rm.hf_model import model_location
    from pairwise_rm.judge.items import Item, read_items
    from pairwise_rm.judge.run import judge as ask
    from pairwise_rm.judge.show import as_json_lines, print_judgements
    from pairwise_rm.progress import counting
    from pairwise_rm.recipe.load import load_recipe
    from pairwise_rm.run_folder import RunFolder

    if as_json and out is not None:
        raise InputError("--json and --out exclude each other; keep one")
    if out is not None:
        out = out.expanduser()
        if out.is_dir():
            raise InputError(f"--out {out}: is a folder, expected a file")
    loaded = load_recipe(recipe, overrides or [])
    texts = {"--prompt": prompt, "--response-a": response_a, "--response-b": response_b}
    if file is not None:
        if given := [name for name, text in texts.items() if text is not None]:
            raise InputError(f"--file and {given[0]} exclude each other")
        items = read_items(file, source, loaded.data.configs)
    else:
        if source is not None:
            raise InputError("--source needs --file, whose rows it reads")
        if missing := [name for name, text in texts.items() if text is None]:
            raise InputError(f"{missing[0]} is missing (or give --file)")
        items = [Item.of(prompt or "", response_a or "", response_b or "")]
    exported = RunFolder.of(loaded).export
    if not model and not exported.is_dir():
        raise InputError(f"{exported}: no exported judge; `pairwise-rm export {recipe}` writes it, or give --model")
    chosen = model_location(model) if model else str(exported)
    if as_json:
        typer.echo(as_json_lines(ask(loaded, chosen, items)), nl=False)
        return
    partial = partial_folder(out) if out else None
    with ConsoleReporter().part("judge", chosen) as part:
        judgements = ask(loaded, chosen, items, counting(part), say=part.say, partial=partial)
        if out:
            write_text(out, as_json_lines(judgements))
            remove_shards(out)
            part.say(f"{out}: {len(judgements):,} judgements")
    if out:
        return
    print_judgements(judgements, console)
