"""The two kinds of errors that a user can meet, and their exit codes.

0 done · 1 failed while doing what was asked · 2 the user's input is wrong.
Both carry one line for the user (what, where, what was expected); the command line prints that line
and nothing else. Any other exception is a defect of ours and keeps its traceback.
"""

import re

EXIT_FAILED = 1
EXIT_INPUT = 2

_EXTRAS = {
    **dict.fromkeys(("torch", "transformers", "ray", "vllm", "verl", "safetensors"), "gpu]', or 'pairwise-rm[cpu"),
    **dict.fromkeys(("numpy", "pandas", "wandb"), "report"),
    "gguf": "models",
    "kubernetes": "kubernetes",
    **dict.fromkeys(("starlette", "uvicorn", "httpx"), "serve"),
}
"""Which extra brings a package that the base installation lacks."""
_CREDENTIALS = re.compile(r"\b(https?|socks5h?)://[^\s/@]+@")


class PairwiseError(Exception):
    """Base of the errors whose message is written for the user. `exit_code` is what the process returns.

    A message goes into logs and state files, so it holds no user and password of a URL (a proxy, a mirror of the hub).
    """

    exit_code = EXIT_FAILED

    def __init__(self, message: str) -> None:
        super().__init__(_CREDENTIALS.sub(r"\1://", message))


class InputError(PairwiseError):
    """The user's input is wrong: a recipe, a data file, a path, an argument."""

    exit_code = EXIT_INPUT


class StageError(PairwiseError):
    """The input was fine and the work failed: a full disk, a worker that died, stale rollout weights."""


class Preempted(StageError):
    """Training ended because a node goes or somebody asked for it; the next attempt goes on from what was saved."""


def missing_extra(error: ModuleNotFoundError) -> str | None:
    """Which extra to install for a package that the base installation lacks; None for any other module."""
    package = (error.name or "").partition(".")[0]
    return f"{package} is not installed; pip install 'pairwise-rm[{_EXTRAS[package]}]'" if package in _EXTRAS else None


def first_line(error: BaseException) -> str:
    """The first non-empty line of an error's text, or its type's name."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
