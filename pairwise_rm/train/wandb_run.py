"""The W&B run of a training, which outlasts a W&B that is out of reach, and holds no secrets.

verl's own `wandb.init` ends the training after 90 s without an answer, keeps its files in Ray's folder of the node, and
is given verl's whole config. A run that has begun before is taken by it as it is.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

FINISH_SECONDS = 120.0
"""For the upload of the last steps; without a limit, `finish` waits for a W&B that has gone for ever."""
HIDDEN = "(not shown)"
_SECRET = re.compile(r"(?i)(api_?key|access_?key|secret|passw(or)?d|credential|(^|_)token)($|_)")
_OF_A_URL = re.compile(r"(?<=://)[^/\s@]+@")


def begin(config: Mapping[str, Any], folder: Path) -> None:
    """Begins the run that verl's logger then finds. Its files are in `<folder>/wandb`, unless WANDB_DIR says otherwise.

    Args:
        config: verl's, as plain values.
        folder: on the shared volume, so that `wandb sync` finds what was not uploaded when the pod is gone.
    """
    import wandb

    trainer = config["trainer"]
    options: dict[str, Any] = {"finish_timeout": FINISH_SECONDS}
    if proxy := trainer.get("wandb_proxy"):
        options["https_proxy"] = proxy
    known = wandb.Settings.model_fields
    settings = wandb.Settings(**{name: value for name, value in options.items() if name in known})
    os.environ.setdefault("WANDB_DIR", str(folder))
    arguments = {
        "project": trainer["project_name"],
        "name": trainer["experiment_name"],
        "entity": os.environ.get("WANDB_ENTITY"),
        "config": without_secrets(config),
        "settings": settings,
    }
    try:
        wandb.init(**arguments)
    except wandb.errors.CommError as error:
        run = wandb.init(**arguments, mode="offline")
        where = Path(run.dir).parent
        print(
            f"warning: W&B: {str(error).splitlines()[0]}; training goes on without it, "
            f"`wandb sync {where}` uploads its steps later",
            file=sys.stderr,
            flush=True,
        )


def without_secrets(config: Any) -> Any:
    """The config without the values of keys that name a secret, of variables that do, and passwords in URLs."""
    known = [value for name, value in os.environ.items() if _SECRET.search(name) and len(value) >= 8]
    return _shown(config, known)


def _shown(value: Any, secrets: list[str]) -> Any:
    if isinstance(value, Mapping):
        return {
            key: HIDDEN if isinstance(item, str) and _SECRET.search(str(key)) else _shown(item, secrets)
            for key, item in value.items()
        }
    if isinstance(value, (list, tuple)):
        return [_shown(item, secrets) for item in value]
    if isinstance(value, str):
        for secret in secrets:
            value = value.replace(secret, HIDDEN)
        return _OF_A_URL.sub(f"{HIDDEN}@", value)
    return value
