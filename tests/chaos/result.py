"""What became of a fault: how often it was done, how often the work went on, and what it cost."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Result:
    """`lost`: the most finished steps that one of the faults cost; `seconds`: median time until the work went on."""

    tries: int
    survived: int
    lost: int | None = None
    seconds: float | None = None
    note: str = ""
