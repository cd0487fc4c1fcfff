"""The function of a recipe's `reward.function`: found, loaded, and called beside our own measures.

verl's reward workers import this module by its path (`reward.custom_reward_function`). The score is the function's;
`acc`, `valid` and the other measures of the verdict are ours, so that runs with different rewards can be compared.
"""

from __future__ import annotations

import asyncio
import functools
import importlib
import importlib.util
import inspect
import math
import numbers
import sys
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from pairwise_rm.atomic_io import sha256_of
from pairwise_rm.contract.verdict import Thinking
from pairwise_rm.errors import InputError
from pairwise_rm.recipe.model import PACKAGED
from pairwise_rm.train.reward import compute_score

PREFIX = "custom/"
"""Before each key that the function returns beside `score`."""

_MODULE = "pairwise_rm_reward_function"


def compute_custom_score(
    data_source: str,
    solution_str: str,
    ground_truth: str,
    extra_info: Mapping[str, Any] | None = None,
    *,
    function: Mapping[str, str],
    thinking: Thinking = "response",
    **from_verl: Any,
) -> dict[str, float | str]:
    """Scores one response of the judge with the recipe's own function.

    Args:
        data_source, solution_str, ground_truth, extra_info: verl's, passed on as they are.
        function: its `path`, its `name`, and the `sha256` that the file must have.
        thinking: where the opening `<think>` stands, for our own measures.
        from_verl: what verl gives a reward beside it, the address of a reward model; passed on.

    Returns: the keys of `compute_score` with the function's `score`, and what else it returned under `custom/`.

    Raises ValueError when the function returns no score, or other keys than for the first response.
    """
    ours = compute_score(data_source, solution_str, ground_truth, extra_info, thinking=thinking)
    called = load(function["path"], function["name"], function.get("sha256"))
    found = called(
        data_source=data_source,
        solution_str=solution_str,
        ground_truth=ground_truth,
        extra_info=extra_info,
        **from_verl,
    )
    if inspect.isawaitable(found):
        found = asyncio.run(_result(found))
    theirs = _checked(found)
    _same_keys(called, theirs)
    return {**ours, "score": theirs.pop("score"), **{f"{PREFIX}{key}": value for key, value in theirs.items()}}


async def _result(found: Awaitable[Any]) -> Any:
    return await found


def _checked(found: Any) -> dict[str, Any]:
    """A number, or a mapping with `score`, as numbers and texts."""
    given = dict(found) if isinstance(found, Mapping) else {"score": found}
    if "score" not in given:
        raise ValueError(f"returned no key score, but {', '.join(map(str, given)) or 'an empty mapping'}")
    if isinstance(given["score"], str):
        raise ValueError(f"returned the score {given['score']!r}, expected a number")
    return {str(key): _number(key, value) for key, value in given.items()}


def _number(key: Any, value: Any) -> float | str:
    if isinstance(value, str):
        return value
    if not isinstance(value, numbers.Real) and hasattr(value, "item"):
        value = value.item()  # a tensor or an array with one element
    if not isinstance(value, numbers.Real):
        raise ValueError(f"returned {key} as {type(value).__name__}, expected a number")
    if not math.isfinite(value):
        raise ValueError(f"returned {key} as {float(value)}, expected a finite number")
    return float(value)


_first_keys: dict[Callable[..., Any], frozenset[str]] = {}


def _same_keys(called: Callable[..., Any], theirs: Mapping[str, Any]) -> None:
    # verl's validation and our metrics need the same keys of every response.
    first = _first_keys.setdefault(called, frozenset(theirs))
    if first != set(theirs):
        raise ValueError(
            f"returned the keys {', '.join(sorted(theirs))}, for another response {', '.join(sorted(first))}; "
            "expected the same always"
        )


# ---- the source ----------------------------------------------------------------------------------


def source(path: str) -> Path:
    """The file that a path, or `pkg://` and a module, stands for. Raises InputError when there is none."""
    if not path.startswith(PACKAGED):
        file = Path(path).expanduser().absolute()
        if not file.is_file():
            raise InputError(f"reward.function.path: {file}: no such file")
        return file
    module = path.removeprefix(PACKAGED)
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, ValueError):
        spec = None
    if spec is None or spec.origin is None or not Path(spec.origin).is_file():
        raise InputError(f"reward.function.path: no installed module {module}")
    return Path(spec.origin)


def checksum(path: str) -> str:
    """SHA-256 of the source file."""
    return sha256_of(source(path))


@functools.cache
def load(path: str, name: str, sha256: str | None = None) -> Callable[..., Any]:
    """The function, loaded once in each process.

    Raises InputError when the file is not there, is not the one of `sha256`, or has no such function; what its code
    raises while it is imported is passed on.
    """
    file = source(path)
    if sha256 and (found := checksum(path)) != sha256:
        raise InputError(f"reward.function.path: {file}: SHA-256 is {found}, the run has {sha256}")
    if path.startswith(PACKAGED):
        module = importlib.import_module(path.removeprefix(PACKAGED))
    else:
        spec = importlib.util.spec_from_file_location(_MODULE, file)
        assert spec
        assert spec.loader
        module = importlib.util.module_from_spec(spec)
        sys.modules[_MODULE] = module
        spec.loader.exec_module(module)
    function = getattr(module, name, None)
    if not callable(function):
        raise InputError(f"reward.function.name: {file} has no function {name}")
    return function  # type: ignore[no-any-return]
