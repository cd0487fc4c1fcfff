"""What each rule of the chart's NetworkPolicies is for: without it, one connection that a release needs is gone.

No Ray runs here. Pods with the labels of a release's listen on every port that one has, so that a connection which does
not come about is the enforcer's doing; test_network_policies.py has the ports of a release that runs.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NamedTuple

import pytest
import yaml

from tests.chart.rendering import Values
from tests.e2e.kube import Namespace, new_namespace, run, tool
from tests.e2e_gitops.pairs import IMAGE
from tests.e2e_gitops.reach import HEAD_PORTS, STRANGER_PORTS, Place, Pod, address_of, outward, prober
from tests.paths import CHART

RELEASE = "judge"
OURS = {"app.kubernetes.io/instance": RELEASE, "app.kubernetes.io/part-of": "pairwise-rm"}
PEERS = ("operator", "viewer", "prometheus")
"""Pods of another namespace that the values below let in, each by a label."""
OPERATOR_LABEL = "app.kubernetes.io/name"
"""The one of the real operator, by the chart's default."""
ENFORCED_WITHIN = 20.0


class Connection(NamedTuple):
    by: str
    to: str
    port: int | str


WORKER_JOINS = Connection("worker", "head", 6379)
JOB_IS_SUBMITTED = Connection("submitter", "head", 8265)
OPERATOR_ASKS = Connection("operator", "head", 8265)
OPERATOR_ASKS_SERVE = Connection("operator", "head", 8000)
DASHBOARD_IS_OPENED = Connection("viewer", "head", 8265)
VIEWER_ASKS_SERVE = Connection("viewer", "head", 8000)
HEAD_IS_SCRAPED = Connection("prometheus", "head", 44217)
WORKER_IS_SCRAPED = Connection("prometheus", "worker", 8080)
JUDGE_IS_ASKED = Connection("neighbour", "worker", 8000)
NAME_IS_RESOLVED = Connection("worker", "a name of the cluster", "name")
HUB_IS_ASKED = Connection("worker", "stranger", 443)
EXTRA_IS_ASKED = Connection("worker", "stranger", 53)
AUTOSCALER_ASKS = Connection("head", "Kubernetes API, its address", 0)

Rule = tuple[str, str, int]
NEEDED: dict[Rule, set[Connection]] = {
    ("judge", "ingress", 0): {WORKER_JOINS, JOB_IS_SUBMITTED},
    ("judge", "ingress", 1): {HEAD_IS_SCRAPED, WORKER_IS_SCRAPED},
    ("judge", "ingress", 2): {JUDGE_IS_ASKED},
    ("judge", "egress", 0): {WORKER_JOINS, JOB_IS_SUBMITTED},
    ("judge", "egress", 1): {NAME_IS_RESOLVED},
    ("judge", "egress", 2): {HUB_IS_ASKED},
    ("judge", "egress", 3): {EXTRA_IS_ASKED},
    ("judge-head", "ingress", 0): {OPERATOR_ASKS, OPERATOR_ASKS_SERVE, DASHBOARD_IS_OPENED, VIEWER_ASKS_SERVE},
    ("judge-head", "egress", 0): {AUTOSCALER_ASKS},
}
"""Each rule (policy, direction, index), and what no longer works without it."""
BETWEEN_OWN_PODS = (("judge", "ingress", 0), ("judge", "egress", 0))
CONNECTIONS = sorted(set().union(*NEEDED.values()), key=str)


def values(peers: Namespace, stranger: str, api: list[str]) -> Values:
    """A release that makes use of every rule; the hub is a pod here, since nothing public need be in reach."""

    def peer(label: str) -> dict[str, Any]:
        return {
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": peers.name}},
            "podSelector": {"matchLabels": {"peer": label}},
        }

    extra = {"to": [{"ipBlock": {"cidr": f"{stranger}/32"}}], "ports": [{"protocol": "TCP", "port": STRANGER_PORTS[0]}]}
    return {
        "serve": {"enabled": True},
        "networkPolicy": {
            "ingress": {
                "operator": {"namespace": peers.name, "podLabels": {"peer": "operator", OPERATOR_LABEL: None}},
                "dashboard": [peer("viewer")],
                "metrics": [peer("prometheus")],
            },
            "egress": {"cidrs": [f"{stranger}/32"], "kubernetesApi": api, "extra": [extra]},
        },
    }


@dataclass
class Enforced:
    """The policies in the cluster, and the pods and places between which connections are tried."""

    namespace: Namespace
    policies: dict[str, dict[str, Any]]
    pods: dict[str, Pod]
    places: dict[str, Place]
    """Destinations by name, those that are pods aside."""
    addresses: dict[str, str]

    def opened(self, tried: list[Connection]) -> set[Connection]:
        with ThreadPoolExecutor(4) as pool:
            by = sorted({connection.by for connection in tried})
            found = pool.map(lambda name: self._opened_by(name, [one for one in tried if one.by == name]), by)
            return set().union(*found)

    def _opened_by(self, name: str, tried: list[Connection]) -> set[Connection]:
        seen = self.pods[name].sees([self._place(connection) for connection in tried])
        return {connection for connection, what in zip(tried, seen, strict=True) if what == "open"}

    def _place(self, connection: Connection) -> Place:
        if known := self.places.get(connection.to):
            return known
        return Place(connection.to, self.addresses[connection.to], connection.port)

    def settled(self, tried: list[Connection], expected: set[Connection]) -> set[Connection]:
        """What is open once it is what is expected, or after a while: an enforcer takes a moment."""
        end = time.monotonic() + ENFORCED_WITHIN
        while (found := self.opened(tried)) != expected and time.monotonic() < end:
            time.sleep(0.5)
        return found

    def apply(self, *names: str) -> None:
        documents = yaml.safe_dump_all([self.policies[name] for name in names])
        self.namespace.kubectl("apply", "-f", "-", stdin=documents)

    def remove(self, rule: Rule) -> None:
        """Without a rule between pods of the release, the other direction is let free: kube-router holds the rules of
        both directions in one chain, so that of two pods which one policy selects, either rule counts for both.
        """
        policy, direction, index = rule
        self._patch(policy, {"op": "remove", "path": f"/spec/{direction}/{index}"})
        if rule in BETWEEN_OWN_PODS:
            for name in self.policies:
                self._patch(name, {"op": "replace", "path": "/spec/policyTypes", "value": [direction.capitalize()]})

    def _patch(self, policy: str, change: dict[str, Any]) -> None:
        self.namespace.kubectl("patch", "networkpolicy", policy, "--type=json", f"--patch={json.dumps([change])}")


@pytest.fixture(scope="module")
def enforced() -> Iterator[Enforced]:
    with new_namespace("e2e-policy-rules") as namespace, new_namespace("e2e-policy-peers") as peers:
        # The stranger listens below 1024, as root.
        run("kubectl", "label", "--overwrite", "namespace", peers.name, "pod-security.kubernetes.io/enforce=baseline")
        pods = {pod.what: pod for pod in started(namespace, peers)}
        addresses = {name: address_of(pod) for name, pod in pods.items()}
        places = {place.to: place for place in outward(addresses["stranger"])}
        api = [f"{places[name].host}/32" for name in ("Kubernetes API, its service", "Kubernetes API, its address")]
        policies = rendered_policies(namespace, values(peers, addresses["stranger"], api))
        known = {name: places[name] for name in (NAME_IS_RESOLVED.to, AUTOSCALER_ASKS.to)}
        this = Enforced(namespace, policies, pods, known, addresses)
        this.apply(*policies)
        to_head = Connection("stranger", "head", 6379)
        if this.settled([to_head], set()):
            pytest.skip("nothing enforces NetworkPolicies in this cluster")
        yield this


def started(namespace: Namespace, peers: Namespace) -> list[Pod]:
    """The pods of a release, one beside them, and those of another namespace, all ready."""
    node_type = "ray.io/node-type"
    labels: dict[str, dict[str, str]] = {
        "head": OURS | {node_type: "head"},
        "worker": OURS | {node_type: "worker"},
        "submitter": OURS,
        "neighbour": {},
        "impostor": {"peer": "operator"},
        **{peer: {"peer": peer} for peer in PEERS},
        "stranger": OURS,
    }
    pods = []
    for name, of_pod in labels.items():
        where = peers if name in PEERS or name == "stranger" else namespace
        stranger = name == "stranger"
        made = prober(name, of_pod, IMAGE, listens=STRANGER_PORTS if stranger else tuple(HEAD_PORTS), root=stranger)
        where.kubectl("apply", "-f", "-", stdin=json.dumps(made))
        pods.append(Pod(name, where, name, "reach"))
    for pod in pods:
        pod.namespace.kubectl("wait", "--for=condition=Ready", f"pod/{pod.name}", "--timeout=120s")
    return pods


def rendered_policies(namespace: Namespace, settings: Values) -> dict[str, dict[str, Any]]:
    shown = run(
        *(tool("helm"), "template", RELEASE, str(CHART), "--namespace", namespace.name, "--values=-"),
        *(f"--values={CHART / 'values-kind.yaml'}", "--show-only=templates/networkpolicies.yaml"),
        stdin=yaml.safe_dump(settings),
    )
    return {one["metadata"]["name"]: one for one in yaml.safe_load_all(shown) if one["kind"] == "NetworkPolicy"}


def every_connection(by: tuple[str, ...], to: tuple[str, ...]) -> list[Connection]:
    return [Connection(source, target, port) for source in by for target in to for port in HEAD_PORTS]


def test_every_rule_is_in_the_table(enforced: Enforced) -> None:
    found = {
        (name, direction, index)
        for name, policy in enforced.policies.items()
        for direction in ("ingress", "egress")
        for index in range(len(policy["spec"][direction]))
    }
    assert found == set(NEEDED)


def test_all_that_a_release_needs_goes_through(enforced: Enforced) -> None:
    assert enforced.settled(CONNECTIONS, set(CONNECTIONS)) == set(CONNECTIONS)


@pytest.mark.parametrize("rule", NEEDED, ids=lambda rule: " ".join(map(str, rule)))
def test_a_rule_that_is_removed_takes_away_what_it_is_for_and_nothing_else(enforced: Enforced, rule: Rule) -> None:
    left = set(CONNECTIONS) - NEEDED[rule]
    enforced.remove(rule)
    try:
        assert enforced.settled(CONNECTIONS, left) == left
    finally:
        enforced.apply(*enforced.policies)
    assert enforced.settled(CONNECTIONS, set(CONNECTIONS)) == set(CONNECTIONS)


def test_who_is_no_peer_reaches_nothing_and_a_peer_only_its_ports(enforced: Enforced) -> None:
    # Dashboard and job submission (8265), GCS (6379), Ray client (10001) and the rest, of the head and of a worker.
    tried = every_connection(("stranger", "neighbour", "impostor", *PEERS), ("head", "worker"))
    inside = {Connection(pod, to, 8000) for pod in ("neighbour", "impostor") for to in ("head", "worker")}
    dashboard = {Connection(peer, "head", port) for peer in ("operator", "viewer") for port in (8265, 8000)}
    metrics = {Connection("prometheus", to, port) for to in ("head", "worker") for port in (8080, 44217, 44227)}
    expected = inside | dashboard | metrics
    assert enforced.settled(tried, expected) == expected


def test_without_the_policies_a_stranger_reaches_everything(enforced: Enforced) -> None:
    tried = every_connection(("stranger", "neighbour"), ("head", "worker"))
    enforced.namespace.kubectl("delete", "networkpolicy", *enforced.policies)
    try:
        assert enforced.settled(tried, set(tried)) == set(tried)
    finally:
        enforced.apply(*enforced.policies)
