"""Arguments that several commands share."""

from __future__ import annotations

from typing import Annotated

import typer

RecipeName = Annotated[
    str, typer.Argument(metavar="RECIPE", help="A shipped recipe (see `pairwise-rm validate --list`) or a YAML file.")
]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="[KEY=VALUE]...", help="Recipe keys to set, for example train.steps=30."),
]
Release = Annotated[
    str | None, typer.Argument(metavar="RELEASE", help="The release; optional where there is only one.")
]
Namespace = Annotated[
    str | None,
    typer.Option("--namespace", "-n", metavar="NS", help="Default: the namespace of the kubeconfig context."),
]
Context = Annotated[str | None, typer.Option("--context", metavar="NAME", help="The kubeconfig context to use.")]
