"""An API server for tests of programs that follow resources: lists and watches like the real one, and fails as tests say."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from aiohttp import web

PLURALS = {"modelservices": "ModelService", "trials": "Trial", "configmaps": "ConfigMap", "secrets": "Secret"}


class ApiServer:
    """Objects by plural, namespace and name. ``unserved`` are plurals that it does not know."""

    def __init__(self) -> None:
        self.objects: dict[tuple[str, str, str], dict[str, Any]] = {}
        self.unserved: set[str] = set()
        self.lists = 0
        self.page = 2
        self._version = 10
        self._events: list[tuple[int, str, str, dict[str, Any]]] = []
        self._oldest = 0
        self._changed = asyncio.Condition()
        self._runner: web.ServerRunner | None = None
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def start(self) -> None:
        self._runner = web.ServerRunner(web.Server(self._answer, access_log=None), shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port).start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """Stop as if it were killed: watches break, and nobody answers."""
        assert self._runner is not None
        await self._runner.cleanup()

    async def put(self, plural: str, namespace: str, name: str, **content: Any) -> None:
        await self._note(
            "MODIFIED" if (plural, namespace, name) in self.objects else "ADDED", plural, namespace, name, content
        )

    async def delete(self, plural: str, namespace: str, name: str) -> None:
        body = self.objects.pop((plural, namespace, name))
        await self._note("DELETED", plural, namespace, name, body)

    async def forget(self) -> None:
        """Compact older versions: watches from them get 410 in the stream."""
        self._version += 1
        self._oldest = self._version
        self._events.clear()
        async with self._changed:
            self._changed.notify_all()

    async def _note(self, kind: str, plural: str, namespace: str, name: str, content: dict[str, Any]) -> None:
        self._version += 1
        metadata = {
            "namespace": namespace,
            "name": name,
            "uid": f"{plural}-{namespace}-{name}",
            **content.get("metadata", {}),
            "resourceVersion": str(self._version),
        }
        body = {"apiVersion": "pelagos.dev/v1alpha1", "kind": PLURALS[plural], **content, "metadata": metadata}
        if kind != "DELETED":
            self.objects[plural, namespace, name] = body
        self._events.append((self._version, kind, plural, body))
        async with self._changed:
            self._changed.notify_all()

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        parts = request.path.split("/")
        plural = parts[-1]
        namespace = parts[parts.index("namespaces") + 1] if "namespaces" in parts else ""
        if plural not in PLURALS or plural in self.unserved:
            return web.Response(status=404, text="404 page not found")
        if request.query.get("watch"):
            return await self._watch(request, plural, namespace)
        self.lists += 1
        named = request.query.get("fieldSelector", "").removeprefix("metadata.name=")
        found = [
            body
            for (kind, where, name), body in sorted(self.objects.items())
            if kind == plural and namespace in ("", where) and named in ("", name)
        ]
        start = int(request.query.get("continue") or 0)
        stop = start + self.page
        metadata = {"resourceVersion": str(self._version)} | ({"continue": str(stop)} if stop < len(found) else {})
        return web.json_response({"metadata": metadata, "items": found[start:stop]})

    async def _watch(self, request: web.BaseRequest, plural: str, namespace: str) -> web.StreamResponse:
        since = int(request.query["resourceVersion"])
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        while True:
            if since < self._oldest:
                status = {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old resource version"}
                await self._say(response, "ERROR", status)
                return response
            for version, kind, of, body in list(self._events):
                if version > since and of == plural and namespace in ("", body["metadata"]["namespace"]):
                    await self._say(response, kind, body)
            since = max(since, self._version)
            async with self._changed:
                await self._changed.wait()

    async def _say(self, response: web.StreamResponse, kind: str, body: dict[str, Any]) -> None:
        await response.write(json.dumps({"type": kind, "object": body}).encode() + b"\n")
