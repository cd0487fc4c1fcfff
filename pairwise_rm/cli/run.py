"""`pairwise-rm run`: all stages in order, and what they changed in one table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from pairwise_rm.cli.arguments import Overrides, RecipeName

if TYPE_CHECKING:
    from rich.table import Table

    from pairwise_rm.evaluate.result import Evaluation
    from pairwise_rm.recipe.model import Recipe


def register(app: typer.Typer) -> None:
    app.command("run")(run)


def run(
    recipe: RecipeName,
    overrides: Overrides = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Throw away this run's earlier training.")] = False,
) -> None:
    """Convert, evaluate, train, evaluate again, export and report. Finished stages are not done twice."""
    from pairwise_rm.recipe.load import load_recipe

    _run(load_recipe(recipe, overrides or []), fresh)


def _run(recipe: Recipe, fresh: bool) -> None:
    from pairwise_rm.cli import steps
    from pairwise_rm.cli.console import console
    from pairwise_rm.evaluate.run import write_report
    from pairwise_rm.run_folder import RunFolder

    folder = RunFolder.of(recipe)
    steps.convert_step(recipe.data, folder.data, False, recipe)
    pairs, base = steps.pairs_to_judge(recipe), steps.base_model(recipe)
    before = steps.evaluate_one(recipe, base, steps.BEFORE, pairs, folder.evaluation)
    steps.train_step(recipe, fresh)
    merged = str(steps.merge_step(recipe))
    after = steps.evaluate_one(
        recipe, merged, steps.AFTER, pairs, folder.evaluation, against=before.folder, replace=True
    )
    exported = steps.export_step(recipe)
    report = write_report(
        folder.evaluation, before=before.folder, after=after.folder, training_metrics=folder.metrics, recipe=recipe
    )
    console.print()
    console.print(_table(before, after))
    console.print(f"judge:  {exported}", markup=False)
    line = f"accuracy {before.accuracy:.2f} -> {after.accuracy:.2f} (held out, both orders) · report: {report}"
    console.print(line, markup=False)


def _table(before: Evaluation, after: Evaluation) -> Table:
    from rich.table import Table

    from pairwise_rm.cli.steps import figure

    table = Table(title=f"{after.metrics['pairs']} held-out pairs, both orders, 95 % intervals")
    table.add_column("")
    for name in ("before", "after"):
        table.add_column(name, justify="right")
    rows = {
        "accuracy": "accuracy",
        "both orders right": "both_orders_right",
        "position consistency": "position_consistency",
        "share of A verdicts": "share_a",
        "invalid output": "invalid",
    }
    for text, key in rows.items():
        table.add_row(text, figure(before.metrics[key]), figure(after.metrics[key]))
    return table
