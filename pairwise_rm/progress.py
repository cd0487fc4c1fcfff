"""The lines by which a stage tells how it stands: how they are written, and how they are read back.

      step 3/20  reward 0.412  accuracy 0.412  valid 0.980  kl 0.0012  9.1 s  2 min 40 s left
      vLLM loaded, ready to roll out
      judged 120/640 18% (1 min 05 s)
    ▸ train  waiting for GPUs: 8 wanted, 0 there (0:01:00)

The stage prints them on its console. On a cluster that is the submitter pod's log, where `pairwise-rm status`
reads them. Writing and reading stand here together, so that neither can change alone; what cannot be read is None.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

_UNITS = {"h": 3600, "min": 60, "s": 1}
_DURATION = re.compile(r"(\d+) (h|min|s)\b")
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_N = r"(-?(?:[\d.]+|nan|inf))"
_STEP = re.compile(
    rf"\s*step (\d+)/(\d+)  reward {_N}  accuracy {_N}  valid {_N}(?:  kl {_N})?  {_N} s  (\d[^()]*) left\s*"
)
_COUNT = re.compile(r"\s*([a-z][\w -]*) ([\d,]+)/([\d,]+)(?: \d+%)?(?: \(.*\))?\s*")
_WAITING = re.compile(r"(?:▸ \S+  )?waiting for (.+?)(?: \((\d+):(\d\d):(\d\d)\))?\s*")
_NOTE = re.compile(r"  ([^\W\d_].*?)(?: \(\d+ (?:s|min|h)\b[^()]*\))?\s*")
_FOREIGN = re.compile(r"File \"|at 0x")
_FAILURE = re.compile(r"error: (.+)")


def duration(seconds: float) -> str:
    """`8 s`, `3 min 05 s`, `2 h 10 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def seconds_of(text: str) -> float:
    """The seconds that `duration` wrote, to the precision that it kept."""
    return float(sum(int(count) * _UNITS[unit] for count, unit in _DURATION.findall(text)))


@dataclass(frozen=True)
class StepLine:
    """A step of training. `left` is in seconds, as foreseen when the line was written."""

    step: int
    last: int
    reward: float
    accuracy: float
    valid: float
    kl: float | None
    seconds: float
    left: float

    def __str__(self) -> str:
        kl = "" if self.kl is None else f"  kl {self.kl:.4f}"
        return (
            f"step {self.step}/{self.last}  reward {self.reward:.3f}  accuracy {self.accuracy:.3f}"
            f"  valid {self.valid:.3f}{kl}  {self.seconds:.1f} s  {duration(self.left)} left"
        )

    @classmethod
    def parse(cls, line: str) -> StepLine | None:
        if not (found := _STEP.fullmatch(line)):
            return None
        step, last, reward, accuracy, valid, kl, seconds, left = found.groups()
        return cls(
            step=int(step),
            last=int(last),
            reward=float(reward),
            accuracy=float(accuracy),
            valid=float(valid),
            kl=None if kl is None else float(kl),
            seconds=float(seconds),
            left=seconds_of(left),
        )


@dataclass(frozen=True)
class CountLine:
    """Something counted: rows read, pairs judged."""

    what: str
    done: int
    total: int

    def __str__(self) -> str:
        share = f" {100 * self.done // self.total}%" if self.total else ""
        return f"{self.what} {self.done:,}/{self.total:,}{share}"

    @classmethod
    def parse(cls, line: str) -> CountLine | None:
        if not (found := _COUNT.fullmatch(line)):
            return None
        what, done, total = found.groups()
        return cls(what, int(done.replace(",", "")), int(total.replace(",", "")))


@dataclass(frozen=True)
class WaitingLine:
    """A stage that waits: for an earlier stage, for GPUs. It is printed behind the stage's name."""

    what: str
    seconds: float

    def __str__(self) -> str:
        return f"waiting for {self.what} ({clock(self.seconds)})"

    @classmethod
    def parse(cls, line: str) -> WaitingLine | None:
        if not (found := _WAITING.fullmatch(line)):
            return None
        what, *parts = found.groups(default="0")
        hours, minutes, seconds = map(int, parts)
        return cls(what, float(hours * 3600 + minutes * 60 + seconds))


def clock(seconds: float) -> str:
    """`0:02:10`."""
    whole = int(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}"


@dataclass(frozen=True)
class NoteLine:
    """Any other line of a stage, without the time it took: a phase of loading, a result."""

    text: str

    @classmethod
    def parse(cls, line: str) -> NoteLine | None:
        """Only what is indented as a stage's console does it; a traceback's lines are not that."""
        found = _NOTE.fullmatch(line)
        return cls(found[1]) if found and not _FOREIGN.match(found[1]) else None


Line = StepLine | CountLine | WaitingLine | NoteLine


@dataclass(frozen=True)
class Found:
    """A line and its place among those that were read."""

    line: Line
    index: int


def newest(lines: Iterable[str]) -> Found | None:
    """The line that tells best how the stage stands: its last one, or the last step where there are steps."""
    last = None
    for index, text in reversed(list(enumerate(map(plain, lines)))):
        if not text.startswith(("  ", "▸ ")):
            continue
        line = StepLine.parse(text) or WaitingLine.parse(text) or CountLine.parse(text) or NoteLine.parse(text)
        if isinstance(line, StepLine):
            return Found(line, index)
        if line and not last:
            last = Found(line, index)
        if text.startswith("▸ "):
            break  # where this part of the stage begins
    return last


def failure(lines: Iterable[str]) -> str | None:
    """What the command printed as its error: the last line that begins with `error: `."""
    found = [match[1].strip() for line in lines if (match := _FAILURE.fullmatch(plain(line)))]
    return found[-1] if found else None


def plain(line: str) -> str:
    """Without colours and line ends."""
    return _ESCAPES.sub("", line).rstrip("\r\n")
