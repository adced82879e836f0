"""NetworkPolicies: whether the operator reaches what it needs, and whether model servers can fetch their packages."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from pelagos import engine_registry
from pelagos.cli.diagnosis.findings import DoctorContext, Finding, failure, hidden, items, note, ok
from pelagos.engines.model_server import network as model_server_network
from pelagos.engines.model_server.options import Options

OPERATOR = "pelagos-operator"
_TELL = "networkPolicies.apiServer of the chart, or a patch of NetworkPolicy pelagos-operator (docs/installing.md)"


async def look(context: DoctorContext) -> Iterable[Finding]:
    """The operator's own policy, and the operator's settings for those of model servers."""
    if not context.on_cluster:
        return []
    return [*_model_servers(context), *await _operator(context)]


def _model_servers(context: DoctorContext) -> Iterator[Finding]:
    settings = context.settings
    if not engine_registry.SERVING.get(settings.serving_engine).is_elsewhere or not settings.objects_uri:
        return
    rule = model_server_network.storage(Options.from_settings(settings, settings.objects_uri))
    if rule is None:
        place = settings.s3_endpoint or "that of AWS"
        yield failure(
            "network",
            f"model servers reach the object storage alone, and where {place} is cannot be determined from its name",
            "Name its addresses and ports in PELAGOS_STORAGE_PEERS (with Helm: networkPolicies.storage).",
        )
        return
    yield ok("network", f"model servers may reach the object storage ({_words(rule['to'])}) and DNS alone")


async def _operator(context: DoctorContext) -> list[Finding]:
    root = f"/apis/networking.k8s.io/v1/namespaces/{context.home}/networkpolicies"
    answer = await context.api.get(root)
    if answer.status != 200:
        return [hidden("network", answer)]
    own = [body for body in items(answer) if _metadata(body).get("name") == OPERATOR]
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


def _metadata(body: Mapping[str, Any]) -> Mapping[str, Any]:
    found: Mapping[str, Any] = body.get("metadata") or {}
    return found


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


def _words(peers: Iterable[Mapping[str, Any]]) -> str:
    told = []
    for peer in peers:
        block = peer.get("ipBlock") or {}
        labels = (peer.get("namespaceSelector") or {}).get("matchLabels") or {}
        told.append(str(block.get("cidr") or ", ".join(str(value) for value in labels.values()) or "as configured"))
    return "; ".join(told)
