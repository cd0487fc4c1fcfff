"""Progress of the stages for people: a line for each event, and a live line in between.

On a terminal the live line is redrawn with the elapsed time; in a log file, a line is written at most every ten
seconds.
"""

from __future__ import annotations

import time

from rich.console import Console
from rich.status import Status

from pairwise_rm.progress import Event, duration

QUIET_SECONDS = 10.0

console = Console(highlight=False, soft_wrap=True)


class ConsoleReporter:
    """Prints the stages' events to the terminal or a log file."""

    def part(self, name: str, note: str = "") -> ConsolePart:
        return ConsolePart(name, note)

    def say(self, text: str) -> None:
        console.print(text, markup=False)


class ConsolePart:
    """A part of a stage: `with ConsoleReporter().part("train") as part: part.live("step 3/30")`."""

    def __init__(self, name: str, note: str = "") -> None:
        self.name, self.note = name, note
        self.began = self._written = time.monotonic()
        self._status: Status | None = None

    def __enter__(self) -> ConsolePart:
        console.print(f"[bold cyan]▸ {self.name}[/]{f'  {self.note}' if self.note else ''}")
        if console.is_terminal:
            self._status = console.status("")
            self._status.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._status:
            self._status.stop()
        if kind is None:
            console.print(f"  [green]✓[/] {self.name} [dim]{duration(time.monotonic() - self.began)}[/]")

    def say(self, event: Event | str) -> None:
        console.print(f"  {event}", markup=False)
        self._written = time.monotonic()

    def live(self, event: Event | str) -> None:
        now = time.monotonic()
        if self._status:
            self._status.update(f"{event} [dim]{duration(now - self.began)}[/]")
        elif now - self._written >= QUIET_SECONDS:
            self.say(f"{event} ({duration(now - self.began)})")
