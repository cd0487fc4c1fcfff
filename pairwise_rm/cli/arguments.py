"""Arguments that several commands share."""

from __future__ import annotations

from typing import Annotated

import typer

RecipeName = Annotated[
    str, typer.Argument(metavar="RECIPE", help="A shipped recipe (see `pairwise-rm validate --list`) or a YAML file.")
]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="[KEY=VALUE]...", help="Keys of the recipe to set, train.steps=30 say."),
]
Release = Annotated[
    str | None, typer.Argument(metavar="RELEASE", help="The release; can be left out where there is only one.")
]
Namespace = Annotated[
    str | None, typer.Option("--namespace", "-n", metavar="NS", help="Default: that of the kubeconfig's context.")
]
Context = Annotated[str | None, typer.Option("--context", metavar="NAME", help="Another context of the kubeconfig.")]
