"""Releases that are damaged while they run; a table of faults, tries, survivals, lost steps and times to recover.

Needs what `tests/e2e` needs. What stops a part of the cluster itself (the API server, DNS) is only done to a cluster
that the tests have for themselves, which PAIRWISE_RM_CLUSTER_IS_OURS says.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.kube import has_cluster, new_namespace, run
from tests.e2e_chaos import damage
from tests.e2e_chaos.release import Release
from tests.e2e_chaos.survival import report


def pytest_configure() -> None:
    if not has_cluster():
        pytest.exit("chaos tests need a cluster: set KUBECONFIG (`make e2e-chaos` starts one where it can)", 1)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    report(terminalreporter)


@pytest.fixture
def release(request: pytest.FixtureRequest) -> Iterator[Release]:
    """A release in a namespace of its own, not installed yet."""
    name = request.node.originalname.removeprefix("test_").replace("_", "-")[:30].strip("-")
    with new_namespace(f"e2e-chaos-{name}") as namespace:
        yield Release(namespace)
    if damage.OURS:
        _give_back_volumes()


def _give_back_volumes() -> None:
    """Empties the local cluster's few volumes that nobody claims any more: one that was claimed is kept as it is."""
    for volume in json.loads(run("kubectl", "get", "persistentvolumes", "-o", "json"))["items"]:
        if volume["status"]["phase"] == "Released":
            for path in Path(volume["spec"]["hostPath"]["path"]).iterdir():
                shutil.rmtree(path) if path.is_dir() else path.unlink()
            patch = '[{"op": "remove", "path": "/spec/claimRef"}]'
            run("kubectl", "patch", "persistentvolume", volume["metadata"]["name"], "--type=json", "-p", patch)
