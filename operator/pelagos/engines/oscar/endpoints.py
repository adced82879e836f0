"""Asks a model server behind OSCAR's ingress which model it serves, with the same login as clients. Called by engine."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote

import aiohttp

from pelagos.engines.model_server.package import DIGEST_PARAMETER

if TYPE_CHECKING:
    from pelagos.engines.credentials import Trusted
    from pelagos.engines.triton.http_inference import Endpoint

TIMEOUT = 5.0
_LARGEST = 1024 * 1024


@dataclass(frozen=True)
class Answer:
    """The digest that the server was configured for; "" when it does not say."""

    digest: str


@dataclass(frozen=True)
class Closed:
    """The ingress refused the login."""

    status: int


class Endpoints:
    """An HTTP client for the ingress, with the same trusted authorities as for OSCAR itself."""

    def __init__(self, trusted: Trusted) -> None:
        self._trusted = trusted
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def ask(self, endpoint: Endpoint, model: str) -> Answer | Closed | str:
        """The server's answer about the model; else why there is none, as words that follow the address in a message."""
        where = f"{endpoint.url}/v2/models/{quote(model, safe='')}"
        ready = await self._get(f"{where}/ready", endpoint)
        if ready is None:
            return "nothing answers"
        status, _ = ready
        if status in {401, 403}:
            return Closed(status)
        if status != 200:
            return f"HTTP {status} is answered"
        config = await self._get(f"{where}/config", endpoint)
        if config is None or config[0] != 200:
            return "the server does not say which model it has"
        try:
            parameters = json.loads(config[1]).get("parameters") or {}
            return Answer(str(parameters.get(DIGEST_PARAMETER, {}).get("string_value", "")))
        except (ValueError, AttributeError, RecursionError):
            return "something that is not a model server answers"

    async def _get(self, url: str, endpoint: Endpoint) -> tuple[int, bytes] | None:
        if self._session is None:
            connector = aiohttp.TCPConnector(force_close=True)
            self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=TIMEOUT), connector=connector)
        headers, tls = {"Authorization": endpoint.authorization}, self._trusted.tls()
        try:
            async with self._session.get(url, headers=headers, ssl=tls, allow_redirects=False) as answer:
                content = b""
                # A read returns the bytes that have arrived, which may be only a part.
                while len(content) < _LARGEST and (more := await answer.content.read(_LARGEST - len(content))):
                    content += more
                return answer.status, content
        except (aiohttp.ClientError, OSError):
            return None
