"""What became of each fault, as a table."""

from __future__ import annotations

from dataclasses import dataclass

import pytest


@dataclass(frozen=True)
class Survival:
    """`lost`: steps that the whole training did twice; `recovery`: seconds from the fault to the next finished step."""

    fault: str
    lost: int
    recovery: float


SURVIVED: list[Survival] = []
TRIED: list[str] = []


def report(terminal: pytest.TerminalReporter) -> None:
    if not TRIED:
        return
    terminal.section("faults")
    terminal.write_line(f"{'fault':<56} {'tries':>5} {'survived':>8} {'steps lost':>10} {'recovered in':>12}")
    for fault in dict.fromkeys(TRIED):
        mine = [one for one in SURVIVED if one.fault == fault]
        lost = max((one.lost for one in mine), default=0)
        recovery = f"{max(one.recovery for one in mine):10.0f} s" if mine else f"{'-':>12}"
        terminal.write_line(f"{fault:<56} {TRIED.count(fault):>5} {len(mine):>8} {lost:>10} {recovery:>12}")
