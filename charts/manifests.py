"""Renders manifests/ from the chart, for users without Helm: `make manifests`.

Each rayjob-*.yaml is a RayJob with a cluster of its own and the ConfigMap with its recipe; with storage.yaml it runs
on a cluster that has KubeRay and nothing of ours. The overlays are JSON patches from one rendering to another, so a
base that is applied through an overlay equals what the chart renders with that overlay's values.
"""

from __future__ import annotations

import re
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parent.parent
CHART = ROOT / "charts" / "pairwise-rm"
MANIFESTS = ROOT / "manifests"
RELEASE = "pairwise-rm"

Object = dict[str, Any]
Values = dict[str, Any]

# Common to all manifests: no service accounts to apply first, any node with GPUs.
_BASE: Values = {
    "serviceAccount": {"create": False},
    "head": {"gpuNodes": "avoid"},
    "poolDefaults": {"platform": "none", "gpuProduct": "none"},
}
# An overlay's preset, and the values that override it.
_OVERLAYS: dict[str, tuple[str, Values]] = {
    "kind": ("values-kind.yaml", {}),
    "a100": (
        "values-a100-8x.yaml",
        {"head": {"gpuNodes": "forbid"}, "poolDefaults": {"platform": "gpu-operator", "gpuProduct": "a100-80gb"}},
    ),
}
_ALONE: Values = {"mode": "ephemeral", "stages": {"convert": {"enabled": False}, "train": {"first": ["convert"]}}}
_VALUES = MANIFESTS / "helm" / "values.yaml"

_KUSTOMIZATION = {"apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization"}

# A file's rendering, the objects that it takes from it, and its heading.
_FILES: dict[str, tuple[Values, str, str]] = {
    "storage.yaml": ({}, "PersistentVolumeClaim", "The claims that every RayJob and the RayCluster mount."),
    "networkpolicy.yaml": ({}, "NetworkPolicy", "Denies the pods all traffic but what they need."),
    "raycluster.yaml": (
        {"stages": {name: {"enabled": False} for name in ("convert", "train", "evaluate", "export")}},
        "RayCluster ConfigMap",
        "A RayCluster without RayJobs, to run stages on by hand. Apply storage.yaml first.",
    ),
    "rayjob-convert.yaml": (
        {"mode": "ephemeral"},
        "convert",
        "Converts the pairs, on a head alone. Apply storage.yaml first.",
    ),
    "rayjob-train.yaml": (
        _ALONE,
        "train",
        "Converts the pairs where that is not done yet, then trains. Apply storage.yaml first.",
    ),
    "rayjob-evaluate.yaml": (
        _ALONE,
        "evaluate",
        "Evaluates the judge that rayjob-train.yaml trains; waits for it without a GPU.",
    ),
    "rayjob-export.yaml": (
        {**_ALONE, "stages": {**_ALONE["stages"], "evaluate": {"enabled": False}}},
        "export",
        "Exports the judge that rayjob-train.yaml trains; waits for it without a GPU.",
    ),
}
# Those that run together: train converts, so convert's own RayJob is not among them.
_BASE_FILES = ["storage.yaml", "networkpolicy.yaml", "rayjob-train.yaml", "rayjob-evaluate.yaml", "rayjob-export.yaml"]


# ---- rendering -----------------------------------------------------------------------------------


def render(values: Values) -> list[Object]:
    """The chart's objects without what Helm adds. Raises RuntimeError with Helm's message."""
    return [_plain(item) for item in yaml.load_all(_template(yaml.safe_dump(values)), yaml.CSafeLoader) if item]


@cache
def _template(values: str) -> str:
    command = [str(ROOT / ".tools" / "helm"), "template", RELEASE, str(CHART), "--skip-tests", "--values", "-"]
    done = subprocess.run(command, input=values, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr.strip())
    return done.stdout


def _plain(item: Object) -> Object:
    metadata = item["metadata"]
    metadata.pop("namespace", None)
    for key in ("helm.sh/chart", "app.kubernetes.io/managed-by"):
        metadata["labels"].pop(key, None)
    metadata.get("annotations", {}).pop("helm.sh/resource-policy", None)
    if not metadata.get("annotations", True):
        del metadata["annotations"]
    return item


def _over(base: Values, over: Values) -> Values:
    merged = dict(base)
    for key, value in over.items():
        below = merged.get(key)
        merged[key] = _over(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return merged


def objects(name: str, overlay: str | None = None) -> list[Object]:
    """The objects of a file, as the base or an overlay has them."""
    own, wanted, _ = _FILES[name]
    values = _BASE
    if overlay:
        preset, over = _OVERLAYS[overlay]
        values = _over(_over(values, yaml.safe_load((CHART / preset).read_text(encoding="utf-8"))), over)
    stage = "pairwise-rm.io/stage"
    return [
        item
        for item in render(_over(values, own))
        if item["kind"] in wanted.split() or item["metadata"]["labels"].get(stage) == wanted
    ]


# ---- writing -------------------------------------------------------------------------------------


class _Dumper(yaml.SafeDumper):
    """Text of several lines as a block, lists indented as kubectl's users write them."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)


_LIKE_A_NUMBER = re.compile(r"[-+]?[0-9_]*\.?[0-9]+(?:[eE][-+]?[0-9]+)?")
"""What YAML 1.2 takes for one, and PyYAML, which follows 1.1, would not quote: 03187184, 1234e567."""


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = "|" if "\n" in text else "'" if _LIKE_A_NUMBER.fullmatch(text) else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _text)
_Dumper.ignore_aliases = lambda *_: True  # type: ignore[method-assign]


def dump(*items: Any) -> str:
    return yaml.dump_all(items, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=1000)


def _note(text: str) -> str:
    return f"# {text}\n# Rendered from charts/pairwise-rm by `make manifests`.\n"


def written() -> dict[Path, str]:
    """Every file below manifests/ that is rendered, with its content."""
    base = {name: objects(name) for name in _FILES}
    files = {MANIFESTS / name: _note(_FILES[name][2]) + dump(*items) for name, items in base.items()}
    before = [item for name in _BASE_FILES for item in base[name]]
    note = _note("From pairs to a judge, each RayJob with a cluster of its own: kubectl apply -k manifests/base")
    # Kustomize allows a base neither files outside of its folder nor its overlays inside, hence the second copy.
    files[MANIFESTS / "base" / "pairwise-rm.yaml"] = _note(f"{', '.join(_BASE_FILES)} as one.") + dump(*before)
    files[MANIFESTS / "base" / "kustomization.yaml"] = note + dump(
        {**_KUSTOMIZATION, "resources": ["pairwise-rm.yaml"]}
    )
    note = _note("What base/ is rendered with, for `helm template` with a recipe of your own: see README.md.")
    files[_VALUES] = note + dump(_over(_BASE, _ALONE))
    for overlay, (preset, _) in _OVERLAYS.items():
        after = [item for name in _BASE_FILES for item in objects(name, overlay)]
        files |= _overlay(MANIFESTS / "overlays" / overlay, before, after, preset)
    return files


def _overlay(folder: Path, before: list[Object], after: list[Object], preset: str) -> dict[Path, str]:
    files, patches = {}, []
    for old, new in zip(before, after, strict=True):
        kind, name, labels = old["kind"], old["metadata"]["name"], old["metadata"]["labels"]
        if operations := patch(old, new):
            file = f"{kind}-{labels.get('pairwise-rm.io/stage', name)}.yaml".lower()
            files[folder / file] = _note(f"{kind} {name}, as {preset} has it.") + dump(operations)
            target = {"kind": kind, "name": name}
            patches.append({"path": file, "target": target, "options": {"allowNameChange": True}})
    note = _note(f"kubectl apply -k manifests/overlays/{folder.name}")
    kustomization = {**_KUSTOMIZATION, "resources": ["../../base"], "patches": patches}
    return {**files, folder / "kustomization.yaml": note + dump(kustomization)}


def patch(before: Any, after: Any, path: str = "") -> list[Object]:
    """JSON patch (RFC 6902) that makes one value the other. Lists of one length are patched item by item."""
    if before == after:
        return []
    if isinstance(before, dict) and isinstance(after, dict):
        operations = []
        for key in [*before, *(key for key in after if key not in before)]:
            below = f"{path}/{str(key).replace('~', '~0').replace('/', '~1')}"
            if key not in after:
                operations.append({"op": "remove", "path": below})
            elif key not in before:
                operations.append({"op": "add", "path": below, "value": after[key]})
            else:
                operations += patch(before[key], after[key], below)
        return operations
    if isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        return [
            operation
            for at, pair in enumerate(zip(before, after, strict=True))
            for operation in patch(*pair, f"{path}/{at}")
        ]
    return [{"op": "replace", "path": path, "value": after}]


def main(check: bool) -> int:
    """Writes them; with `check` only lists those that differ, and returns 1 if any does."""
    files = written()
    ours = [
        path for part in ("*.yaml", "base/*.yaml", "helm/*.yaml", "overlays/*/*.yaml") for path in MANIFESTS.glob(part)
    ]
    stale = set(ours) - set(files)
    differing = [path for path, text in files.items() if not path.is_file() or path.read_text(encoding="utf-8") != text]
    for path in sorted({*stale, *differing}):
        if check:
            print(f"{path}: differs from the chart; run `make manifests`")
        elif path in stale:
            path.unlink()
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(files[path], encoding="utf-8")
    return int(check and bool(stale or differing))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:] == ["--check"]))
