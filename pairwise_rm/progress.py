"""A stage's progress: events, each one JSON line, and the line for people that is made from it.

    {"v": 1, "stage": "train", "part": "train", "event": "step", "text": "step 3/20  reward 0.412 ...",
     "step": 3, "of": 20, "reward": 0.412, "accuracy": 0.412, "valid": 0.98, "kl": null, "seconds": 9.1, "left": 160.0}

A terminal shows the text alone. In a cluster a stage logs the JSON lines, and its state file holds the newest one;
`pairwise-rm status`, `wait` and `logs` read the log. A stage may have several parts (evaluate judges one model
and then another). `v` is the version of the fields: a reader of another version uses the fields that it knows, and the
text if it knows none.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

VERSION = 1


def duration(seconds: float) -> str:
    """`8 s`, `3 min 05 s`, `2 h 10 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def clock(seconds: float) -> str:
    """`0:02:10`."""
    whole = int(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}"


@dataclass(frozen=True)
class Step:
    """A step of training. `seconds`: how long it took; `left`: estimated seconds to the last step."""

    step: int
    of: int
    reward: float
    accuracy: float
    valid: float
    kl: float | None
    seconds: float
    left: float

    def __str__(self) -> str:
        kl = "" if self.kl is None else f"  kl {self.kl:.4f}"
        return (
            f"step {self.step}/{self.of}  reward {self.reward:.3f}  accuracy {self.accuracy:.3f}"
            f"  valid {self.valid:.3f}{kl}  {self.seconds:.1f} s  {duration(self.left)} left"
        )


@dataclass(frozen=True)
class Count:
    """Something counted: rows read, pairs judged."""

    what: str
    done: int
    of: int

    def __str__(self) -> str:
        share = f" {100 * self.done // self.of}%" if self.of else ""
        return f"{self.what} {self.done:,}/{self.of:,}{share}"


@dataclass(frozen=True)
class Waiting:
    """A stage that waits, since `seconds`: for an earlier stage, for GPUs."""

    waiting_for: str
    seconds: float

    def __str__(self) -> str:
        return f"waiting for {self.waiting_for} ({clock(self.seconds)})"


@dataclass(frozen=True)
class Retry:
    """A stage tries again by itself: its attempt number `attempt` begins in `pause` seconds, after step `step`.

    `left`: how many more may follow it without a new checkpoint. `reason`: why the attempt before it ended.
    """

    attempt: int
    left: int
    step: int
    pause: float
    reason: str

    def __str__(self) -> str:
        soon = f" in {duration(self.pause)}" if self.pause >= 1 else ""
        return f"attempt {self.attempt}{soon}, after step {self.step}: {self.reason}"


@dataclass(frozen=True)
class Note:
    """Any other sentence: a phase of loading, a result."""

    text: str

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True)
class Begin:
    """A part begins."""

    note: str

    def __str__(self) -> str:
        return self.note


@dataclass(frozen=True)
class End:
    """A part has ended well, after `seconds`."""

    seconds: float

    def __str__(self) -> str:
        return f"done after {duration(self.seconds)}"


@dataclass(frozen=True)
class Failure:
    """The stage has ended with this error."""

    error: str

    def __str__(self) -> str:
        return self.error


Event = Step | Count | Waiting | Retry | Note | Begin | End | Failure
_EVENTS: dict[str, type[Event]] = {
    "step": Step,
    "count": Count,
    "waiting": Waiting,
    "retry": Retry,
    "note": Note,
    "begin": Begin,
    "end": End,
    "error": Failure,
}
_NAMES = {kind: name for name, kind in _EVENTS.items()}


class Part(Protocol):
    """A part of a stage that is under way."""

    def say(self, event: Event | str) -> None:
        """A permanent line."""

    def live(self, event: Event | str) -> None:
        """The current activity; may be skipped if another follows soon."""


class Reporter(Protocol):
    """Receives the stages' events: for a terminal, or for a cluster's logs and state files."""

    def part(self, name: str, note: str = "") -> AbstractContextManager[Part]:
        """A part of a stage for as long as the block runs."""

    def say(self, text: str) -> None:
        """A sentence outside of the parts."""


def counting(part: Part) -> Callable[[str, int, int], None]:
    """A callback for functions that count: (what is counted, number done, number in all)."""
    return lambda what, done, of: part.live(Count(what, done, of))


@dataclass(frozen=True)
class Line:
    """One JSON line. `part` is None outside of parts, `event` if this version knows neither its fields nor its text."""

    stage: str
    part: str | None
    event: Event | None
    version: int = VERSION

    def __str__(self) -> str:
        return json.dumps(self.as_json(), ensure_ascii=False)

    def as_json(self) -> dict[str, Any]:
        """The fields, in JSON's own types; numbers that are not finite are null."""
        head: dict[str, Any] = {"v": self.version, "stage": self.stage, "part": self.part}
        if self.event is None:
            return head
        fields = {key: _finite(value) for key, value in dataclasses.asdict(self.event).items()}
        return {**head, "event": _NAMES[type(self.event)], "text": str(self.event), **fields}

    @classmethod
    def parse(cls, text: str) -> Line | None:
        """A line of any version; None for any other text."""
        if not text.startswith('{"v":'):
            return None
        try:
            return cls.of(json.loads(text))
        except ValueError:
            return None

    @classmethod
    def of(cls, fields: Any) -> Line | None:
        """From the fields of `as_json`."""
        if not isinstance(fields, dict) or type(fields.get("v")) is not int or not isinstance(fields.get("stage"), str):
            return None
        part, text = fields.get("part"), fields.get("text")
        event = _event(fields) or (Note(text) if isinstance(text, str) else None)
        return cls(fields["stage"], part if isinstance(part, str) else None, event, fields["v"])

    @property
    def human(self) -> str:
        """As the terminal shows it."""
        name = self.part or self.stage
        if isinstance(self.event, Begin):
            return f"▸ {name}{f'  {self.event.note}' if self.event.note else ''}"
        if isinstance(self.event, End):
            return f"  ✓ {name} {duration(self.event.seconds)}"
        if isinstance(self.event, Waiting):
            return f"▸ {name}  {self.event}"
        if isinstance(self.event, Failure):
            return f"error: {self.event}"
        return f"{'  ' if self.part else ''}{self.event or ''}"


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _event(fields: dict[str, Any]) -> Event | None:
    """The event, if its kind is known and all its fields are there and of the right type."""
    kind = _EVENTS.get(str(fields.get("event")))
    if kind is None:
        return None
    values: dict[str, Any] = {}
    for field in dataclasses.fields(kind):
        value, wanted = fields.get(field.name), str(field.type)
        if field.name not in fields:
            return None
        if value is None and "float" in wanted:
            value = None if "None" in wanted else math.nan
        elif not isinstance(value, int | float if "float" in wanted else int if wanted == "int" else str):
            return None
        values[field.name] = value
    return kind(**values)


@dataclass(frozen=True)
class Found:
    """A line that has an event, and its place among those that were read."""

    line: Line
    event: Event
    index: int
    since: Event | None = None
    """Of a retry: the newest event after it, which says what the new attempt is at."""


def newest(lines: Iterable[str]) -> Found | None:
    """The line that best shows a stage's progress: its last one or, in a part with steps, the last step or retry.

    A sentence outside of the parts (where the report is) shows none.
    """
    last = None
    for index, text in reversed(list(enumerate(lines))):
        line = Line.parse(text)
        if line is None or line.event is None or isinstance(line.event, End | Failure):
            continue
        if line.part is None and isinstance(line.event, Note):
            continue
        if isinstance(line.event, Begin):
            break
        found = Found(line, line.event, index)
        if isinstance(line.event, Step):
            return found
        if isinstance(line.event, Retry):
            return dataclasses.replace(found, since=last.event if last else None)
        last = last or found
    return last


def begun(lines: Iterable[str]) -> bool:
    """Whether the stage has said anything."""
    return any(Line.parse(text) for text in lines)


def failure(lines: Iterable[str]) -> str | None:
    """The error that the stage has ended with."""
    found = [line.event.error for text in lines if (line := Line.parse(text)) and isinstance(line.event, Failure)]
    return found[-1] if found else None


def other_version(lines: Iterable[str]) -> int | None:
    """The version of the last line that is not of this version."""
    versions = [line.version for text in lines if (line := Line.parse(text)) and line.version != VERSION]
    return versions[-1] if versions else None
