"""What the NetworkPolicies let in and out; that enforcers keep to it is seen by tests/e2e_gitops."""

from __future__ import annotations

import copy
import ipaddress

import pytest

from tests.chart.crd_schemas import errors, go_module_file
from tests.chart.kube_schemas import CRDS
from tests.chart.rendering import Object, Values, nested, rendered

PRIVATE = ("10.0.0.0/8", "100.64.0.0/10", "169.254.0.0/16", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7", "fe80::/10")
HTTPS = [{"protocol": "TCP", "port": 443}]


def policies(settings: Values) -> dict[str, Object]:
    return {policy["metadata"]["name"]: policy["spec"] for policy in rendered([], nested(settings))["NetworkPolicy"]}


def https(settings: Values) -> list[Object]:
    """The networks that pods reach on 443."""
    [rule] = [rule for rule in policies(settings)["judge"]["egress"] if rule.get("ports") == HTTPS]
    return [peer["ipBlock"] for peer in rule["to"]]


def test_https_leaves_private_networks_out() -> None:
    everything = {ipaddress.ip_network(block["cidr"]): block["except"] for block in https({})}
    assert sorted(network.prefixlen for network in everything) == [0, 0]
    assert sorted(network for left_out in everything.values() for network in left_out) == sorted(PRIVATE)
    for network, left_out in everything.items():
        assert all(ipaddress.ip_network(one).version == network.version for one in left_out)


def test_a_network_that_is_named_is_meant_as_it_is() -> None:
    named = {"networkPolicy.egress.cidrs": ["10.1.0.0/16", "0.0.0.0/0"]}
    assert https(named)[0] == {"cidr": "10.1.0.0/16"}
    assert "10.0.0.0/8" in https(named)[1]["except"]


def test_no_network_is_not_any_network() -> None:
    # A rule with an empty `to` would allow any destination.
    rules = policies({"networkPolicy.egress.cidrs": []})["judge"]["egress"]
    assert [rule for rule in rules if rule.get("ports") == HTTPS] == []
    assert all(rule["to"] for rule in rules)


def test_an_operator_of_any_namespace_is_a_wish_that_has_to_be_said() -> None:
    def operator(settings: Values) -> Object:
        selector: Object = policies(settings)["judge-head"]["ingress"][0]["from"][0]["namespaceSelector"]
        return selector

    assert operator({}) == {"matchLabels": {"kubernetes.io/metadata.name": "kuberay-operator"}}
    assert operator({"networkPolicy.ingress.operator.namespace": ""}) == {}


def test_names_are_asked_of_the_cluster_s_dns_alone() -> None:
    [dns] = [
        rule for rule in policies({})["judge"]["egress"] if {"protocol": "UDP", "port": 53} in rule.get("ports", [])
    ]
    [pods, node_local] = dns["to"]
    assert pods["namespaceSelector"] == {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}}
    assert node_local["ipBlock"]["cidr"] == "169.254.20.10/32"


CILIUM = "--api-versions=cilium.io/v2/CiliumNetworkPolicy"


def of_cilium(settings: Values, *options: str) -> list[Object]:
    return rendered([], nested(settings), *options).get("CiliumNetworkPolicy", [])


@pytest.mark.parametrize(("settings", "options"), [({}, [CILIUM]), ({"networkPolicy.egress.cilium": True}, [])])
def test_where_cilium_is_the_autoscaler_reaches_the_api_by_its_identity(settings: Values, options: list[str]) -> None:
    [policy] = of_cilium(settings, *options)
    assert policy["metadata"]["name"] == "judge-kubernetes-api"
    assert policy["spec"]["endpointSelector"] == policies(settings)["judge-head"]["podSelector"]
    [rule] = policy["spec"]["egress"]
    assert rule["toEntities"] == ["kube-apiserver"]
    assert rule["toPorts"] == [{"ports": [{"port": port, "protocol": "TCP"} for port in ("443", "6443")]}]


@pytest.mark.parametrize(
    ("settings", "options"),
    [({}, []), ({"autoscaling.enabled": False}, [CILIUM]), ({"networkPolicy.enabled": False}, [CILIUM])],
    ids=["no Cilium", "nobody asks the API", "no policies"],
)
def test_there_is_no_policy_of_cilium_that_nobody_needs(settings: Values, options: list[str]) -> None:
    assert of_cilium(settings, *options) == []


def test_a_policy_of_cilium_holds_to_its_schema_and_an_entity_that_it_does_not_know_does_not() -> None:
    [policy] = of_cilium({}, CILIUM)
    crd = go_module_file(*next(found for found in CRDS if "ciliumnetworkpolicies" in found[1]))
    assert errors(policy, crd) == []
    mistaken = copy.deepcopy(policy)
    mistaken["spec"]["egress"][0]["toEntities"] = ["kube-apiservers"]
    assert len(errors(mistaken, crd)) > 0


def test_the_peers_that_may_scrape_are_those_for_whom_there_is_a_pod_monitor() -> None:
    monitoring = [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}]
    settings = {"podMonitor.enabled": True, "networkPolicy.ingress.metrics": monitoring}
    found = rendered([], nested(settings))
    [monitor] = found["PodMonitor"]
    [rule] = [rule for rule in policies(settings)["judge"]["ingress"] if rule["from"] == monitoring]
    ports = {port["name"]: port["containerPort"] for port in head_ports(found)}
    scraped = [ports[endpoint["port"]] for endpoint in monitor["spec"]["podMetricsEndpoints"]]
    assert [port["port"] for port in rule["ports"]] == scraped
    # Without policies everyone gets in.
    assert rendered([], nested({"podMonitor.enabled": True, "networkPolicy.enabled": False}))["PodMonitor"]


def head_ports(found: dict[str, list[Object]]) -> list[Object]:
    [cluster] = found["RayCluster"]
    ports: list[Object] = cluster["spec"]["headGroupSpec"]["template"]["spec"]["containers"][0]["ports"]
    return ports
