"""Layers of an image with their sizes, and the sum: what `make image-gpu` prints at its end.

buildah inspect --type image IMAGE | layers.py
docker history --human=false --no-trunc --format '{{.Size}} {{.CreatedBy}}' IMAGE | layers.py --history
"""

from __future__ import annotations

import json
import re
import sys

WIDTH = 100
# What the builders put before a command, with the build's arguments where there are any.
PREFIX = re.compile(r"^(RUN )?(\|\d+ (\S+=\S* )*)?(/bin/sh -c\s+)?(#\(nop\)\s+)?")
Layer = tuple[int, str]


def from_history(text: str) -> list[Layer]:
    """Docker's history, newest first; what made no layer has size 0."""
    rows = [line.partition(" ") for line in text.splitlines() if line.strip()]
    return [(int(size), command) for size, _, command in reversed(rows) if int(size)]


def from_inspect(text: str) -> list[Layer]:
    """What buildah knows of an image: sizes in its manifest, commands in its history."""
    image = json.loads(text)
    sizes = [layer["size"] for layer in json.loads(image["Manifest"])["layers"]]
    commands = [step.get("created_by", "") for step in image["OCIv1"]["history"] if not step.get("empty_layer")]
    return list(zip(sizes, commands, strict=True))


def table(layers: list[Layer]) -> str:
    rows = [*((size, _short(command)) for size, command in layers), (sum(size for size, _ in layers), "all layers")]
    return "\n".join(f"{size / 1e6:10.1f} MB  {text}" for size, text in rows)


def _short(command: str) -> str:
    text = re.sub(r"\s+", " ", PREFIX.sub("", command)).strip()
    return text if len(text) <= WIDTH else text[: WIDTH - 1] + "…"


if __name__ == "__main__":
    read = from_history if sys.argv[1:] == ["--history"] else from_inspect
    print(table(read(sys.stdin.read())))
