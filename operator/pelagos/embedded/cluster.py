"""Brings an API server to the state that Pelagos needs: the default namespace, and our resource definitions.

Called by the supervisor each time it starts; changes nothing that is already right. It speaks HTTPS itself, because the client
library takes a second to import.
"""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import aiohttp

from pelagos.api import crds, kinds
from pelagos.embedded.failures import StartError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
_PERIOD = 0.1
_SERVED_SECONDS = 60.0
_REQUEST_SECONDS = 30.0
_NOT_YET = {404, 429}
"""Answers of a server for a moment after it has established a resource: old servers do not know it yet, those of 1.31 and later
fill their cache first (storage is (re)initializing)."""


class ApiError(Exception):
    """The API server refused a request; ``status`` is the HTTP code."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"the API server answered {status}: {message}")
        self.status = status


@dataclass(frozen=True)
class Api:
    """The few requests that are needed here. Methods raise ApiError, or aiohttp's errors when there is no answer."""

    url: str
    session: aiohttp.ClientSession

    @classmethod
    def connect(cls, url: str, token: str, authority: Path) -> Api:
        """A connection with a bearer token that trusts only the certificate in ``authority``."""
        connector = aiohttp.TCPConnector(ssl=ssl.create_default_context(cafile=str(authority)))
        timeout = aiohttp.ClientTimeout(total=_REQUEST_SECONDS)
        headers = {"Authorization": f"Bearer {token}"}
        return cls(url, aiohttp.ClientSession(connector=connector, headers=headers, timeout=timeout))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None
    ) -> None:
        await self.session.close()

    async def get(self, path: str) -> Any:
        """Read the object at ``path``."""
        return await self._request("GET", path)

    async def post(self, path: str, body: Mapping[str, Any]) -> Any:
        """Create an object."""
        return await self._request("POST", path, body)

    async def put(self, path: str, body: Mapping[str, Any]) -> Any:
        """Replace an object."""
        return await self._request("PUT", path, body)

    async def _request(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        async with self.session.request(method, self.url + path, json=body) as answer:
            content = await answer.json()
            if answer.status >= 400:
                raise ApiError(answer.status, str(content.get("message", content)))
            return content


def definitions() -> tuple[dict[str, Any], ...]:
    """Our CustomResourceDefinitions, the same as in manifests/crds."""
    return tuple(crds.render(kind) for kind in kinds.KINDS)


async def prepare(api: Api, wanted: Sequence[Mapping[str, Any]]) -> None:
    """Create the default namespace and apply the definitions ``wanted``, and wait until they are served.

    Raises ApiError, aiohttp.ClientError or OSError when the server goes down in between; call it again then.
    """
    await _create(api, "/api/v1/namespaces", {"metadata": {"name": "default"}})
    await asyncio.gather(*(_apply(api, definition) for definition in wanted))
    await asyncio.gather(*(_until_served(api, definition) for definition in wanted))


async def _create(api: Api, path: str, body: Mapping[str, Any]) -> bool:
    """Create an object; returns False when it already exists."""
    try:
        await api.post(path, body)
    except ApiError as error:
        if error.status != 409:
            raise
        return False
    return True


async def _apply(api: Api, definition: Mapping[str, Any]) -> None:
    """Create or replace a definition. Not by server-side apply, where old servers refuse CEL rules that they else ignore."""
    if await _create(api, _DEFINITIONS, definition):
        return
    path = f"{_DEFINITIONS}/{definition['metadata']['name']}"
    there = await api.get(path)
    # Keep everything that we do not declare; if nothing changed, the server notices that and writes nothing.
    metadata = {**there["metadata"], "labels": definition["metadata"].get("labels", {})}
    await api.put(path, {**there, "metadata": metadata, "spec": definition["spec"]})


async def _until_served(api: Api, definition: Mapping[str, Any]) -> None:
    name, spec = definition["metadata"]["name"], definition["spec"]
    deadline = asyncio.get_running_loop().time() + _SERVED_SECONDS
    while not await _serves(api, name, spec):
        if asyncio.get_running_loop().time() > deadline:
            raise StartError(f"The API server does not serve {name} after {_SERVED_SECONDS:.0f} s; see its log.")
        await asyncio.sleep(_PERIOD)


async def _serves(api: Api, name: str, spec: Mapping[str, Any]) -> bool:
    # A definition that was just created has "conditions: null".
    conditions = (await api.get(f"{_DEFINITIONS}/{name}")).get("status", {}).get("conditions") or ()
    if not any(entry["type"] == "Established" and entry["status"] == "True" for entry in conditions):
        return False
    try:
        for version in spec["versions"]:
            await api.get(f"/apis/{spec['group']}/{version['name']}/{spec['names']['plural']}?limit=1")
    except ApiError as error:
        if error.status not in _NOT_YET:
            raise
        return False
    return True
