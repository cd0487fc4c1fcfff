"""Does the damage and prints a table: `python -m tests.chaos [FAULT…]`; without names, all of it."""

from __future__ import annotations

import subprocess
import sys
import time
import traceback
from collections.abc import Callable

from rich.console import Console
from rich.table import Table

from tests.chaos import stages, training
from tests.chaos.result import Result


def _of_a_stage(fault: Callable[[], tuple[int, int, str]]) -> Callable[[], Result]:
    def damage() -> Result:
        tries, survived, note = fault()
        return Result(tries, survived, note=note)

    return damage


FAULTS = {**training.FAULTS, **{name: _of_a_stage(fault) for name, fault in stages.FAULTS.items()}}


def main(wanted: list[str]) -> int:
    if unknown := set(wanted) - set(FAULTS):
        print(f"unknown: {', '.join(sorted(unknown))}; expected some of: {', '.join(FAULTS)}")
        return 2
    table = Table("fault", "tries", "survived", "steps lost", "s to recover", "took", "what was said")
    failed = 0
    for name in wanted or FAULTS:
        print(f"{name} …", flush=True)
        began = time.monotonic()
        try:
            result = FAULTS[name]()
        except (AssertionError, OSError, TimeoutError, ValueError, subprocess.SubprocessError):
            traceback.print_exc()
            result = Result(1, 0, note="see above")
        failed += result.survived < result.tries
        table.add_row(
            name, str(result.tries), str(result.survived), _text(result.lost), _text(result.seconds),
            f"{time.monotonic() - began:.0f} s", result.note,
        )  # fmt: skip
    Console(width=160).print(table)
    return 1 if failed else 0


def _text(value: float | None) -> str:
    return "" if value is None else f"{value:.0f}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
