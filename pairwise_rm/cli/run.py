"""`pairwise-rm run`: all stages in order, and what they changed in one table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from pairwise_rm.cli.arguments import Overrides, RecipeName

if TYPE_CHECKING:
    from rich.table import Table

    from pairwise_rm.evaluate.result import Evaluation


def run(
    recipe: RecipeName,
    overrides: Overrides = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Throw away this run's earlier training.")] = False,
) -> None:
    """Convert, evaluate, train, evaluate again, export and report. Finished stages are not repeated."""
    from pairwise_rm import pipeline
    from pairwise_rm.checks.problem import refuse
    from pairwise_rm.checks.recipe import recipe_problems
    from pairwise_rm.cli.console import ConsoleReporter, console
    from pairwise_rm.evaluate.result import orders
    from pairwise_rm.recipe.load import load_with_origin

    loaded, origin = load_with_origin(recipe, overrides or [])
    refuse(recipe_problems(loaded), origin)
    outcome = pipeline.run(loaded, ConsoleReporter(), fresh)
    before, after = outcome.before, outcome.after
    console.print()
    console.print(_table(before, after))
    console.print(f"judge:  {outcome.judge}", markup=False)
    of = orders(after.metrics)
    line = f"accuracy {before.accuracy:.2f} -> {after.accuracy:.2f} (held out, {of}) · report: {outcome.report}"
    console.print(line, markup=False)


def _table(before: Evaluation, after: Evaluation) -> Table:
    from rich.table import Table

    from pairwise_rm.evaluate.result import figure, orders

    table = Table(title=f"{after.metrics['pairs']} held-out pairs, {orders(after.metrics)}, 95 % intervals")
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
