"""Schemas of other projects' objects, made strict: a key that the CRD does not have is an error.

The API server prunes such keys or warns; here a misspelt one fails the test. A CRD's CEL rules are not evaluated, which
the server-side dry run of `tests/e2e` does.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from tests.paths import shared


def schema_file(name: str) -> Path:
    return shared(f"reference/schemas/{name}")


def go_module_file(module: str, name: str) -> Path:
    """A file of a Go module, by way of Go's own cache."""
    if not shutil.which("go"):
        pytest.skip(f"not held to {name} of {module}: go is not installed")
    got = downloaded(module)
    if "Dir" not in got:
        reason = " ".join(got.get("Error", "").split())
        pytest.skip(f"not held to {name} of {module}, which go could not get: {reason[:200]}")
    return Path(got["Dir"]) / name


@cache
def downloaded(module: str) -> dict[str, str]:
    """What `go mod download` says of a module: its Dir, or its Error."""
    command = ["go", "mod", "download", "-json", module]
    done = subprocess.run(command, capture_output=True, text=True, cwd="/", check=False)
    said: dict[str, str] = json.loads(done.stdout or "{}")
    return said if done.returncode == 0 else {"Error": said.get("Error", done.stderr.strip())}


def strict(schema: Any) -> Any:
    """The same schema, in which an object has no keys but those that it lists."""
    if isinstance(schema, list):
        return [strict(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    made = {key: strict(value) for key, value in schema.items()}
    closed = isinstance(schema.get("properties"), dict) and schema.get("type") == "object"
    if closed and "additionalProperties" not in schema and not schema.get("x-kubernetes-preserve-unknown-fields"):
        made["additionalProperties"] = False
    return made


def errors(manifest: dict[str, Any], crd_file: Path) -> list[str]:
    """What is wrong with an object, by the CRD's schema for its version."""
    crd = yaml.safe_load(crd_file.read_text())
    group, version = manifest["apiVersion"].split("/")
    assert (crd["spec"]["group"], crd["spec"]["names"]["kind"]) == (group, manifest["kind"])
    [schema] = [found["schema"] for found in crd["spec"]["versions"] if found["name"] == version and found["served"]]
    validator = jsonschema.Draft202012Validator(strict(schema["openAPIV3Schema"]))
    return [f"{error.json_path}: {error.message}" for error in validator.iter_errors(manifest)]
