"""What the NetworkPolicies let in and out; that enforcers keep to it is seen by tests/e2e_gitops."""

from __future__ import annotations

import ipaddress

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
