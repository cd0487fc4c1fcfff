"""The function of `reward.function`, tried on made-up rows before anything else is loaded.

verl would meet a function that raises only after minutes, once for each response.
"""

from __future__ import annotations

import contextlib
import inspect
import sys
import traceback
from typing import Any

from pairwise_rm.contract.verdict import Thinking
from pairwise_rm.errors import InputError
from pairwise_rm.recipe.model import Recipe, RewardFunction
from pairwise_rm.train.reward_function import compute_custom_score, load
from pairwise_rm.train.verl_settings import reward_location

_ARGUMENTS = ("data_source", "solution_str", "ground_truth", "extra_info")

_MADE_UP = (
    ("<think>The first one answers the question.</think><preference>A</preference>", "A"),
    ("<think>Both are the same.</think><preference>tie</preference>", "B"),
    ("", "tie"),
)
"""Responses and labels: a right verdict, a wrong one, and no output at all."""


def check_reward_function(recipe: Recipe, thinking: Thinking = "response") -> None:
    """Loads the recipe's own reward, where it has one, and calls it on made-up rows.

    What it prints goes to stderr: on stdout are a recipe or JSON lines, for programs to read.

    Raises InputError with one line when it is not there, does not take verl's arguments, raises, or returns no score.
    """
    if recipe.reward.function is not None:
        with contextlib.redirect_stdout(sys.stderr):
            _try(recipe.reward.function, thinking)


def _try(function: RewardFunction, thinking: Thinking) -> None:
    path = reward_location(function)
    called = f"reward.function: {function.name} of {function.path}"
    try:
        loaded = load(path, function.name)
    except InputError:
        raise
    except (Exception, SystemExit) as error:
        raise InputError(f"reward.function: {function.path} cannot be imported: {_raised(error)}") from error
    _check_arguments(loaded, called)
    spec = {"path": path, "name": function.name}
    for text, label in _MADE_UP:
        try:
            compute_custom_score("made-up", text, label, _extra_info(), function=spec, thinking=thinking)
        except ValueError as error:
            if _is_ours(error):
                raise InputError(f"{called}: {error}") from error
            raise InputError(f"{called}: raised {_raised(error)} for a made-up response") from error
        except (Exception, SystemExit) as error:
            raise InputError(f"{called}: raised {_raised(error)} for a made-up response") from error


def _check_arguments(loaded: Any, called: str) -> None:
    try:
        signature = inspect.signature(loaded)
    except ValueError:
        return  # written in C, without a signature; the call shows whether it takes them
    try:
        signature.bind(**dict.fromkeys(_ARGUMENTS))
    except TypeError as error:
        raise InputError(f"{called}: {error}; it is called with {', '.join(_ARGUMENTS)}") from error


def _extra_info() -> dict[str, Any]:
    # As our dataset and verl's reward manager fill it.
    ours = {"index": 0, "pair_id": "made-up", "order": "original", "strength": 1}
    return {**ours, "num_turns": None, "rollout_reward_scores": {}}


def _is_ours(error: ValueError) -> bool:
    return traceback.extract_tb(error.__traceback__)[-1].filename == compute_custom_score.__code__.co_filename


def _raised(error: BaseException) -> str:
    last = traceback.extract_tb(error.__traceback__)[-1]
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text} ({last.filename}:{last.lineno})"
