"""The duration of each phase, printed when all tests have ended."""

from __future__ import annotations

import pytest

PHASES: list[tuple[str, float]] = []


def report(terminal: pytest.TerminalReporter) -> None:
    if PHASES:
        terminal.section("how long each phase took")
        for name, seconds in PHASES:
            terminal.write_line(f"{name:<74} {seconds:7.1f} s")
