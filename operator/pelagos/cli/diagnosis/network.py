"""The check of the operator's NetworkPolicy: whether it lets the operator reach all that it needs."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from pelagos import engine_registry
from pelagos.engines.diagnosis import DoctorContext, Finding, failure, hidden, items, note, ok

OPERATOR = "pelagos-operator"
_TELL = "networkPolicies.apiServer of the chart, or a patch of NetworkPolicy pelagos-operator (docs/installing.md)"


async def look(context: DoctorContext) -> Iterable[Finding]:
    """Check that a policy exists, and that it names the API server."""
    if not engine_registry.is_on_cluster(context.settings):
        return []
    root = f"/apis/networking.k8s.io/v1/namespaces/{context.home}/networkpolicies"
    answer = await context.api.get(root)
    if answer.status != 200:
        return [hidden("network", answer)]
    own = [body for body in items(answer) if body["metadata"].get("name") == OPERATOR]
    if not own:
        hint = "add the component networkpolicies, or with Helm networkPolicies.enabled=true"
        return [note("network", f"no NetworkPolicy closes the namespace {context.home}", hint)]
    found = await context.api.get("/api/v1/namespaces/default/endpoints/kubernetes")
    if found.status != 200:
        return [hidden("network", found)]
    wanted = list(_endpoints(found.body))
    closed = [f"{address}:{port}" for address, port in wanted if not _reaches(own[0], address, port)]
    if closed:
        message = f"the NetworkPolicy {OPERATOR} does not let the operator reach the API server at {', '.join(closed)}"
        return [failure("network", message, f"Name it in {_TELL}.")]
    return [ok("network", f"the NetworkPolicy {OPERATOR} lets the operator reach the API server")]


def _endpoints(body: Mapping[str, Any]) -> Iterator[tuple[str, int]]:
    for subset in body.get("subsets") or ():
        for address in subset.get("addresses") or ():
            for port in subset.get("ports") or ():
                yield str(address["ip"]), int(port["port"])


def _reaches(policy: Mapping[str, Any], address: str, port: int) -> bool:
    for rule in policy["spec"].get("egress") or ():
        blocks = [peer["ipBlock"]["cidr"] for peer in rule.get("to") or () if "ipBlock" in peer]
        inside = any(ipaddress.ip_address(address) in ipaddress.ip_network(block) for block in blocks)
        if inside and port in {each.get("port") for each in rule.get("ports") or ()}:
            return True
    return False
