"""What is received from a real API server: lists, events and bookmarks of our kinds, and nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping

import aiohttp
import kopf
import pytest

from control_plane import ControlPlane
from pelagos.api import meta
from pelagos.handlers import listening
from pelagos.observability.watches import Watches


class Heard(Watches):
    """Records everything that is received."""

    def __init__(self) -> None:
        super().__init__()
        self.all: list[str] = []

    def heard(self, kind: str) -> None:
        self.all.append(kind)


@pytest.fixture
def heard(monkeypatch: pytest.MonkeyPatch) -> Heard:
    """Replaces the watches of this process."""
    made = Heard()
    monkeypatch.setattr(listening, "WATCHES", made)
    return made


class Lists:
    """Records the reports about lists."""

    def __init__(self) -> None:
        self.told: list[tuple[object, ...]] = []

    def list_asked(self, kind: str) -> None:
        self.told.append(("asked", kind))

    def page_came(self, kind: str, version: str, found: Mapping[str, str]) -> None:
        self.told.append(("came", kind, version, found))

    def list_ended(self, kind: str, version: str, uids: frozenset[str]) -> None:
        self.told.append(("ended", kind, version, uids))


@pytest.fixture
def lists() -> Lists:
    """Replaces the loop."""
    return Lists()


@pytest.fixture
async def sessions(bare: ControlPlane, lists: Lists) -> AsyncIterator[list[aiohttp.ClientSession]]:
    """Sessions as kopf gets them: a new one after each login."""
    bare.apply_crds()
    found = kopf.ConnectionInfo(server=bare.url, ca_path=str(bare.authority), token=bare.token)
    pages = listening.Pages(lambda: lists)
    made = [listening.session(found, pages).aiohttp_session for _ in range(2)]
    yield made
    for session in made:
        await session.close()


@pytest.fixture
def session(sessions: list[aiohttp.ClientSession]) -> aiohttp.ClientSession:
    """One of the sessions."""
    return sessions[0]


async def test_lists_and_whatever_comes_on_a_watch_are_heard(
    bare: ControlPlane, session: aiohttp.ClientSession, heard: Heard
) -> None:
    root = f"{bare.url}/apis/{meta.API_VERSION}"
    async with session.get(f"{root}/datasets") as answer:
        version = (await answer.json())["metadata"]["resourceVersion"]
    assert heard.all == ["Dataset"]

    query = {"watch": "true", "allowWatchBookmarks": "true", "timeoutSeconds": "5", "resourceVersion": version}
    async with session.get(f"{root}/datasets", params=query) as watch:
        assert heard.all == ["Dataset"] * 2, "the watch itself was answered"
        await asyncio.to_thread(create, bare)
        lines = [chunk async for chunk in watch.content.iter_chunked(2**20)]

    assert b"ADDED" in b"".join(lines)
    assert heard.all == ["Dataset"] * (2 + len(lines))


async def test_the_pages_of_a_list_are_one_list_also_when_kopf_logs_in_between_them(
    bare: ControlPlane, sessions: list[aiohttp.ClientSession], lists: Lists
) -> None:
    for name in ("a", "b", "c"):
        await asyncio.to_thread(create, bare, name)
    query, uids = {"limit": "2"}, set[str]()
    told: list[tuple[object, ...]] = [("asked", "Dataset")]
    while query:
        async with sessions["continue" in query].get(
            f"{bare.url}/apis/{meta.API_VERSION}/datasets", params=query
        ) as answer:
            page = await answer.json()
        found = {item["metadata"]["uid"]: item["metadata"]["resourceVersion"] for item in page["items"]}
        version = page["metadata"]["resourceVersion"]
        following = page["metadata"].get("continue")
        query = {"limit": "2", "continue": following} if following else {}
        uids |= found.keys()
        told += [("came", "Dataset", version, found)]
        told += [] if following else [("ended", "Dataset", version, frozenset(uids))]
        assert lists.told == told

    assert len(uids) == 3


async def test_a_list_that_breaks_off_is_none(bare: ControlPlane, session: aiohttp.ClientSession, lists: Lists) -> None:
    for name in ("a", "b"):
        await asyncio.to_thread(create, bare, name)
    for _ in range(2):
        async with session.get(f"{bare.url}/apis/{meta.API_VERSION}/datasets", params={"limit": "1"}) as answer:
            await answer.json()

    assert [told[0] for told in lists.told] == ["asked", "came"] * 2


def create(plane: ControlPlane, name: str = "one") -> None:
    spec = {"source": {"volume": {"path": "plankton"}}, "task": "Detection"}
    body = {"apiVersion": meta.API_VERSION, "kind": "Dataset", "metadata": {"name": name}, "spec": spec}
    plane.request("POST", f"/apis/{meta.API_VERSION}/namespaces/default/datasets", body)


async def test_other_kinds_and_refusals_are_not_heard(
    bare: ControlPlane, session: aiohttp.ClientSession, heard: Heard
) -> None:
    for path in ("/api/v1/namespaces", f"/apis/{meta.API_VERSION}", f"/apis/{meta.API_VERSION}/nonsense"):
        async with session.get(bare.url + path) as answer:
            await answer.read()
    stranger = {"Authorization": "Bearer wrong"}
    async with session.get(f"{bare.url}/apis/{meta.API_VERSION}/datasets", headers=stranger) as refused:
        assert refused.status == 401

    assert heard.all == []


async def test_lists_are_not_compressed_however_long(bare: ControlPlane, session: aiohttp.ClientSession) -> None:
    namespace = "long"
    bare.create_namespace(namespace)
    root = f"/apis/{meta.API_VERSION}/namespaces/{namespace}/datasets"
    spec = {"source": {"volume": {"path": "plankton"}}, "task": "Detection"}
    for number in range(4):
        # Four of them are longer than the 128 KiB from which on an API server compresses for those who take it.
        metadata = {"name": f"reef-{number}", "annotations": {"example.org/notes": "x" * 50_000}}
        body = {"apiVersion": meta.API_VERSION, "kind": "Dataset", "metadata": metadata, "spec": spec}
        bare.request("POST", root, body)

    async with session.get(bare.url + root) as answer:
        listed = await answer.json()

    assert "Content-Encoding" not in answer.headers
    assert {item["metadata"]["name"] for item in listed["items"]} == {f"reef-{number}" for number in range(4)}
