"""Asks a model server on a cluster which model it serves. Called by the engines that serve on a cluster.

``Addresses`` are how the operator reaches it now; clients get a DNS name, which the operator may not be able to resolve.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp

from pelagos.engines.model_server import pod_status, pod_template
from pelagos.engines.model_server.package import DIGEST_PARAMETER

TIMEOUT = 3.0


@dataclass(frozen=True)
class Addresses:
    """Addresses of a model server; ``http`` is a URL, ``grpc`` is ``host:port``."""

    http: str
    grpc: str


@dataclass(frozen=True)
class Answer:
    """Whether the server reports the model as ready, and the digest it was configured for; "" when that is unknown."""

    ready: bool
    digest: str = ""


def through_service(service: Mapping[str, Any] | None) -> Addresses | None:
    """The cluster IP of a Service; None when it has none (headless, or of another type)."""
    spec = (service or {}).get("spec", {})
    ip = spec.get("clusterIP", "")
    if not ip or ip == "None" or spec.get("type") == "ExternalName":
        return None
    http, grpc = port(service, pod_template.HTTP), port(service, pod_template.GRPC)
    return _at(ip, http, grpc) if http and grpc else None


def through_pod(pod: Mapping[str, Any]) -> Addresses | None:
    """A pod's own address; None until it has one."""
    ip = pod_status.address(pod)
    return _at(ip, pod_template.HTTP, pod_template.GRPC) if ip else None


def port(service: Mapping[str, Any] | None, target: int) -> int:
    """The Service's port that maps to port ``target`` of its pods; 0 when none does."""
    ports = (service or {}).get("spec", {}).get("ports") or ()
    return next((int(each["port"]) for each in ports if target in (each.get("targetPort"), each["port"])), 0)


def _at(ip: str, http: int, grpc: int) -> Addresses:
    host = f"[{ip}]" if ":" in ip else ip
    return Addresses(f"http://{host}:{http}", f"{host}:{grpc}")


class TritonHttpClient:
    """An HTTP client for model servers."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def ask(self, addresses: Addresses, model: str) -> Answer | None:
        """The server's answer about the model; None when it does not answer within TIMEOUT seconds."""
        ready = await self._get(f"{addresses.http}/v2/models/{model}/ready")
        if ready is None:
            return None
        if ready[0] != 200:
            return Answer(ready=False)
        config = await self._get(f"{addresses.http}/v2/models/{model}/config")
        if config is None or config[0] != 200:
            return None
        try:
            parameters = json.loads(config[1]).get("parameters") or {}
            return Answer(ready=True, digest=str(parameters.get(DIGEST_PARAMETER, {}).get("string_value", "")))
        except (ValueError, AttributeError, RecursionError):
            return Answer(ready=True)

    async def _get(self, url: str) -> tuple[int, bytes] | None:
        if self._session is None:
            # Do not keep connections: a server that is shutting down waits for open ones, even if they are idle.
            connector = aiohttp.TCPConnector(force_close=True)
            self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=TIMEOUT), connector=connector)
        try:
            async with self._session.get(url) as response:
                return response.status, await response.read()
        except (aiohttp.ClientError, OSError):
            return None
