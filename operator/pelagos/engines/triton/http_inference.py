"""One inference by HTTP, by the service contract of model packages, for endpoints that gRPC does not reach.

Called by the synthetic probe and by ``pelagos predict``, like ``inference``. The image is sent as it is after a short JSON
header: the binary tensor extension of the KServe v2 protocol (``docs/protocol/extension_binary_data.md`` in Triton's server
repository), which the Envoy in front of our servers requires too. An endpoint's login appears in no message.
"""

from __future__ import annotations

import asyncio
import io
import json
import ssl
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Any
from urllib.parse import quote

import aiohttp

from pelagos.engines.triton import inference
from pelagos.engines.triton.inference import InferenceError
from pelagos_contract import kserve_v2
from pelagos_contract.text import shown

LARGEST_ANSWER = 256 * 1024 * 1024
"""Largest answer in bytes; hundreds of masks take megabytes."""
_AWAY = frozenset({502, 503, 504})


@dataclass(frozen=True)
class Endpoint:
    """A server's address and our login: the URL before ``/v2``, the Authorization header, and a certificate authority."""

    url: str
    authorization: str = field(default="", repr=False)
    ca_file: Path | None = None
    most: int = LARGEST_ANSWER
    """Largest answer in bytes."""


async def infer(
    endpoint: Endpoint, model: str, image: bytes, timeout: float, *, raw: bool = False, confidence: float | None = None
) -> tuple[dict[str, Any], float]:
    """The ``prediction`` for one encoded image, and the seconds that it took on an open connection. See inference.infer.

    Raises InferenceError.
    """
    asked: dict[str, Any] = {"raw": True} if raw else {}
    if confidence is not None:
        asked["confidence"] = str(confidence)
    header, body = kserve_v2.request(image, asked)
    url = f"{endpoint.url.rstrip('/')}/v2/models/{quote(model, safe='')}"
    headers = {"Authorization": endpoint.authorization} if endpoint.authorization else {}
    try:
        async with (
            asyncio.timeout(timeout),
            aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=_tls(endpoint.ca_file))) as session,
        ):
            async with session.get(f"{url}/ready", headers=headers, allow_redirects=False):
                pass  # opens the connection
            begun = monotonic()
            async with session.post(
                f"{url}/infer",
                data=io.BytesIO(body),  # sent in parts: 64 MiB at once would hold up the event loop
                headers=headers | {kserve_v2.HEADER_LENGTH: str(header), "Content-Type": "application/octet-stream"},
                allow_redirects=False,
            ) as answer:
                content = await _read(answer, endpoint.most)
                latency = monotonic() - begun
                if answer.status != 200:
                    raise InferenceError(_refusal(answer.status, content))
                length = answer.headers.get(kserve_v2.HEADER_LENGTH, "")
    except TimeoutError as error:
        raise InferenceError(f"no answer within {timeout:g} s") from error
    except (aiohttp.ClientError, OSError, ValueError) as error:
        raise InferenceError(f"the inference failed: {shown(str(error)) or type(error).__name__}") from error
    try:
        return inference.answered(kserve_v2.prediction(content, length)), latency
    except ValueError as error:
        raise InferenceError(str(error)) from error


async def _read(answer: aiohttp.ClientResponse, most: int) -> bytes:
    content = bytearray()
    async for part in answer.content.iter_any():
        content += part
        if len(content) > most:
            raise InferenceError(f"the answer has more than {most} bytes")
    return bytes(content)


def _refusal(status: int, content: bytes) -> str:
    try:
        said = str(json.loads(content)["error"])
    except (ValueError, LookupError, TypeError, RecursionError):
        said = content[:200].decode(errors="replace")
    words = shown(" ".join(said.split()))[:200]
    if status in {401, 403}:
        return f"the endpoint does not admit us: HTTP {status} {words}".rstrip()
    if status in _AWAY:
        return f"there is no server behind the endpoint now: HTTP {status} {words}".rstrip()
    return f"the inference failed: HTTP {status} {words}".rstrip()


def _tls(ca_file: Path | None) -> ssl.SSLContext | bool:
    return ssl.create_default_context(cafile=str(ca_file)) if ca_file is not None else True
