"""Why vLLM failed, in one line.

With several processes vLLM raises "Engine core initialization failed. See root cause above.": the cause is in the log:
the last line that names an exception and is not such a wrapper.
"""

from __future__ import annotations

import re

_WRAPPERS = (
    "Engine core initialization failed",
    "WorkerProc initialization failed",
    "Executor failed",
    "EngineCore encountered an issue",
    "EngineDeadError",
    "cancelled",
    "SystemExit",
    "KeyboardInterrupt",
)
_EXCEPTION = re.compile(r"(?:^|\s)((?:[A-Za-z_]\w*\.)*[A-Z]\w*(?:Error|Exception|Failure)): (\S.*)$")
_DEATH = ("memory", "killed", "exit", "died", "unexpected")
_NODE_DIED = "its node has died"
_KILLED = "connection error code 2"
"""Ray's words for a process whose end it was not told of. It adds a list of guesses."""
_LONGEST = 400


class EngineFailure(Exception):
    """Raised inside the actor; its text is the one line for the user."""


def meaningful_line(error: BaseException, log: str = "") -> str:
    """The error's own text, or the cause found in the log where the text only points there."""
    text = " ".join(str(error).split())
    if text and not any(wrapper in text for wrapper in _WRAPPERS):
        return _short(f"{type(error).__name__}: {text}")
    return cause_in(log) or _short(text or type(error).__name__)


def cause_in(log: str) -> str | None:
    """The last line of a log that names an exception and is not a wrapper."""
    for line in reversed(log.splitlines()):
        found = _EXCEPTION.search(line)
        if found and not any(wrapper in line for wrapper in _WRAPPERS):
            return _short(f"{found.group(1)}: {found.group(2)}")
    return None


def cause_of(error: BaseException) -> str:
    """One line for an error that `ray.get` raised: our own failure's text, or why the actor died."""
    cause = getattr(error, "cause", None)
    if isinstance(cause, EngineFailure):
        return str(cause)
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    for line in reversed(lines):
        found = _EXCEPTION.search(line)
        if found:
            name, text = found.groups()
            return _short(text if name.endswith(EngineFailure.__name__) else f"{name}: {text}")
    if type(error).__name__ in ("ActorDiedError", "RayActorError", "OutOfMemoryError"):
        if any(_KILLED in line for line in lines):
            return "the engine's process was killed; a lack of memory is the usual cause"
        telling = [line for line in lines[1:] if any(word in line.lower() for word in _DEATH)]
        return _short(f"the engine's process died: {(telling or lines or ['no reason given'])[0]}")
    return _short(lines[0] if lines else type(error).__name__)


def is_of_node(error: BaseException) -> bool:
    """Whether an actor ended because its node has left, by what Ray says."""
    return bool(getattr(error, "preempted", False)) or _NODE_DIED in str(error)


def _short(line: str) -> str:
    return line if len(line) <= _LONGEST else line[: _LONGEST - 1] + "…"
