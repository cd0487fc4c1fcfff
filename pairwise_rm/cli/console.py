"""What a person sees while a stage works: a line when something is reached, a live line in between.

On a terminal the live line is redrawn with the time that has passed; in a log file, where nothing can be
redrawn, a line is written at most every ten seconds.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from types import TracebackType

from rich.console import Console
from rich.status import Status

from pairwise_rm.progress import CountLine, duration

QUIET_SECONDS = 10.0

console = Console(highlight=False, soft_wrap=True)

_observers: list[Callable[[str], None]] = []


@contextlib.contextmanager
def observed(by: Callable[[str], None]) -> Iterator[None]:
    """Tells `by` every line of every stage while the block runs, the live ones included."""
    _observers.append(by)
    try:
        yield
    finally:
        _observers.remove(by)


class Stage:
    """A stage on the console: `with Stage("train") as stage: stage.live("step 3/30")`."""

    def __init__(self, name: str, note: str = "") -> None:
        self.name, self.note = name, note
        self.began = self._written = time.monotonic()
        self._status: Status | None = None

    def __enter__(self) -> Stage:
        console.print(f"[bold cyan]▸ {self.name}[/]{f'  {self.note}' if self.note else ''}")
        if console.is_terminal:
            self._status = console.status("")
            self._status.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._status:
            self._status.stop()
        if kind is None:
            console.print(f"  [green]✓[/] {self.name} [dim]{duration(time.monotonic() - self.began)}[/]")

    def say(self, text: str) -> None:
        """A line that stays."""
        console.print(f"  {text}", markup=False)
        self._told(text)
        self._written = time.monotonic()

    def live(self, text: str) -> None:
        """What is going on right now."""
        now = time.monotonic()
        self._told(text)
        if self._status:
            self._status.update(f"{text} [dim]{duration(now - self.began)}[/]")
        elif now - self._written >= QUIET_SECONDS:
            self.say(f"{text} ({duration(now - self.began)})")

    def _told(self, text: str) -> None:
        for observer in _observers:
            observer(text)

    def count(self, what: str, done: int, total: int) -> None:
        """Progress of a counted step."""
        self.live(str(CountLine(what, done, total)))
