"""Clients of an API server: create Datasets in a burst, watch them, and count requests. For operators.py.

Input: a running API server and a namespace. Output: times (monotonic seconds) by name, and counts of requests.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import ssl
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import pydantic_core

from bench.measuring import MeasurementError
from control_plane import ControlPlane
from pelagos.api import meta

WRITERS = 16
"""Concurrent requests: the same number as the operator's."""
SPEC = {"source": {"volume": {"path": "plankton"}}, "task": "Detection"}
PAGE = 500
"""Resources per page of a list."""
WRITES = frozenset({"PATCH", "PUT", "POST", "DELETE"})
_LINE = re.compile(r"^apiserver_request_total\{(?P<labels>[^}]*)\} (?P<value>\S+)$", re.MULTILINE)
_LABEL = re.compile(r'(\w+)="([^"]*)"')


@dataclass
class Seen:
    """Times at which each Dataset was created, first had a status, and became Ready."""

    created: dict[str, float] = field(default_factory=dict)
    first: dict[str, float] = field(default_factory=dict)
    ready: dict[str, float] = field(default_factory=dict)

    def take(self, body: Mapping[str, Any]) -> None:
        """Record a watch event."""
        name, status, now = body["metadata"]["name"], body.get("status") or {}, time.monotonic()
        if status:
            self.first.setdefault(name, now)
        if any(entry["type"] == "Ready" and entry["status"] == "True" for entry in status.get("conditions", ())):
            self.ready.setdefault(name, now)


class Traffic:
    """Clients in one namespace of an API server."""

    def __init__(self, plane: ControlPlane, namespace: str, session: aiohttp.ClientSession) -> None:
        self._plane = plane
        self._session = session
        self._path = f"/apis/{meta.API_VERSION}/namespaces/{namespace}/datasets"
        self.seen = Seen()

    async def create(self, number: int, spec: Mapping[str, Any] = SPEC) -> None:
        """Create this many Datasets, as fast as the server accepts them."""
        await _all(lambda name: self.create_one(name, spec), number)

    async def create_one(self, name: str, spec: Mapping[str, Any] = SPEC) -> None:
        """Create a Dataset."""
        body = {"apiVersion": meta.API_VERSION, "kind": "Dataset", "metadata": {"name": name}, "spec": dict(spec)}
        self.seen.created[name] = time.monotonic()
        await self._call("POST", self._path, body)

    async def read_status(self, name: str) -> dict[str, Any]:
        """The status of a Dataset."""
        async with self._session.get(f"{self._plane.url}{self._path}/{name}") as answer:
            return dict((await answer.json())["status"])

    async def read_size(self, name: str) -> int:
        """Bytes of a Dataset in the API server's answer, which it stores in the same form: JSON without spaces."""
        async with self._session.get(f"{self._plane.url}{self._path}/{name}") as answer:
            return len(await answer.read())

    async def list_all(self) -> float:
        """Read and decode all Datasets in pages as the operator does; returns the seconds that it took."""
        began, rest, found = time.monotonic(), "", 0
        headers = {"Accept-Encoding": "identity"}
        while True:
            query = {"limit": str(PAGE)} | ({"continue": rest} if rest else {})
            async with self._session.get(self._plane.url + self._path, params=query, headers=headers) as answer:
                page = pydantic_core.from_json(await answer.read())
            found += len(page["items"])
            rest = page["metadata"].get("continue") or ""
            if not rest:
                break
        if found < len(self.seen.ready):
            raise MeasurementError(f"the list has {found} Datasets, and {len(self.seen.ready)} were made Ready")
        return time.monotonic() - began

    async def patch_status(self, number: int, status: Mapping[str, Any]) -> float:
        """Patch the status of every Dataset once; returns patches per second, which limit any operator."""

        async def one(name: str) -> None:
            await self._call("PATCH", f"{self._path}/{name}/status", {"status": status})

        began = time.monotonic()
        await _all(one, number)
        return number / (time.monotonic() - began)

    async def until(self, reached: Callable[[Seen], bool], what: str, seconds: float) -> None:
        """Wait until what the watch recorded satisfies ``reached``. Raises MeasurementError after ``seconds``."""
        deadline = time.monotonic() + seconds
        while not reached(self.seen):
            if time.monotonic() > deadline:
                raise MeasurementError(f"{what}: not after {seconds:.0f} s")
            await asyncio.sleep(0.02)

    @contextlib.asynccontextmanager
    async def watching(self) -> AsyncIterator[None]:
        """Record watch events while the context lasts."""
        task = asyncio.create_task(self._watch())
        try:
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def _watch(self) -> None:
        """List and watch in a loop, because the server ends the watch of a reader that is slow for a moment."""
        url = self._plane.url + self._path
        while True:
            async with self._session.get(url) as answer:
                listed = await answer.json()
            for body in listed["items"]:
                self.seen.take(body)
            follow = f"{url}?watch=1&resourceVersion={listed['metadata']['resourceVersion']}"
            async with self._session.get(follow, timeout=aiohttp.ClientTimeout(total=None)) as answer:
                async for line in answer.content:
                    event = json.loads(line)
                    if event["type"] == "ERROR":
                        break
                    self.seen.take(event["object"])

    async def _call(self, method: str, path: str, body: Mapping[str, Any]) -> None:
        kind = "application/merge-patch+json" if method == "PATCH" else "application/json"
        headers = {"Content-Type": kind}
        url = self._plane.url + path
        async with self._session.request(method, url, data=json.dumps(body), headers=headers) as answer:
            if answer.status >= 400:
                raise MeasurementError(f"{method} {path}: {answer.status} {await answer.text()}")
            await answer.read()


@contextlib.asynccontextmanager
async def session(plane: ControlPlane) -> AsyncIterator[aiohttp.ClientSession]:
    """A client session with full rights."""
    tls = ssl.create_default_context(cafile=str(plane.authority))
    connector = aiohttp.TCPConnector(ssl=tls, limit=WRITERS + 2)
    headers = {"Authorization": f"Bearer {plane.token}"}
    # A line of a watch contains a whole resource.
    async with aiohttp.ClientSession(connector=connector, headers=headers, read_bufsize=2**20) as opened:
        yield opened


async def requests(plane: ControlPlane, opened: aiohttp.ClientSession) -> Counter[tuple[str, str, str]]:
    """Requests received by verb, resource and subresource, for Datasets and events only, without watches."""
    async with opened.get(f"{plane.url}/metrics") as answer:
        text = await answer.text()
    return count_requests(text)


def count_requests(text: str) -> Counter[tuple[str, str, str]]:
    """Count requests in the text of a kube-apiserver's /metrics."""
    found: Counter[tuple[str, str, str]] = Counter()
    for match in _LINE.finditer(text):
        labels = dict(_LABEL.findall(match["labels"]))
        ours = labels.get("group") == meta.GROUP or labels.get("resource") == "events"
        if ours and labels["verb"] != "WATCH":
            found[labels["verb"], labels["resource"], labels.get("subresource", "")] += int(float(match["value"]))
    return found


async def _all(one: Callable[[str], Any], number: int) -> None:
    names = iter(f"dataset-{index:05d}" for index in range(number))

    async def work() -> None:
        for name in names:
            await one(name)

    await asyncio.gather(*(work() for _ in range(WRITERS)))
