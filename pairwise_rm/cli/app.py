"""The command line: one typer app, one file per command, and the one place where errors become exit codes.

Nothing heavy is imported to show a help text; each command imports its stage when it runs.
"""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from pairwise_rm import __version__
from pairwise_rm.cli.convert import convert
from pairwise_rm.cli.evaluate import evaluate
from pairwise_rm.cli.export import export
from pairwise_rm.cli.fetch import fetch
from pairwise_rm.cli.judge import judge
from pairwise_rm.cli.logs import logs
from pairwise_rm.cli.models import models
from pairwise_rm.cli.plan import plan
from pairwise_rm.cli.retry import retry
from pairwise_rm.cli.run import run
from pairwise_rm.cli.serve import serve
from pairwise_rm.cli.stage import stage
from pairwise_rm.cli.status import status
from pairwise_rm.cli.stop import stop
from pairwise_rm.cli.train import train
from pairwise_rm.cli.validate import validate
from pairwise_rm.cli.wait import wait
from pairwise_rm.errors import EXIT_FAILED, PairwiseError, missing_extra

EXIT_INTERRUPTED = 130

app = typer.Typer(
    name="pairwise-rm",
    help="Train a pairwise judge: convert preference pairs, train with verl GRPO, evaluate, export.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
# As the help lists them.
COMMANDS = (
    run,
    convert,
    train,
    stop,
    evaluate,
    export,
    judge,
    serve,
    validate,
    plan,
    models,
    status,
    logs,
    wait,
    retry,
    fetch,
    stage,
)
for command in COMMANDS:
    app.command()(command)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"pairwise-rm {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None: ...


def main(argv: list[str] | None = None) -> None:
    """Runs the command line and exits: 0 done, 1 failed, 2 the user's input is wrong, 130 interrupted."""
    try:
        app(args=argv, prog_name="pairwise-rm")
    except PairwiseError as error:
        for line in str(error).splitlines():
            print(f"error: {line}", file=sys.stderr)
        sys.exit(error.exit_code)
    except ModuleNotFoundError as error:
        if not (sentence := missing_extra(error)):
            raise
        print(f"error: {sentence}", file=sys.stderr)
        sys.exit(EXIT_FAILED)
    except SystemExit as done:
        # Typer would catch KeyboardInterrupt and exit without a message.
        if done.code == EXIT_INTERRUPTED:
            print("interrupted", file=sys.stderr)
        raise
