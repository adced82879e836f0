"""Objects kept in memory by list and watch: correct on a real API server, and regardless of the connection."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from aiohttp import web

from control_plane import ControlPlane
from pelagos.engines.kubernetes import connecting, watching
from pelagos.engines.kubernetes.objects import Collection
from pelagos.engines.kubernetes.rest import KubernetesRest
from pelagos.engines.kubernetes.watching import Watched
from plane_fixtures import api, plane

__all__ = ["api", "plane"]

MAPS = Collection("v1", "ConfigMap", "configmaps")


@contextlib.asynccontextmanager
async def following(watched: Watched) -> AsyncIterator[None]:
    task = asyncio.create_task(watched.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until(true: Callable[[], Any]) -> None:
    async with asyncio.timeout(60):
        while not true():  # noqa: ASYNC110  no event to wait for
            await asyncio.sleep(0.01)


async def test_what_is_in_memory_follows_the_api_server(api: KubernetesRest, plane: ControlPlane) -> None:
    plane.create_namespace("followed")
    path = "/api/v1/namespaces/followed/configmaps"
    changes: list[set[watching.Name]] = []
    await api.ask("POST", path, {"metadata": {"name": "before"}, "data": {"a": "1"}})
    watched = Watched(api, MAPS, namespace="followed", changed=changes.append)
    assert watched.heard is None
    assert watched.problem

    async with following(watched):
        await until(lambda: ("followed", "before") in watched.objects and not watched.problem)
        assert watched.heard is not None
        assert watched.objects["followed", "before"]["kind"] == "ConfigMap"
        assert "managedFields" not in watched.objects["followed", "before"]["metadata"]

        await api.ask("POST", path, {"metadata": {"name": "later"}, "data": {"a": "1"}})
        await until(lambda: ("followed", "later") in watched.objects)
        patch = {"data": {"a": "2"}}
        await api.ask("PATCH", f"{path}/later", patch, content="application/merge-patch+json")
        await until(lambda: watched.objects["followed", "later"]["data"]["a"] == "2")
        await api.ask("DELETE", f"{path}/before", {})
        await until(lambda: ("followed", "before") not in watched.objects)
        assert {("followed", "later")} in changes


class Server:
    """Lists two maps, one per page; a watch gets what ``script`` has for it, and then ends."""

    def __init__(self) -> None:
        self.lists = 0
        self.watches: list[str] = []
        self.script: list[list[dict[str, Any]]] = []
        self.ending = asyncio.Event()
        """Ends a watch that has no script."""
        self.away = False
        self.url = ""

    async def answer(self, request: web.Request) -> web.StreamResponse:
        if self.away:
            return web.json_response({"message": "etcd is away"}, status=503)
        if "watch" not in request.query:
            page = "2" if "continue" in request.query else "1"
            self.lists += page == "1"
            metadata = {"resourceVersion": f"{self.lists}00"} | ({"continue": "more"} if page == "1" else {})
            return web.json_response({"metadata": metadata, "items": [map_(f"map-{page}", "1")]})
        self.watches.append(request.query["resourceVersion"])
        if not self.script:
            response = web.StreamResponse()
            await response.prepare(request)
            await self.ending.wait()
            return response
        events = self.script.pop(0)
        return web.Response(body=b"".join(json.dumps(event).encode() + b"\n" for event in events))


def map_(name: str, version: str) -> dict[str, Any]:
    return {"metadata": {"name": name, "namespace": "sea", "uid": name, "resourceVersion": version}}


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    made = Server()
    application = web.Application()
    application.router.add_get("/{path:.*}", made.answer)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield made
    made.ending.set()
    await runner.cleanup()


@pytest.fixture
async def rest(server: Server) -> AsyncIterator[KubernetesRest]:
    made = KubernetesRest(server.url, tls=None)
    yield made
    await made.close()


async def test_a_list_comes_page_by_page_and_a_watch_goes_on_where_the_last_one_ended(
    server: Server, rest: KubernetesRest
) -> None:
    changed = map_("map-2", "150")
    server.script = [
        [
            {"type": "MODIFIED", "object": changed},
            {"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": "170"}}},
        ],
        [{"type": "DELETED", "object": map_("map-1", "180")}],
    ]
    watched = Watched(rest, MAPS)

    async with following(watched):
        await until(lambda: len(server.watches) == 3)

    assert server.watches == ["100", "170", "180"]
    assert server.lists == 1
    assert watched.objects.keys() == {("sea", "map-2")}
    assert watched.objects["sea", "map-2"]["metadata"]["resourceVersion"] == "150"


async def test_a_watch_that_expired_is_followed_by_a_new_list(server: Server, rest: KubernetesRest) -> None:
    server.script = [
        [
            {"type": "ADDED", "object": map_("gone-meanwhile", "110")},
            {"type": "ERROR", "object": {"kind": "Status", "code": 410, "message": "too old resource version"}},
        ]
    ]
    changes: list[set[watching.Name]] = []
    watched = Watched(rest, MAPS, changed=changes.append)

    async with following(watched):
        await until(lambda: len(server.watches) == 2)

    assert server.watches == ["100", "200"]
    assert ("sea", "gone-meanwhile") not in watched.objects
    assert {("sea", "gone-meanwhile")} in changes[2:]


async def test_while_the_server_is_away_all_is_kept_and_the_reason_is_told(
    server: Server, rest: KubernetesRest
) -> None:
    watched = Watched(rest, MAPS)
    async with following(watched):
        await until(lambda: len(server.watches) == 1)
        server.away = True
        server.ending.set()
        await until(lambda: "etcd is away" in watched.problem)
        assert len(watched.objects) == 2
        heard = watched.heard
        server.away = False
        await until(lambda: not watched.problem)
        assert watched.heard != heard


async def test_a_line_that_no_server_would_say_ends_nothing(server: Server, rest: KubernetesRest) -> None:
    server.script = [[{"type": "ADDED", "object": {"metadata": {}}}], [{"type": "ADDED", "object": map_("new", "300")}]]
    watched = Watched(rest, MAPS)
    async with following(watched):
        await until(lambda: ("sea", "new") in watched.objects)


async def test_no_more_than_a_bound_is_kept_and_that_is_told(server: Server, rest: KubernetesRest) -> None:
    watched = Watched(rest, MAPS, most=1)
    async with following(watched):
        await until(lambda: server.watches)
    assert len(watched.objects) == 1
    assert "more than 1 configmaps" in watched.problem


async def test_the_kubeconfig_of_an_embedded_installation_leads_to_its_server(plane: ControlPlane) -> None:
    rest = connecting.connect(plane.kubeconfig)
    assert (await rest.get("/version")).status == 200
    await rest.close()


async def test_a_refusal_is_told_in_the_words_of_the_server(plane: ControlPlane) -> None:
    stranger = KubernetesRest(plane.url, tls=plane.tls(), token="nobody")
    watched = Watched(stranger, MAPS)
    async with following(watched):
        await until(lambda: "401" in watched.problem)
    await stranger.close()
    assert watched.heard is None


async def test_what_was_just_written_is_there_before_the_watch_tells_it(rest: KubernetesRest) -> None:
    watched = Watched(rest, MAPS)
    watched.put(map_("made", "5"))
    watched.put(map_("made", "4"))
    assert watched.objects["sea", "made"]["metadata"]["resourceVersion"] == "5"


async def test_what_was_deleted_meanwhile_does_not_come_back_by_the_answer_to_a_write(
    api: KubernetesRest, plane: ControlPlane
) -> None:
    watched = Watched(api, MAPS)
    async with following(watched):
        await until(lambda: watched.heard is not None and not watched.problem)
        path = MAPS.path("default")
        made = (
            await api.ask("POST", path, {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "brief"}})
        ).body
        await until(lambda: ("default", "brief") in watched.objects)
        await api.ask("DELETE", MAPS.path("default", "brief"), {})
        await until(lambda: ("default", "brief") not in watched.objects)
        watched.put(made)
        assert ("default", "brief") not in watched.objects
