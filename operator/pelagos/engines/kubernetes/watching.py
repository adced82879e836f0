"""Objects of one kind kept in memory: listed once, then followed by a watch, so that reading them costs no request.

Used by the processes next to the operator (the gateway, the hub), which read few kinds and need them without delay. While the API
server is unreachable they keep the last known state, and report how old it is.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlencode

from pelagos.engines.kubernetes.objects import Collection
from pelagos.engines.kubernetes.rest import KubernetesRest
from pelagos.ports.clock import monotonic
from pelagos.ports.errors import OutageError

_LOG = logging.getLogger("pelagos.kubernetes")

SILENCE = 90.0
"""Seconds without an event after which a watch counts as broken; a bookmark comes about every minute."""
_PAGE = 500
_LIST_SECONDS = 30.0
_WATCH_SECONDS = 300
"""After this time the server ends a watch; the next one continues where it ended."""
_LONGEST_PAUSE = 30.0
_EXPIRED = 410
_MOST_GONE = 1000
"""How many deleted uids are remembered, in case the answer to one of our own writes arrives after the deletion."""

Name = tuple[str, str]
"""Namespace and name."""


class Watched:
    """``objects`` by namespace and name, in the last state that the API server reported.

    An empty ``namespace`` means all; ``<namespace>/<name>`` means that object alone.
    ``heard`` is when the server last said anything about this kind, by ``clock``; None before it did. ``problem`` says in words
    why nothing is heard; it is empty while the watch is open. ``changed`` is called after every change, with the names that
    changed. At most ``most`` objects are kept, and ``problem`` says when there are more.
    """

    def __init__(
        self,
        rest: KubernetesRest,
        kind: Collection,
        *,
        namespace: str = "",
        changed: Callable[[set[Name]], None] = lambda names: None,
        most: int = 20_000,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self.objects: dict[Name, Mapping[str, Any]] = {}
        self.heard: float | None = None
        self.problem = "nothing was read yet"
        self._rest = rest
        self._kind = kind
        self._namespace, _, only = namespace.partition("/")
        self._selected = {"fieldSelector": f"metadata.name={only}"} if only else {}
        self._changed = changed
        self._most = most
        self._clock = clock
        self._version = ""
        self._cut = ""
        self._gone: deque[object] = deque(maxlen=_MOST_GONE)

    async def run(self) -> None:
        """Follow the objects until cancelled. No answer of the server, and no lack of one, ends this."""
        pause = 0.5
        while True:
            try:
                if not self._version:
                    await self._list()
                pause = 0.5
                await self._follow()
                continue
            except OutageError as error:
                self._fail(str(error))
            except Exception as error:
                # An answer that no real API server gives must not end the only task that listens. Listed from scratch, because
                # the failure may have left out events.
                _LOG.exception("the watch of %s failed", self._kind.plural)
                self._fail(f"{type(error).__name__}: {error}")
                self._version = ""
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311  spreads load, guards nothing
            pause = min(2 * pause, _LONGEST_PAUSE)

    def put(self, body: Mapping[str, Any]) -> None:
        """Store the server's answer to one of our own writes, before the watch reports it."""
        metadata = body["metadata"]
        name = (str(metadata.get("namespace", "")), str(metadata["name"]))
        before = self.objects.get(name)
        if metadata.get("uid") in self._gone:
            return
        # The watch may have been faster; then its state is newer than this answer.
        if before is None or before["metadata"].get("uid") != metadata.get("uid"):
            self._set(name, body)
            self._changed({name})

    def _fail(self, problem: str) -> None:
        if problem != self.problem:
            _LOG.warning("%s are not followed: %s", self._kind.plural, problem)
        self.problem = problem

    def _hear(self) -> None:
        self.heard = self._clock()
        self.problem = self._cut

    async def _list(self) -> None:
        found: dict[Name, Mapping[str, Any]] = {}
        asked = {"limit": str(_PAGE), **self._selected}
        self._cut = ""
        while True:
            path = f"{self._kind.path(self._namespace)}?{urlencode(asked)}"
            answer = await self._rest.get(path, timeout=_LIST_SECONDS)
            if answer.status >= 400:
                raise OutageError("kubernetes", f"GET {path}: {answer.status} {answer.message}")
            for item in answer.body.get("items") or ():
                if len(found) >= self._most:
                    self._cut = f"there are more than {self._most} {self._kind.plural}; the others are left out"
                    break
                found[_name(item)] = self._slim(item)
            metadata = answer.body.get("metadata") or {}
            if self._cut or not metadata.get("continue"):
                break
            asked["continue"] = str(metadata["continue"])
        # Replaced only after the last page, so that readers never see half a list.
        before, self.objects = self.objects, found
        self._version = str(metadata.get("resourceVersion", ""))
        self._hear()
        self._changed(
            {name for name in before.keys() | found.keys() if _version(before.get(name)) != _version(found.get(name))}
        )

    async def _follow(self) -> None:
        asked = {
            "watch": "1",
            "allowWatchBookmarks": "true",
            "resourceVersion": self._version,
            "timeoutSeconds": str(_WATCH_SECONDS),
            **self._selected,
        }
        path = f"{self._kind.path(self._namespace)}?{urlencode(asked)}"
        async for event in self._rest.events(path, silence=SILENCE):
            body, kind = event.get("object") or {}, event.get("type")
            if kind == "ERROR":
                # Our resourceVersion is too old (410): list again. After any other error too, since events may have been missed.
                self._version = ""
                if body.get("code") == _EXPIRED:
                    return
                raise OutageError(
                    "kubernetes", f"watch of {self._kind.plural}: {body.get('message') or body.get('code')}"
                )
            self._hear()
            self._version = str((body.get("metadata") or {}).get("resourceVersion", ""))
            if kind == "BOOKMARK":
                continue
            name = _name(body)
            if kind == "DELETED":
                self.objects.pop(name, None)
                self._gone.append(body["metadata"].get("uid"))
            else:
                self._set(name, self._slim(body))
            self._changed({name})

    def _set(self, name: Name, body: Mapping[str, Any]) -> None:
        if name in self.objects or len(self.objects) < self._most:
            self.objects[name] = body
        else:
            self._cut = f"there are more than {self._most} {self._kind.plural}; the others are left out"

    def _slim(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """The object without managedFields, about half its size, and with its kind, which list items lack."""
        metadata = {key: value for key, value in body["metadata"].items() if key != "managedFields"}
        return {**body, "apiVersion": self._kind.api_version, "kind": self._kind.kind, "metadata": metadata}


def _name(body: Mapping[str, Any]) -> Name:
    return str(body["metadata"].get("namespace", "")), str(body["metadata"]["name"])


def _version(body: Mapping[str, Any] | None) -> str | None:
    return str(body["metadata"].get("resourceVersion")) if body else None
