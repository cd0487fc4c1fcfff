"""The health checks of `manifests/gitops`, run for real: Argo CD's Lua in Lua 5.1, Flux's CEL in a CEL interpreter.

Lua gets what Argo CD's own sandbox has, which is no string library. The CEL expressions run in Flux's order:
generation, inProgress, failed, current.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import celpy
import yaml
from celpy.adapter import json_to_cel
from lupa.lua51 import LuaRuntime

from tests.paths import REPO

GITOPS = REPO / "manifests" / "gitops"
Object = dict[str, Any]


def load(name: str) -> Object:
    loaded: Object = yaml.safe_load((GITOPS / name).read_text())
    return loaded


def argo(kind: str, found: Object) -> tuple[str, str]:
    """Argo CD's health status and message of an object."""
    lua = LuaRuntime(register_eval=False, register_builtins=False)
    script = load("argocd/health.yaml")["data"][f"resource.customizations.health.ray.io_{kind}"]
    lua.execute('getmetatable("").__index = nil')
    for name in ("string", "math", "io", "debug", "coroutine", "python"):
        lua.globals()[name] = None
    lua.globals().obj = lua.table_from(found, recursive=True)
    health = lua.execute(script)
    assert set(health.keys()) <= {"status", "message"}
    return health.status, health.message


@cache
def program(expression: str) -> celpy.Runner:
    environment = celpy.Environment()
    return environment.program(environment.compile(expression))


def evaluates(expression: str, found: Object) -> bool:
    return bool(program(expression).evaluate({name: json_to_cel(value) for name, value in found.items()}))


def flux(kind: str, found: Object) -> str:
    """Flux's status of an object: Current, Failed, or InProgress, which is waited for.

    Of an object without a status the expressions fail in Flux, which waits then too.
    """
    [check] = [check for check in load("flux/helmrelease.yaml")["spec"]["healthCheckExprs"] if check["kind"] == kind]
    generation = found["metadata"]["generation"]
    if found.get("status", {}).get("observedGeneration", generation) != generation or "status" not in found:
        return "InProgress"
    for name in ("inProgress", "failed", "current"):
        if name in check and evaluates(check[name], found):
            return name[0].upper() + name[1:]
    return "InProgress"
