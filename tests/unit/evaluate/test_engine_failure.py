"""One line for the user out of what vLLM and Ray say when they fail."""

from __future__ import annotations

import pytest

from pairwise_rm.evaluate.engine_failure import EngineFailure, cause_of, meaningful_line
from pairwise_rm.ray_session import _lack

LOG = """\
INFO loading
(EngineCore pid=7) torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.
(EngineCore pid=7) Process EngineCore:
RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {}
"""


def test_the_cause_is_found_in_the_log_where_the_error_only_points_there() -> None:
    error = RuntimeError("Engine core initialization failed. See root cause above.")
    assert meaningful_line(error, LOG) == ("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.")


def test_an_error_that_says_why_keeps_its_own_text_in_one_line() -> None:
    assert meaningful_line(ValueError("too long:\n  4096 > 2048"), LOG) == "ValueError: too long: 4096 > 2048"


def test_an_error_without_text_is_named_by_its_type() -> None:
    assert meaningful_line(KeyError()) == "KeyError"


def test_the_line_of_the_actor_is_passed_on_alone() -> None:
    wrapped = RuntimeError(
        "ray::EngineWorker.start()\n  File x\npairwise_rm.evaluate.failure.EngineFailure: no GPU left\n"
    )
    assert cause_of(wrapped) == "no GPU left"
    wrapped.cause = EngineFailure("no GPU at all")  # type: ignore[attr-defined]
    assert cause_of(wrapped) == "no GPU at all"


def test_an_actor_that_died_says_how() -> None:
    died = type("ActorDiedError", (Exception,), {})
    how = "The actor's worker was killed due to the node running low on memory."
    error = died(f"The actor died unexpectedly before finishing this task.\n\tclass_name: EngineWorker\n\t{how}")
    assert cause_of(error) == f"the engine's process died: {how}"


@pytest.mark.parametrize(
    ("present", "lack"),
    [
        ({"GPU": 4, "CPU": 2}, None),
        ({"GPU": 3, "CPU": 2}, "4 GPUs wanted, 3 GPUs present"),
        ({"CPU": 2}, "4 GPUs wanted, 0 GPUs present"),
        ({"GPU": 4, "CPU": 1}, "2 CPUs wanted, 1 CPU present"),
    ],
)
def test_a_lack_of_resources_names_what_is_wanted_and_what_is_there(
    present: dict[str, float], lack: str | None
) -> None:
    assert _lack([{"GPU": 2, "CPU": 1}] * 2, present) == lack
