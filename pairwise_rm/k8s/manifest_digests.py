"""Checks rendered manifests: each digest that a RayJob names must be that of a recipe in a ConfigMap.

Helm computes the digests when it renders. A recipe that is changed afterwards, by a kustomize patch for example, keeps
the old digests, and the later stages would wait for a run that never comes.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import yaml

from pairwise_rm.errors import InputError
from pairwise_rm.k8s.objects import INSTANCE, RAY_CLUSTER, STAGE, Object
from pairwise_rm.recipe.load import digest_of

DIGEST = "pairwise-rm.io/digest"

Release = tuple[str, str]
"""Namespace and name."""


@dataclass(frozen=True)
class Checked:
    """`wrong`: a line for each wrong digest. `missing`: stages that a RayJob waits for and none
    of the manifests runs.
    """

    jobs: int
    wrong: list[str]
    missing: list[str]


@dataclass(frozen=True)
class _Command:
    """A `pairwise-rm stage` of an entrypoint."""

    stage: str
    recipe: PurePosixPath
    digest: str | None
    after: list[str]


@dataclass(frozen=True)
class _Recipe:
    """A stage's recipe file, as a RayJob mounts it."""

    digest: str
    where: str


class _Absent(Exception):
    """Something that a RayJob reads is not in the manifests."""


def check_digests(text: str, source: str) -> Checked:
    """Checks all RayJobs of `text` against the recipes in it. Raises InputError where `source` has no such RayJob."""
    objects = _objects(text, source)
    jobs = [job for job in objects if job.get("kind") == "RayJob" and _labels(job).get(STAGE)]
    if not jobs:
        raise InputError(f"{source}: no RayJob of pairwise-rm in it; expected what helm template or kustomize prints")
    runs = [(job, command) for job in jobs for command in _commands(job)]
    recipes: dict[tuple[Release, str], list[_Recipe]] = {}
    wrong: list[str] = []
    for job, command in runs:
        try:
            recipe = _recipe(job, command, objects)
        except _Absent as error:
            wrong.append(f"{_name(job)}: {error}")
        else:
            recipes.setdefault((_release(job), command.stage), []).append(recipe)
            wrong += _own(job, command, recipe)
    missing = set()
    for job, awaited in ((job, text) for job, command in runs for text in command.after):
        stage, _, digest = awaited.partition("=")
        made = recipes.get((_release(job), stage), [])
        if digest and not made:
            missing.add(stage)
        elif digest and digest not in [recipe.digest for recipe in made]:
            wrong.append(_line(job, f"spec.entrypoint --after {stage}", digest, made[-1]))
    return Checked(len(jobs), wrong, sorted(missing))


def _own(job: Object, command: _Command, recipe: _Recipe) -> Iterator[str]:
    """The digests of a RayJob's own recipe that are wrong."""
    if command.digest not in (None, recipe.digest):
        yield _line(job, f"spec.entrypoint --digest of {command.stage}", command.digest, recipe)
    noted = _at(job, "metadata", "annotations", DIGEST)
    if command.stage == _labels(job)[STAGE] and noted != recipe.digest:
        yield _line(job, f"metadata.annotations {DIGEST}", noted, recipe)


def _line(job: Object, key: str, found: str | None, recipe: _Recipe) -> str:
    return f"{_name(job)}: {key} is {found or 'not there'}, should be {recipe.digest} ({recipe.where})"


# ---- reading manifests ---------------------------------------------------------------------------


def _objects(text: str, source: str) -> list[Object]:
    try:
        documents = list(yaml.safe_load_all(text))
    except yaml.YAMLError as error:
        raise InputError(f"{source}: not valid YAML: {' '.join(str(error).split())}") from error
    found: list[Object] = []
    for document in documents:
        held = document.get("items") if isinstance(document, dict) and document.get("kind") == "List" else [document]
        found += [item for item in held or [] if item]
    if not all(isinstance(item, dict) for item in found):
        raise InputError(f"{source}: expected Kubernetes objects")
    return found


def _at(item: Any, *keys: str) -> Any:
    """What stands at a path of keys, or None."""
    for key in keys:
        item = item.get(key) if isinstance(item, dict) else None
    return item


def _commands(job: Object) -> list[_Command]:
    """The stages that a RayJob runs: one, or several in a shell."""
    words = _words(_at(job, "spec", "entrypoint"))
    if words[:2] == ["bash", "-c"] and len(words) == 3:
        words = _words(words[2])
    commands: list[list[str]] = [[]]
    for word in words:
        if word == "&&":
            commands.append([])
        else:
            commands[-1].append(word)
    return [_command(command[2:]) for command in commands if command[:2] == ["pairwise-rm", "stage"] and command[2:]]


def _words(entrypoint: Any) -> list[str]:
    try:
        return shlex.split(str(entrypoint or ""))
    except ValueError:  # an unclosed quotation mark: not a command of ours
        return []


def _command(words: list[str]) -> _Command:
    pairs = list(zip(words[1::2], words[2::2], strict=False))
    options, after = dict(pairs), [value for option, value in pairs if option == "--after"]
    recipe = PurePosixPath(options.get("--recipe", f"{words[0]}.yaml"))
    return _Command(words[0], recipe, options.get("--digest"), after)


def _recipe(job: Object, command: _Command, objects: list[Object]) -> _Recipe:
    """The recipe that a command reads. Raises _Absent with what is not there."""
    cluster = _at(job, "spec", "rayClusterSpec")
    if cluster is None:
        cluster = _find(objects, "RayCluster", _at(job, "spec", "clusterSelector", RAY_CLUSTER), job).get("spec")
    name = _mounted(_at(cluster, "headGroupSpec", "template", "spec"), str(command.recipe.parent))
    content = _at(_find(objects, "ConfigMap", name, job), "data", command.recipe.name)
    if not isinstance(content, str):
        raise _Absent(f"its ConfigMap {name} has no {command.recipe.name}")
    return _Recipe(digest_of(content.encode()), f"ConfigMap {name}, data.{command.recipe.name}")


def _find(objects: list[Object], kind: str, name: str | None, job: Object) -> Object:
    for item in objects:
        if (item.get("kind"), _at(item, "metadata", "name"), _namespace(item)) == (kind, name, _namespace(job)):
            return item
    raise _Absent(f"its {kind} {name} is not among these manifests")


def _mounted(pod: Any, folder: str) -> str | None:
    """The ConfigMap that a pod has at a folder."""
    mounts = [mount for container in _at(pod, "containers") or [] for mount in _at(container, "volumeMounts") or []]
    volumes = {_at(mount, "name") for mount in mounts if _at(mount, "mountPath") == folder}
    names = [_at(volume, "configMap", "name") for volume in _at(pod, "volumes") or [] if _at(volume, "name") in volumes]
    return next(iter(names), None)


def _labels(item: Object) -> dict[str, str]:
    return _at(item, "metadata", "labels") or {}


def _namespace(item: Object) -> str:
    return _at(item, "metadata", "namespace") or ""


def _release(job: Object) -> Release:
    return _namespace(job), _labels(job).get(INSTANCE, "")


def _name(item: Object) -> str:
    return f"{item['kind']} {_at(item, 'metadata', 'name')}"
