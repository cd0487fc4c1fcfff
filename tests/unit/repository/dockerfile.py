"""A Dockerfile's stages, as far as tests ask what an image made from it is."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field


@dataclass
class Stage:
    base: str
    instructions: list[tuple[str, str]] = field(default_factory=list)

    def every(self, keyword: str) -> list[str]:
        return [value for word, value in self.instructions if word == keyword]

    def copied(self) -> list[str]:
        """What comes from the build's context, not from another stage."""
        return [path for value in self.every("COPY") if not value.startswith("--from=") for path in value.split()[:-1]]


def stages(text: str) -> dict[str, Stage]:
    found: dict[str, Stage] = {}
    lines = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
    for line in lines.replace("\\\n", " ").splitlines():
        word, _, value = line.strip().partition(" ")
        if word == "FROM":
            base, _, name = value.rpartition(" AS ")
            found[name] = Stage(base)
        elif word and found:
            list(found.values())[-1].instructions.append((word, value.strip()))
    return found


def lineage(text: str, name: str) -> list[Stage]:
    """The stage and those it stands on, itself last."""
    found = stages(text)
    made = [found[name]]
    while made[0].base in found:
        made.insert(0, found[made[0].base])
    return made


def effective(text: str, name: str, keyword: str) -> str:
    """The last such instruction of the stage or of what it stands on: the one that holds."""
    values = [value for stage in lineage(text, name) for value in stage.every(keyword)]
    return values[-1] if values else ""


def entrypoint(text: str, name: str) -> list[str]:
    return list(json.loads(effective(text, name, "ENTRYPOINT")))


def apt_packages(stage: Stage) -> set[str]:
    commands = " ".join(stage.every("RUN"))
    listed = re.findall(r"apt-get install ([^&;|]+)", commands)
    return {word for words in listed for word in words.split() if not word.startswith("-")}
