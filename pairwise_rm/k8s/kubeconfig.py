"""Which cluster: the kubeconfig that KUBECONFIG names, or ~/.kube/config, or inside a pod its service account."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pairwise_rm.errors import InputError

_DEFAULT = "~/.kube/config"
_POD_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


@dataclass(frozen=True)
class Target:
    """A namespace of a cluster, and the file and context that chose it."""

    source: str
    context: str | None
    server: str
    namespace: str

    def __str__(self) -> str:
        return f"{self.server} ({f'context {self.context} of ' if self.context else ''}{self.source})"


def connect(context: str | None, namespace: str | None) -> tuple[Any, Target]:
    """The client's Configuration and its target; nothing is sent yet.

    Raises InputError, naming the file and the context.
    """
    from kubernetes import config
    from kubernetes.client import Configuration

    settings = Configuration()
    # Commands retry by themselves where that makes sense; a wrong address must be reported at once.
    settings.retries = False
    files = os.environ.get("KUBECONFIG") or _DEFAULT
    there = [path for path in files.split(os.pathsep) if path and Path(path).expanduser().is_file()]
    if not there:
        if not context and not os.environ.get("KUBECONFIG") and _POD_NAMESPACE.is_file():
            config.load_incluster_config(client_configuration=settings)
            own = _POD_NAMESPACE.read_text(encoding="utf-8").strip()
            return settings, Target("this pod's account", None, settings.host, namespace or own)
        named = " (named by KUBECONFIG)" if os.environ.get("KUBECONFIG") else ""
        raise InputError(f"no kubeconfig: {files}{named}: no such file; set KUBECONFIG to the file of your cluster")
    chosen = _context(files, context)
    try:
        config.load_kube_config(files, chosen["name"], settings, persist_config=False)
    except (config.ConfigException, OSError) as error:
        raise InputError(f"{files}: context {chosen['name']}: {_line(error)}") from error
    own = chosen.get("context", {}).get("namespace") or "default"
    return settings, Target(files, chosen["name"], settings.host, namespace or own)


def _context(files: str, wanted: str | None) -> dict[str, Any]:
    import yaml
    from kubernetes import config

    try:
        contexts, current = config.list_kube_config_contexts(files)
    except (config.ConfigException, OSError, yaml.YAMLError, AttributeError, TypeError) as error:
        if not wanted and ("current-context" in str(error) or "contexts list" in str(error)):
            text = f"{files}: no current context that it has; give --context, or `kubectl config use-context`"
            raise InputError(text) from error
        raise InputError(f"{files}: not a kubeconfig: {_line(error)}") from error
    if not wanted:
        return dict(current)
    for context in contexts:
        if context["name"] == wanted:
            return dict(context)
    known = ", ".join(sorted(context["name"] for context in contexts))
    raise InputError(f"--context {wanted}: {files} has no such context; it has {known}")


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())
