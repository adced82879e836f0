"""Converts pure JSON inference requests, with images in base64, into the binary form that servers accept. Called by Envoy.

The binary form is short JSON followed by the bytes. The model server parses only short JSON, since long or deep JSON crashes it.
Requests are untrusted input: Envoy limits their size, the parser their depth, and every field is checked. Envoy has had them
authorized before they arrive here.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import io
import json
import logging
import ssl
import struct
from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web

from pelagos.engines.envoy import elsewhere, shared
from pelagos.engines.envoy.guards import JSON_BYTES
from pelagos_gateway.table import Place

logger = logging.getLogger(__name__)

_LENGTH = "Inference-Header-Content-Length"
_INPUTS, _VALUES = 16, 1024
"""Most inputs in a request, and most images in one input."""
_MARKS = 50_000
"""Most commas and brackets in a request. Base64 has none; each can become a Python object that is far larger than its byte."""
_AT_ONCE = 2
"""Most concurrent conversions: each holds several copies of its request in memory."""
_BYTES, _BASE64 = "BYTES", "base64"
_PASSED = ("content-type", "inference-header-content-length")


class RefusedError(Exception):
    """The request is invalid. The message names the field, its value and what is allowed."""


def convert(text: bytes) -> tuple[bytes, int]:
    """The binary form of a JSON inference request, and the length of its JSON header in bytes. Raises RefusedError."""
    marks = sum(text.count(mark) for mark in (b",", b"[", b"{"))
    if marks > _MARKS:
        raise RefusedError(
            f"the body has {marks} commas and brackets; at most {_MARKS} are accepted: images in base64 have none, and little "
            "else may be in the body"
        )
    try:
        request = json.loads(text, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise RefusedError(f"the body is not readable JSON: {str(error)[:200] or type(error).__name__}") from None
    if not isinstance(request, dict) or not isinstance(request.get("inputs"), list):
        raise RefusedError('the body must be an object with a list "inputs"')
    inputs = request["inputs"]
    if not 0 < len(inputs) <= _INPUTS:
        raise RefusedError(f"inputs has {len(inputs)} elements; 1 to {_INPUTS} are allowed")
    parts: list[bytes] = []
    request["inputs"] = [_input(f"inputs[{index}]", each, parts) for index, each in enumerate(inputs)]
    header = json.dumps(request, separators=(",", ":")).encode()
    if len(header) > JSON_BYTES:
        raise RefusedError(f"without its images the JSON has {len(header)} bytes; at most {JSON_BYTES} are accepted")
    return b"".join((header, *parts)), len(header)


def _input(where: str, given: object, parts: list[bytes]) -> object:
    """The input without its data, whose decoded bytes are appended to ``parts``; inputs of other datatypes are returned as is."""
    if not isinstance(given, dict) or given.get("datatype") != _BYTES or "data" not in given:
        return given
    parameters = given.get("parameters") or {}
    if not isinstance(parameters, dict):
        raise RefusedError(f"{where}.parameters must be an object")
    kind = parameters.get("content_type", _BASE64)
    if kind != _BASE64:
        raise RefusedError(f"{where}.parameters.content_type is {str(kind)[:100]!r}; allowed is {_BASE64!r}")
    tensor = bytearray()
    for value in _flat(where, given["data"]):
        if not isinstance(value, str):
            raise RefusedError(f"{where}.data holds {type(value).__name__}; only texts are allowed: images in base64")
        try:
            content = base64.b64decode(value, validate=True)
        except (binascii.Error, ValueError) as error:
            raise RefusedError(f"{where}.data is not base64 ({error}): encode the image file as it is") from None
        tensor += struct.pack("<I", len(content)) + content
    parts.append(bytes(tensor))
    kept = {key: value for key, value in parameters.items() if key != "content_type"}
    rest = {key: value for key, value in given.items() if key != "data"}
    return {**rest, "parameters": {**kept, "binary_data_size": len(tensor)}}


def _flat(where: str, data: object) -> list[object]:
    """The elements of a list, flattened by one level for inputs of two dimensions."""
    if not isinstance(data, list):
        raise RefusedError(f"{where}.data must be a list of images in base64")
    found = [value for each in data for value in (each if isinstance(each, list) else (each,))]
    if len(found) > _VALUES:
        raise RefusedError(f"{where}.data has {len(found)} elements; at most {_VALUES} are accepted")
    return found


def _no_number(name: str) -> object:
    raise ValueError(f"{name} is not a number in JSON")


class Converter:
    """Converts requests and forwards them to their service.

    ``place`` maps an Envoy cluster to where its service is; None when it no longer exists.
    ``authorities`` is a file of trusted CA certificates.
    """

    def __init__(
        self, place: Callable[[str], Place | None], most_bytes: int, seconds: float, authorities: Path
    ) -> None:
        self._place = place
        self._most = most_bytes
        self._seconds = seconds
        self._authorities = authorities
        self._session: aiohttp.ClientSession | None = None
        self._turns = asyncio.Semaphore(_AT_ONCE)

    async def stop(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """The service's response, or the reason why the request is refused."""
        place = self._place(request.headers.get(shared.CHOSEN, ""))
        if place is None:
            return _refused(HTTPStatus.SERVICE_UNAVAILABLE, "The service no longer exists: try again")
        async with self._turns:
            text = await _body(request, self._most)
            if text is None:
                return _refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"At most {self._most} bytes of JSON are accepted")
            try:
                body, length = await asyncio.to_thread(convert, text)
            except RefusedError as error:
                return _refused(HTTPStatus.BAD_REQUEST, f"{error}")
            del text
        return await self._ask(request, place, body, length)

    async def _ask(self, request: web.BaseRequest, place: Place, body: bytes, length: int) -> web.StreamResponse:
        url = f"{place.url}{request.raw_path}"
        if self._session is None:
            tls = ssl.create_default_context(cafile=str(self._authorities)) if self._authorities.exists() else True
            connector = aiohttp.TCPConnector(ssl=tls)
            self._session = aiohttp.ClientSession(
                connector=connector, auto_decompress=False, cookie_jar=aiohttp.DummyCookieJar()
            )
        headers = {
            _LENGTH: str(length),
            "Content-Type": "application/octet-stream",
            "Accept-Encoding": "identity",
        }
        if place.authorization:
            headers["Authorization"] = place.authorization
        limit = aiohttp.ClientTimeout(total=self._seconds)
        response: web.StreamResponse | None = None
        try:
            async with self._session.post(
                url, data=io.BytesIO(body), headers=headers, timeout=limit, allow_redirects=False
            ) as answer:
                if place.authorization and (why := elsewhere.refusal(answer.status)):
                    return _refused(HTTPStatus.BAD_GATEWAY, why)
                told = {name: value for name, value in answer.headers.items() if name.lower() in _PASSED}
                response = web.StreamResponse(status=answer.status, headers=told)
                response.content_length = answer.content_length
                await response.prepare(request)
                async for chunk in answer.content.iter_any():
                    await response.write(chunk)
                await response.write_eof()
                return response
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            logger.warning("%s: %s", url, error or type(error).__name__)
            if response is not None:
                # The status is already sent. Abort the connection, so that the client notices a truncated response.
                if request.transport is not None:
                    request.transport.abort()
                return response
            if isinstance(error, TimeoutError):
                return _refused(HTTPStatus.GATEWAY_TIMEOUT, "The service did not answer in time")
            return _refused(HTTPStatus.SERVICE_UNAVAILABLE, "The service does not answer: try again")


async def _body(request: web.BaseRequest, most: int) -> bytes | None:
    found = bytearray()
    async for chunk in request.content.iter_any():
        found += chunk
        if len(found) > most:
            return None
    return bytes(found)


def _refused(status: int, message: str) -> web.Response:
    headers: dict[str, Any] = {"Content-Type": "application/json"}
    return web.Response(status=status, body=json.dumps({"error": message}).encode(), headers=headers)
