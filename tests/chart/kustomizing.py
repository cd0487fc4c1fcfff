"""What kustomize builds of `manifests/`, without kubectl: resources, and JSON patches of objects by kind and name."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import yaml

Object = dict[str, Any]


def built(folder: Path) -> list[Object]:
    """The objects of a kustomization, in its order."""
    made = yaml.safe_load((folder / "kustomization.yaml").read_text())
    assert set(made) <= {"apiVersion", "kind", "resources", "patches"}
    found: list[Object] = []
    for resource in made["resources"]:
        path = folder / resource
        found += built(path) if path.is_dir() else yaml.safe_load_all(path.read_text())
    for patch in made.get("patches", []):
        target = (patch["target"]["kind"], patch["target"]["name"])
        [at] = [at for at, item in enumerate(found) if (item["kind"], item["metadata"]["name"]) == target]
        found[at] = patched(found[at], yaml.safe_load((folder / patch["path"]).read_text()))
    return found


def patched(item: Object, operations: list[Object]) -> Object:
    item = copy.deepcopy(item)
    for operation in operations:
        *parents, last = [part.replace("~1", "/").replace("~0", "~") for part in operation["path"].split("/")[1:]]
        here: Any = item
        for part in parents:
            here = here[int(part)] if isinstance(here, list) else here[part]
        key: Any = int(last) if isinstance(here, list) else last
        if operation["op"] == "remove":
            del here[key]
        else:
            here[key] = operation["value"]
    return item
