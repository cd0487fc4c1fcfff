"""What the chart makes of a cluster that it can look at, with as much of an API as `lookup` asks.

The same against a real API server: tests/e2e/test_bad_input.py.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.chart.api_server import api_server
from tests.chart.rendering import Object, Values, at, helm
from tests.paths import CHART

Answer = subprocess.CompletedProcess[str]
# Of values-kind.yaml, which asks nothing of the nodes; there is no operator to find.
UNCHECKED: Values = {"checks": {"operator": False, "nodes": False}}
STORAGE = {
    "apiVersion": "storage.k8s.io/v1",
    "kind": "StorageClass",
    "metadata": {"name": "local", "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}},
}
SERVICE = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": {"namespace": "default", "name": "kubernetes"},
    "spec": {"clusterIPs": ["10.96.0.1", "fd00::1"], "ports": [{"port": 443}]},
}


def slice_of(service: str, addresses: list[str] | None, ports: Any) -> Object:
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"namespace": "default", "name": service, "labels": {"kubernetes.io/service-name": service}},
        "addressType": "IPv4",
        "endpoints": None if addresses is None else [{"addresses": addresses}],
        "ports": ports,
    }


@pytest.fixture
def template(tmp_path: Path) -> Callable[..., Answer]:
    """`helm template --dry-run=server` against a cluster with these objects."""

    def run(values: Values, *objects: Object) -> Answer:
        with api_server([STORAGE, SERVICE, *objects], tmp_path) as kubeconfig:
            files = [f"--values={CHART / 'values-kind.yaml'}", "--values=-"]
            options = ["--dry-run=server", "--disable-openapi-validation", f"--kubeconfig={kubeconfig}"]
            command = [helm(), "template", "judge", str(CHART), *options, *files]
            text = yaml.safe_dump({**UNCHECKED, **values})
            return subprocess.run(command, capture_output=True, text=True, input=text, check=False, timeout=60)

    return run


def api_rules(answer: Answer) -> Any:
    """The networks and ports that the head may connect to."""
    assert answer.returncode == 0, answer.stderr
    items = [item for item in yaml.safe_load_all(answer.stdout) if item]
    rules = at(items, "NetworkPolicy/judge-head spec egress")
    return [([peer["ipBlock"]["cidr"] for peer in rule["to"]], [p["port"] for p in rule["ports"]]) for rule in rules]


SERVICE_RULE = (["10.96.0.1/32", "fd00::1/128"], [443])


def test_the_head_may_reach_the_api_s_service_and_what_is_behind_it(template: Callable[..., Answer]) -> None:
    there = slice_of("kubernetes", ["192.0.2.3", "192.0.2.1"], [{"port": 6443}])
    other = slice_of("other", ["192.0.2.9"], [{"port": 1}])
    behind = (["192.0.2.1/32", "192.0.2.3/32"], [6443])
    assert api_rules(template({}, there, other)) == [SERVICE_RULE, behind]


@pytest.mark.parametrize(
    ("addresses", "ports"),
    [([], [{"port": 6443}]), (None, [{"port": 6443}]), (["192.0.2.1"], None)],
    ids=["no address", "no endpoint", "no port"],
)
def test_an_endpoint_slice_that_leads_nowhere_allows_nothing(
    template: Callable[..., Answer], addresses: list[str] | None, ports: Any
) -> None:
    # A rule with an empty `to` would allow any destination.
    assert api_rules(template({}, slice_of("kubernetes", addresses, ports))) == [SERVICE_RULE]


def test_a_cluster_without_an_address_of_the_api_gets_no_rule_for_it(template: Callable[..., Answer]) -> None:
    headless = {**SERVICE, "spec": {"clusterIPs": [], "ports": [{"port": 443}]}}
    assert api_rules(template({}, headless)) == []


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        (
            {"serviceAccount": {"create": False, "name": "cloud"}},
            'serviceAccount.name: namespace default has no service account "cloud"; name one that is there, or set '
            "serviceAccount.create=true",
        ),
        (
            {"head": {"runtimeClassName": "gvisor"}},
            'head.runtimeClassName: this cluster has no RuntimeClass "gvisor"; name one that is there',
        ),
        (
            {"poolDefaults": {"runtimeClassName": "nvidia"}},
            'pools.gpu.runtimeClassName: this cluster has no RuntimeClass "nvidia"',
        ),
    ],
)
def test_what_pods_name_and_the_cluster_lacks_is_refused(
    template: Callable[..., Answer], values: Values, sentence: str
) -> None:
    assert sentence in template(values).stderr


def test_what_pods_name_and_the_cluster_has_is_taken(template: Callable[..., Answer]) -> None:
    values = {"serviceAccount": {"create": False, "name": "cloud"}, "head": {"runtimeClassName": "gvisor"}}
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"namespace": "default", "name": "cloud"}}
    runtime = {"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": {"name": "gvisor"}}
    answer = template(values, account, runtime)
    assert answer.returncode == 0, answer.stderr
