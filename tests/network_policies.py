"""Evaluates NetworkPolicies as Kubernetes defines them: may this pod or address connect to that one on a port?

Nothing is enforced here. How a network plug-in implements the same rules is not covered (docs/checked-against.md).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Body = Mapping[str, Any]
NAMESPACE_LABEL = "kubernetes.io/metadata.name"


@dataclass(frozen=True)
class End:
    """A pod, or with an address alone something outside of the cluster."""

    namespace: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    address: str = ""


@dataclass(frozen=True)
class Network:
    """All policies of a cluster, and the labels of its namespaces."""

    policies: Sequence[Body]
    namespaces: Mapping[str, Mapping[str, str]]

    def allows(self, source: End, target: End, port: int, protocol: str = "TCP") -> bool:
        """Whether both ends let the connection through."""
        wanted = {"port": port, "protocol": protocol}
        return self._lets(source, target, wanted, "Egress") and self._lets(target, source, wanted, "Ingress")

    def _lets(self, own: End, other: End, wanted: Mapping[str, Any], direction: str) -> bool:
        """Whether one end's policies allow it: everything is allowed where none selects it, otherwise what one of them names."""
        if own.address:
            return True
        selecting = [body for body in self.policies if self._selects(body, own) and direction in _directions(body)]
        side, peers = ("egress", "to") if direction == "Egress" else ("ingress", "from")
        rules = [rule for body in selecting for rule in body["spec"].get(side) or ()]
        return not selecting or any(self._matches(rule, peers, own, other, wanted) for rule in rules)

    def _selects(self, body: Body, pod: End) -> bool:
        return body["metadata"]["namespace"] == pod.namespace and selected(body["spec"]["podSelector"], pod.labels)

    def _matches(self, rule: Body, peers: str, own: End, other: End, wanted: Mapping[str, Any]) -> bool:
        ports, listed = rule.get("ports") or (), rule.get(peers) or ()
        fits = not ports or any(_is_port(port, wanted) for port in ports)
        return fits and (not listed or any(self._is_peer(peer, own, other) for peer in listed))

    def _is_peer(self, peer: Body, own: End, other: End) -> bool:
        if "ipBlock" in peer:
            return bool(other.address) and _within(other.address, peer["ipBlock"])
        if other.address:
            return False
        if "namespaceSelector" in peer:
            if not selected(peer["namespaceSelector"], self._labels(other.namespace)):
                return False
        elif other.namespace != own.namespace:
            return False
        return selected(peer.get("podSelector", {}), other.labels)

    def _labels(self, namespace: str) -> Mapping[str, str]:
        return {**self.namespaces.get(namespace, {}), NAMESPACE_LABEL: namespace}


def selected(selector: Body, labels: Mapping[str, str]) -> bool:
    """Whether a label selector matches. An empty one matches all."""
    matched = all(labels.get(key) == value for key, value in (selector.get("matchLabels") or {}).items())
    return matched and all(_meets(each, labels) for each in selector.get("matchExpressions") or ())


def open_rules(policies: Iterable[Body]) -> list[str]:
    """Rules without peers or ports, and peers that match everyone: no policy of ours may contain one."""
    found = []
    for body in policies:
        for side, peers in (("ingress", "from"), ("egress", "to")):
            for rule in body["spec"].get(side) or ():
                name = f"{body['metadata']['namespace']}/{body['metadata']['name']} {side}"
                if not rule.get(peers) or not rule.get("ports") or any("port" not in each for each in rule["ports"]):
                    found.append(f"{name}: {rule}")
                found += [f"{name}: {peer}" for peer in rule.get(peers) or () if _is_everybody(peer)]
    return found


def _is_everybody(peer: Body) -> bool:
    if "ipBlock" in peer:
        return ipaddress.ip_network(peer["ipBlock"]["cidr"]).prefixlen == 0
    return not peer or peer.get("namespaceSelector") == {}


def _directions(body: Body) -> set[str]:
    spec = body["spec"]
    return set(spec.get("policyTypes") or (["Ingress", "Egress"] if spec.get("egress") else ["Ingress"]))


def _is_port(port: Body, wanted: Mapping[str, Any]) -> bool:
    if port.get("protocol", "TCP") != wanted["protocol"]:
        return False
    return "port" not in port or port["port"] <= wanted["port"] <= port.get("endPort", port["port"])


def _within(address: str, block: Body) -> bool:
    found = ipaddress.ip_address(address)
    inside = found in ipaddress.ip_network(block["cidr"])
    return inside and not any(found in ipaddress.ip_network(each) for each in block.get("except") or ())


def _meets(expression: Body, labels: Mapping[str, str]) -> bool:
    value, listed = labels.get(expression["key"]), expression.get("values") or ()
    match expression["operator"]:
        case "In":
            return value in listed
        case "NotIn":
            return value not in listed
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None
    raise ValueError(f"no operator: {expression}")
