"""JSON Schemas for kubeconform, which by itself asks the internet for them: Kubernetes' own from its published OpenAPI,
those of CRDs from the CRDs, all at pinned versions by way of Go's module cache, and strict.

Written once into `.cache/` of the repository, under a name that stands for all that they are made of.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from tests.chart.crd_schemas import go_module_file, strict
from tests.paths import REPO, SHARED

KUBERNETES = "k8s.io/kubernetes@v1.34.4"
# The versions that are supported: Go module, and the folder of CRDs of a cluster for tests that has them.
KUBERAY = {
    "1.6": ("github.com/ray-project/kuberay/ray-operator@v1.6.1", "crds"),
    "1.7": ("github.com/ray-project/kuberay/ray-operator@v1.7.0", "crds-1.7"),
}
RAY_KINDS = ("rayclusters", "rayjobs", "rayservices")
# Of the CRDs of others: module, file.
CRDS = [
    (
        "github.com/prometheus-operator/prometheus-operator@v0.92.1",
        "example/prometheus-operator-crd/monitoring.coreos.com_podmonitors.yaml",
    ),
    ("github.com/cilium/cilium@v1.18.4", "pkg/k8s/apis/cilium.io/client/crds/v2/ciliumnetworkpolicies.yaml"),
]
_META = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"
_NUMBER_OR_TEXT = {"type": ["string", "number"]}
# What OpenAPI 2 cannot say and calls a string.
_LOOSE = {
    "io.k8s.apimachinery.pkg.api.resource.Quantity": _NUMBER_OR_TEXT,
    "io.k8s.apimachinery.pkg.util.intstr.IntOrString": _NUMBER_OR_TEXT,
}

Schema = dict[str, Any]


def kubeconform() -> str:
    own = REPO / ".tools" / "kubeconform"
    found = str(own) if own.is_file() else shutil.which("kubeconform")
    assert found, "kubeconform is needed; `make tools` installs it into .tools"
    return found


def checked(folder: Path, kuberay: str) -> tuple[list[str], dict[str, int]]:
    """What is wrong with the manifests of a folder by a version of KubeRay, and kubeconform's count of them."""
    location = f"{schemas(kuberay)}/{{{{.ResourceKind}}}}{{{{.KindSuffix}}}}.json"
    options = ["-strict", "-summary", "-output=json", "-n=2", f"-schema-location={location}"]
    done = subprocess.run([kubeconform(), *options, str(folder)], capture_output=True, text=True, check=False)
    said = json.loads(done.stdout or "{}")
    assert "summary" in said, done.stderr
    wrong = [
        f"{Path(item['filename']).name}: {item['kind']} {item['name']}: {item['msg']}" for item in said["resources"]
    ]
    return wrong, said["summary"]


@cache
def schemas(kuberay: str) -> Path:
    """The folder with a schema for each kind of object, named as kubeconform does it: `rayjob-ray-v1.json`."""
    files = [*(ray_crd_file(kuberay, kind) for kind in RAY_KINDS), *(go_module_file(*crd) for crd in CRDS)]
    key = "".join([KUBERNETES, Path(__file__).read_text(), *(file.read_text() for file in files)])
    folder = REPO / ".cache" / "schemas" / hashlib.sha256(key.encode()).hexdigest()[:12]
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        openapi = json.loads(go_module_file(KUBERNETES, "api/openapi-spec/swagger.json").read_text())
        definitions = {name: _LOOSE.get(name) or strict(schema) for name, schema in openapi["definitions"].items()}
        with tempfile.TemporaryDirectory(dir=folder.parent) as beside:
            made = Path(beside) / "schemas"
            made.mkdir()
            for name, schema in {**of_kubernetes(definitions), **of_crds(files, definitions)}.items():
                (made / f"{name}.json").write_text(json.dumps(schema))
            made.rename(folder)
    return folder


def ray_crd_file(kuberay: str, kind: str) -> Path:
    """From the cluster's own folder where there is one, so that both are held to the same."""
    module, folder = KUBERAY[kuberay]
    local = SHARED / "cluster" / folder / f"ray.io_{kind}.yaml"
    return local if local.is_file() else go_module_file(module, f"config/crd/bases/ray.io_{kind}.yaml")


# ---- Kubernetes' own -----------------------------------------------------------------------------


def of_kubernetes(definitions: dict[str, Schema]) -> dict[str, Schema]:
    made = {}
    for name, definition in definitions.items():
        for kind in definition.get("x-kubernetes-group-version-kind", []):
            if {"apiVersion", "kind", "metadata"} <= set(definition.get("properties", {})):
                made[file_name(**kind)] = with_definitions({"$ref": f"#/definitions/{name}"}, definitions)
    return made


def with_definitions(schema: Schema, definitions: dict[str, Schema]) -> Schema:
    """The schema with just the definitions that it needs."""
    needed: dict[str, Schema] = {}
    waiting = [schema]
    while waiting:
        for name in references(waiting.pop()):
            if name not in needed:
                needed[name] = definitions[name]
                waiting.append(needed[name])
    return {"$schema": "http://json-schema.org/draft-07/schema#", **schema, "definitions": needed}


def references(value: Any) -> list[str]:
    if isinstance(value, list):
        return [name for item in value for name in references(item)]
    if not isinstance(value, dict):
        return []
    own = value.get("$ref")
    found = [own.removeprefix("#/definitions/")] if isinstance(own, str) else []
    return found + [name for item in value.values() for name in references(item)]


# ---- others' -------------------------------------------------------------------------------------


def of_crds(files: list[Path], definitions: dict[str, Schema]) -> dict[str, Schema]:
    made = {}
    for file in files:
        crd = yaml.load(file.read_text(), Loader=yaml.CSafeLoader)["spec"]
        for version in crd["versions"]:
            schema = strict(version["schema"]["openAPIV3Schema"])
            schema["properties"]["metadata"] = {"$ref": f"#/definitions/{_META}"}
            made[file_name(crd["group"], crd["names"]["kind"], version["name"])] = with_definitions(schema, definitions)
    return made


def file_name(group: str, kind: str, version: str) -> str:
    return "-".join(filter(None, [kind, group.split(".")[0], version])).lower()
