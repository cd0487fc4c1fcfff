"""The chart as `helm template` renders it, with the pinned helm of `make tools` or the one on PATH.

Each distinct rendering is made once in a test session; what is returned must not be changed.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from pairwise_rm.recipe.load import load_recipe
from pairwise_rm.recipe.model import Recipe
from tests.paths import CHART, REPO

RELEASE = "judge"
STAGES = ("convert", "train", "evaluate", "export")
STAGE_LABEL = "pairwise-rm.io/stage"

Object = dict[str, Any]
Values = dict[str, Any]


def helm() -> str:
    own = REPO / ".tools" / "helm"
    found = str(own) if own.is_file() else shutil.which("helm")
    assert found, "helm is needed; `make tools` installs it into .tools"
    return found


# ---- renderings ----------------------------------------------------------------------------------


def rendered(files: Sequence[Path], values: Values, *options: str) -> dict[str, list[Object]]:
    """Objects by kind. `values` go over `files`; options are helm's."""
    by_kind: dict[str, list[Object]] = {}
    for item in objects(text(files, values, *options)):
        by_kind.setdefault(item["kind"], []).append(item)
    return by_kind


def text(files: Sequence[Path], values: Values, *options: str, release: str = RELEASE) -> str:
    """What `helm template` prints."""
    done = _template(release, tuple(files), json.dumps(values), options)
    assert done.returncode == 0, done.stderr
    return done.stdout


def refusal(values: Values, *options: str, release: str = RELEASE) -> str:
    """What helm says of values that it must refuse, in one line."""
    done = _template(release, (), json.dumps(values), options)
    assert done.returncode != 0, "not refused"
    return re.sub(r"\s+", " ", done.stderr)


@cache
def objects(rendering: str) -> list[Object]:
    return [item for item in yaml.load_all(rendering, Loader=yaml.CSafeLoader) if item]


@cache
def _template(
    release: str, files: tuple[Path, ...], values: str, options: tuple[str, ...]
) -> subprocess.CompletedProcess[str]:
    command = [helm(), "template", release, str(CHART), *(f"--values={file}" for file in files), "--values=-", *options]
    return subprocess.run(command, capture_output=True, text=True, input=values, check=False)


@cache
def loaded(content: str) -> Recipe:
    """A stage's file, as the stage loads it."""
    with tempfile.NamedTemporaryFile("w", suffix=".yaml", encoding="utf-8") as file:
        file.write(content)
        file.flush()
        return load_recipe(file.name)


# ---- finding one's way in a rendering ------------------------------------------------------------

ABSENT = "absent"


def at(items: list[Object], place: str) -> Any:
    """What stands at a place, or ABSENT: `Kind/name` (a RayJob by its stage), then keys, numbers or items' names.

    `RayCluster spec headGroupSpec template spec containers ray-head image`
    A text in which the place goes on is read as YAML, so a place may lead into a file of a ConfigMap.
    """
    which, *keys = place.split()
    kind, _, name = which.partition("/")
    found = [item for item in items if item["kind"] == kind and name in ("", _name_of(item))]
    assert len(found) < 2, f"{which}: several"
    here: Any = found[0] if found else ABSENT
    for key in keys:
        here = _below(yaml.safe_load(here) if isinstance(here, str) and here != ABSENT else here, key)
    return here


def _name_of(item: Object) -> str:
    metadata = item["metadata"]
    return str(metadata["labels"][STAGE_LABEL] if item["kind"] == "RayJob" else metadata["name"])


def _below(here: Any, key: str) -> Any:
    if isinstance(here, dict):
        return here.get(key, ABSENT)
    if isinstance(here, list):
        if key.isdigit():
            return here[int(key)] if int(key) < len(here) else ABSENT
        named = [item for item in here if isinstance(item, dict) and key in (item.get("name"), item.get("groupName"))]
        return named[0] if named else ABSENT
    return ABSENT


def jobs(items: list[Object]) -> dict[str, Object]:
    """RayJobs by stage."""
    return {item["metadata"]["labels"][STAGE_LABEL]: item for item in items if item["kind"] == "RayJob"}


def clusters(items: list[Object]) -> list[Object]:
    """Specs of all RayClusters, the RayJobs' own included."""
    shared = [item["spec"] for item in items if item["kind"] == "RayCluster"]
    own = [job["spec"].get("rayClusterSpec") for job in jobs(items).values()]
    served = [item["spec"]["rayClusterConfig"] for item in items if item["kind"] == "RayService"]
    return [*shared, *filter(None, own), *served]


def pod_specs(value: Any, path: str = "") -> Iterator[tuple[str, Object]]:
    """Every pod spec in a value, with where it stands."""
    if isinstance(value, dict):
        if "containers" in value:
            yield path, value
        for key, below in value.items():
            yield from pod_specs(below, f"{path}/{key}")
    elif isinstance(value, list):
        for index, below in enumerate(value):
            yield from pod_specs(below, f"{path}/{index}")


def nested(settings: dict[str, Any]) -> Values:
    """Values of `{"a.b": 1}`, where a mapping is laid over what is there."""
    values: Values = {}
    for path, setting in settings.items():
        *parents, last = path.split(".")
        here = values
        for parent in parents:
            here = here.setdefault(parent, {})
        here[last] = over(here[last], setting) if isinstance(here.get(last), dict) else setting
    return values


def over(base: Values, values: Values) -> Values:
    """One mapping laid over another, as helm does it."""
    both = {key: value for key, value in base.items() if key not in values}
    for key, value in values.items():
        below = base.get(key)
        both[key] = over(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return both
