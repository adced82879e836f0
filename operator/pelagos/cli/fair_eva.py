"""A client of FAIR EVA: a server's evaluation of a published record, indicator by indicator.

The call for all indicators fails as a whole if one of them does; then they are requested one by one. Indicators that the server
could not evaluate count as not evaluated, although it reports zero points for errors.
"""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp

from pelagos_contract.fair.checks import Found
from pelagos_contract.fair.evaluation import Evaluation
from pelagos_contract.fair.indicators import BY_METHOD, INDICATORS, PRINCIPLES, Indicator

_TIMEOUT = 60.0
"""Time limit of a call in seconds; the server asks the repository and other servers during it."""
_LARGEST = 8 * 1024**2
"""Largest answer in bytes."""
_LONGEST = 200
"""Longest message about an indicator, in characters."""
_DEEPEST = 8
_AT_ONCE = 4


class FairEvaError(Exception):
    """The server could not be asked; the message says why, in one line."""


class UnreachableError(FairEvaError):
    """The server does not answer at all."""


@dataclass(frozen=True)
class Asked:
    """A server, its plugin, and the endpoint where the plugin finds the record."""

    url: str
    plugin: str
    endpoint: str

    def address(self, method: str) -> str:
        """The URL of a call."""
        return f"{self.url.rstrip('/')}/v1.0/rda/{method}"


async def evaluate(asked: Asked, doi: str) -> Evaluation:
    """The evaluation of the record with the DOI, for all indicators.

    Raises:
        FairEvaError: the server does not answer, or none of its answers can be understood.
    """
    timeout = aiohttp.ClientTimeout(total=_TIMEOUT)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        caller = _Caller(session, asked, doi)
        found = await caller.all()
        rest = [each for each in INDICATORS if each.code not in found]
        turns = asyncio.Semaphore(_AT_ONCE)
        singles = await asyncio.gather(*(caller.single(each, turns) for each in rest))
    found |= dict(zip((each.code for each in rest), singles, strict=True))
    if all(each.points is None for each in found.values()):
        raise FairEvaError(f"{asked.url} evaluated nothing of {doi}: {found[INDICATORS[0].code].evidence}")
    return Evaluation(found)


@dataclass(frozen=True)
class _Caller:
    session: aiohttp.ClientSession
    asked: Asked
    doi: str

    async def all(self) -> dict[str, Found]:
        """The result of the call for all indicators, by code; empty when it fails. Raises UnreachableError."""
        try:
            answer = await self._post("rda_all")
        except UnreachableError:
            raise
        except FairEvaError:
            return {}
        found = {}
        for principle in PRINCIPLES:
            part = answer.get(principle)
            for method, result in part.items() if isinstance(part, Mapping) else ():
                parsed = _parsed(result)
                if method in BY_METHOD and parsed.points is not None:
                    found[BY_METHOD[method].code] = parsed
        return found

    async def single(self, indicator: Indicator, turns: asyncio.Semaphore) -> Found:
        """The result of the call for one indicator; without points when it fails."""
        async with turns:
            try:
                return _parsed(await self._post(indicator.method))
            except FairEvaError as error:
                return Found(None, str(error))

    async def _post(self, method: str) -> Mapping[str, Any]:
        """Make a call, and return the part of the answer about the record. Raises FairEvaError."""
        body = {"id": self.doi, "repo": self.asked.plugin, "api_endpoint": self.asked.endpoint, "lang": "en"}
        try:
            # Redirects are not followed: no other server is ever asked.
            async with self.session.post(self.asked.address(method), json=body, allow_redirects=False) as answer:
                content = await answer.content.read(_LARGEST + 1)
                while len(content) <= _LARGEST and (more := await answer.content.read(_LARGEST + 1 - len(content))):
                    content += more
                status = answer.status
        except (aiohttp.ClientConnectorError, aiohttp.InvalidURL) as error:
            raise UnreachableError(f"there is no FAIR EVA server at {self.asked.url}: {error}") from error
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            raise FairEvaError(f"{self.asked.url} does not answer: {type(error).__name__}: {error}") from error
        if status != 200:
            raise FairEvaError(f"{self.asked.url} answers {method} with {status}")
        if len(content) > _LARGEST:
            raise FairEvaError(f"{self.asked.url} answers {method} with more than {_LARGEST} bytes")
        try:
            found = json.loads(content)[self.doi]
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise FairEvaError(f"{self.asked.url} answers {method} with something else than an evaluation") from error
        if not isinstance(found, Mapping):
            raise FairEvaError(f"{self.asked.url} answers {method} with something else than an evaluation")
        return found


def _parsed(result: Any) -> Found:
    """One indicator in an answer. The server reports an error by the name ERROR and no points."""
    if not isinstance(result, Mapping) or result.get("name") == "ERROR":
        return Found(None, "the server could not evaluate it")
    points = result.get("points")
    if isinstance(points, bool) or not isinstance(points, int | float) or not math.isfinite(points):
        return Found(None, "the server gives no points")
    said = "; ".join(dict.fromkeys(_messages(result.get("msg"))))
    shortened = said if len(said) <= _LONGEST else f"{said[: _LONGEST - 1]}\u2026"
    return Found(min(max(points, 0), 100), shortened)


def _messages(said: Any, depth: int = 0) -> Iterator[str]:
    """Yield the texts in a message, which is a text, or contains texts in nested lists and objects."""
    if isinstance(said, str):
        yield " ".join(said.split())
    elif isinstance(said, Mapping) and depth < _DEEPEST:
        yield from _messages(said.get("message"), depth + 1)
    elif isinstance(said, list) and depth < _DEEPEST:
        for each in said:
            yield from _messages(each, depth + 1)
