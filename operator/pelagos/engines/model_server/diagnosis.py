"""The checks of ``pelagos doctor`` for all model servers on a cluster. Called by the engines that create them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from pelagos.engines.diagnosis import Finding, failure, ok
from pelagos.engines.model_server.network import storage
from pelagos.engines.model_server.options import Options
from pelagos.settings import Settings


def network(settings: Settings) -> Iterator[Finding]:
    """Check that model servers may reach the object storage with their packages."""
    if not settings.objects_uri:
        return
    rule = storage(Options.from_settings(settings, settings.objects_uri))
    if rule is None:
        place = settings.s3_endpoint or "that of AWS"
        yield failure(
            "network",
            f"model servers reach only the object storage, but where {place} is cannot be determined from its name",
            "Name its addresses and ports in PELAGOS_STORAGE_PEERS (with Helm: networkPolicies.storage).",
        )
        return
    yield ok("network", f"model servers may reach only the object storage ({_words(rule['to'])}) and DNS")


def _words(peers: Iterable[Mapping[str, Any]]) -> str:
    told = []
    for peer in peers:
        block = peer.get("ipBlock") or {}
        labels = (peer.get("namespaceSelector") or {}).get("matchLabels") or {}
        told.append(str(block.get("cidr") or ", ".join(str(value) for value in labels.values()) or "as configured"))
    return "; ".join(told)
