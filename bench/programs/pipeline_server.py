"""The fake Kubeflow Pipelines server over pods of a real API server. Started by queueing.py with the arguments of its
own command line; prints its address.

It follows all pods with one watch, as Argo does. The tests' server polls each pod three times a second, which with
a thousand pods would dominate the measurement.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import defaultdict
from typing import TYPE_CHECKING, Any

import aiohttp

from kfp_fake_server import __main__ as command_line
from kfp_fake_server import pods
from kfp_fake_server.backends import Outcome
from kfp_fake_server.kubernetes import Kubernetes

if TYPE_CHECKING:
    from kfp_fake_server.backends import Pod, Tell

_PAUSE = 0.5


class Watching(Kubernetes):
    """Notifies the server of each change of a pod."""

    _watches: dict[str, asyncio.Task[None]]

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._watches = {}
        self._seen: dict[str, dict[str, Any]] = {}
        self._news: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)

    async def _follow(self, pod: Pod, namespace: str, tell: Tell) -> Outcome | None:
        if namespace not in self._watches:
            self._watches[namespace] = asyncio.create_task(self._watch(namespace))
        while True:
            self._news[pod.name].clear()
            body = self._seen.get(pod.name, {})
            if "gone" in body:
                return Outcome(succeeded=False, message="pod deleted")
            judgement = pods.judge(body.get("status", {}))
            if isinstance(judgement, tuple):
                tell(*judgement)
            elif judgement.succeeded or "deletionTimestamp" not in body["metadata"]:
                self._seen.pop(pod.name)
                self._news.pop(pod.name)
                return judgement
            await self._publish(pod.run)
            await self._news[pod.name].wait()

    async def _watch(self, namespace: str) -> None:
        """List and watch in a loop."""
        root = f"/api/v1/namespaces/{namespace}/pods"
        while True:
            with contextlib.suppress(aiohttp.ClientError, asyncio.TimeoutError):
                _, listed = await self._ask("GET", root)
                for body in listed["items"]:
                    self._take(body)
                await self._follow_changes(f"{root}?watch=1&resourceVersion={listed['metadata']['resourceVersion']}")
            await asyncio.sleep(_PAUSE)

    async def _follow_changes(self, path: str) -> None:
        assert self._session is not None
        url, limits = self._connection.server + path, aiohttp.ClientTimeout(total=None)
        async with self._session.get(url, headers=self._connection.headers(), timeout=limits) as answer:
            async for line in answer.content:
                event = json.loads(line)
                if event["type"] == "ERROR":
                    return
                self._take(event["object"] | ({"gone": True} if event["type"] == "DELETED" else {}))

    def _take(self, body: dict[str, Any]) -> None:
        name = body["metadata"]["name"]
        self._seen[name] = body
        self._news[name].set()


if __name__ == "__main__":
    setattr(command_line, "Kubernetes", Watching)  # noqa: B010 - the name that the command line uses
    asyncio.run(command_line.serve(command_line.parse()))
