"""Why an attempt at training ended, in one line, out of the thousands that verl, vLLM and Ray write.

The first error since the last step counts: what follows it (the other ranks' broken connections, Ray's wrapping) are
its consequences. An error of ours comes before all others, since it was written for the user.
"""

from __future__ import annotations

import re
import signal
from collections.abc import Iterable, Iterator
from typing import Literal, NamedTuple

from pairwise_rm.train.preemption import ASKED

Kind = Literal["final", "asked", "preempted", "memory", "program", "lost", "hung"]
"""`final`: what the run was given cannot work; `asked`: somebody wanted the end; `preempted`: a node goes; `lost`: a
process, a node or a connection went; `program`: any other exception; `memory`: a GPU's or a node's is used up."""

_OURS = "pairwise_rm.errors."
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_PREFIX = re.compile(r"^(?:\([^)]*\)\s*)*(?:ERROR .*?\] )?")
"""What Ray puts before the lines of an actor, and vLLM before its own."""
_ERROR = re.compile(r"^((?:[\w.]+\.)?(?:\w*(?:Error|Exception)|Interrupted|Preempted): .*)$")
_ACTOR_DIED = tuple(f"ray.exceptions.{name}Error" for name in ("ActorDied", "ActorUnavailable", "WorkerCrashed"))
_ENGINE_DEAD = "EngineDeadError: EngineCore encountered an issue"
"""vLLM's word for an engine whose end it does not know the reason of; a reason would stand above it."""
_FIELD = re.compile(r"^(class_name|pid|ip): (.*)$")
_ACTORS_LINES = 16
_MEMORY = re.compile(r"out of memory|OutOfMemory|CUDA error: out of|running low on memory", re.I)
_LOST = re.compile(
    r"\b(?:NCCL|gloo|GCS|raylet|Xid|ECC)\b|Connection (?:closed|reset|refused)|Broken pipe|CUDA error|uncorrectable"
    r"|(?:Connection\w*|EngineDead|NodeDied|RaySystem|Rpc|Disconnected|ClientConnector|ActorDied|ActorUnavailable"
    r"|WorkerCrashed|OwnerDied|ObjectLost)Error|\bUNAVAILABLE\b",
    re.I,
)
_ROLLOUTS = re.compile(r"rollouts of \d+ of \d+ prompts failed")
_RAYS_OUT_OF_MEMORY = re.compile(
    r"Memory on the node \(IP: (?P<ip>[^,]+),.*? was (?P<used>\S+) / (?P<all>\S+) .*?Selected to kill: \(.*?"
    r"task name=(?:[^:,]*:)?(?P<name>[^,]*),.*?pid=(?P<pid>\d+), actual memory used=(?P<its>[^,]+)"
)
"""Ray names every process that it considered, in some thousand characters."""
_LONGEST = 500
"""Characters of a cause; the log that is named beside it has the rest."""
_NODE_LEFT = re.compile(r"node has died|node was terminated|its node|NodeDied", re.I)


class Failure(NamedTuple):
    """`ip`: of the node whose process died, where Ray tells."""

    kind: Kind
    cause: str
    ip: str | None = None


def ended_with(exit_code: int) -> Failure:
    """The failure of a driver whose log tells of none."""
    if exit_code < 0:
        return Failure("lost", f"the driver was ended by {signal.Signals(-exit_code).name}")
    return Failure("program", f"verl ended with exit code {exit_code}")


def failure_in(log: Iterable[str]) -> Failure | None:
    """The failure that these lines of the driver's log tell of."""
    lines = [_PREFIX.sub("", _COLOUR.sub("", line)).strip() for line in log]
    errors = list(_errors(lines))
    for text in errors:
        if text.startswith(_OURS):
            name, _, sentence = text.removeprefix(_OURS).partition(": ")
            return Failure(_kind_of_ours(name, sentence), sentence)
    # Ray wraps an actor's error in its own, so the actor's comes first unless the actor itself is gone.
    own = [text for text in errors if not text.startswith("ray.exceptions.RayTaskError")]
    return next((Failure(_kind_of(text), text, _address(text)) for text in (*own, *errors)), None)


def _address(cause: str) -> str | None:
    match = re.search(r" on (\S+)\) died: ", cause)
    return match and match[1]


def _errors(lines: list[str]) -> Iterator[str]:
    for index, line in enumerate(lines):
        if match := _ERROR.match(line):
            text = match.group(1)
            if text.startswith(_ACTOR_DIED):
                yield _who_died(lines[index + 1 : index + _ACTORS_LINES])
            elif _ENGINE_DEAD in text:
                yield "vLLM's engine died: its process was killed or crashed"
            elif killed := _RAYS_OUT_OF_MEMORY.search(text):
                ended = f"{killed['name'].partition('.')[0]} (pid {killed['pid']}, {killed['its']})"
                used = f"{killed['used']} of {killed['all']} were used"
                yield f"node {killed['ip']} ran out of memory: {used}, and Ray ended {ended}"
            else:
                yield text if len(text) <= _LONGEST else f"{text[:_LONGEST]} …"


def _who_died(block: list[str]) -> str:
    """`WorkerDict (pid 4711 on 10.244.0.9) died: its process was killed or crashed`, from the lines of Ray's error."""
    fields = {match[1]: match[2] for line in block if (match := _FIELD.match(line))}
    text = " ".join(block)
    name = fields.get("class_name", "an actor").rpartition(".")[2]
    where = " on ".join(f"{what}{fields[key]}" for key, what in (("pid", "pid "), ("ip", "")) if key in fields)
    return f"{name}{f' ({where})' if where else ''} died: {_why(text)}"


def _why(text: str) -> str:
    if _MEMORY.search(text):
        return "its node ran out of memory"
    if _NODE_LEFT.search(text):
        reason = re.search(r"(?:reason|message)[:=] *([^.]+)", text)
        return f"its node left{f' ({reason[1].strip()})' if reason else ''}"
    if "connection error code" in text or "SYSTEM_ERROR" in text:
        return "its process was killed or crashed"
    return "Ray does not say why"


def _kind_of_ours(name: str, sentence: str) -> Kind:
    if name == "Preempted":
        return "asked" if ASKED in sentence else "preempted"
    # Rollouts are lost to a reward that raises, or to vLLM's end.
    return "lost" if _ROLLOUTS.search(sentence) and _LOST.search(sentence) else "final"


def _kind_of(text: str) -> Kind:
    if _MEMORY.search(text):
        return "memory"
    return "lost" if " died: " in text or _LOST.search(text) else "program"
