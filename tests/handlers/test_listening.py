"""What is heard of a real API server: lists, events and bookmarks of our kinds, and nothing else."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

import aiohttp
import kopf
import pytest

from control_plane import ControlPlane
from pelagos.api import kinds, meta
from pelagos.handlers import listening
from pelagos.observability.watches import Watches
from pelagos.ports.cluster import Key, Resource


class Heard(Watches):
    """Keeps everything that is heard."""

    def __init__(self) -> None:
        super().__init__()
        self.all: list[str] = []

    def heard(self, kind: str) -> None:
        self.all.append(kind)


@pytest.fixture
def heard(monkeypatch: pytest.MonkeyPatch) -> Heard:
    """In place of the process's own."""
    made = Heard()
    monkeypatch.setattr(listening, "WATCHES", made)
    return made


class Receiver:
    """Keeps what is told."""

    def __init__(self) -> None:
        self.told: list[tuple[object, ...]] = []
        self.known: set[Key] = set()

    def list_asked(self, kind: str) -> None:
        self.told.append(("asked", kind))

    def page_came(self, kind: str, version: str, found: Mapping[str, str]) -> None:
        self.told.append(("came", kind, version, found))

    def list_ended(self, kind: str, version: str, uids: frozenset[str]) -> None:
        self.told.append(("ended", kind, version, uids))

    def is_news(self, key: Key, uid: str, version: str) -> bool:
        del uid, version
        return key not in self.known

    def seen(self, resource: Resource) -> None:
        self.told.append(("seen", resource.key))

    def gone(self, key: Key, uid: str) -> None:
        self.told.append(("gone", key, uid))


@pytest.fixture
def receiver() -> Receiver:
    """In the place of the loop."""
    return Receiver()


@pytest.fixture
def working() -> set[str]:
    """Kinds that are reconciled."""
    return {"Dataset"}


@pytest.fixture
async def sessions(
    bare: ControlPlane, receiver: Receiver, working: set[str]
) -> AsyncIterator[list[aiohttp.ClientSession]]:
    """As kopf gets them: another one after each log-in."""
    bare.apply_crds()
    found = kopf.ConnectionInfo(server=bare.url, ca_path=str(bare.authority), token=bare.token)
    shown = listening.Shown(lambda: receiver, lambda: working)
    made = [listening.session(found, shown).aiohttp_session for _ in range(2)]
    yield made
    for session in made:
        await session.close()


@pytest.fixture
def session(sessions: list[aiohttp.ClientSession]) -> aiohttp.ClientSession:
    """One of them."""
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

    bookmark, *_ = (json.loads(line) for line in b"".join(lines).splitlines())
    assert bookmark["type"] == "BOOKMARK", "kopf learns how far the watch has come"
    assert int(bookmark["object"]["metadata"]["resourceVersion"]) > int(version)
    assert heard.all == ["Dataset"] * (2 + len(lines))


async def test_the_pages_of_a_list_are_one_list_also_when_kopf_logs_in_between_them(
    bare: ControlPlane, sessions: list[aiohttp.ClientSession], receiver: Receiver
) -> None:
    path = f"/apis/{meta.API_VERSION}/namespaces/default/datasets"
    for name in ("a", "b", "c"):
        await asyncio.to_thread(create, bare, name)
    there = {item["metadata"]["name"]: item["metadata"] for item in bare.request("GET", path)["items"]}
    query = {"limit": "2"}
    told: list[tuple[object, ...]] = [("asked", "Dataset")]
    for names in ("ab", "c"):
        async with sessions["continue" in query].get(bare.url + path, params=query) as answer:
            page = await answer.json()
        assert page["items"] == [], "kopf has nothing to hand on"
        version, following = page["metadata"]["resourceVersion"], page["metadata"].get("continue")
        query = {"limit": "2", "continue": following}
        found = {there[name]["uid"]: there[name]["resourceVersion"] for name in names}
        told += [("came", "Dataset", version, found)]
        told += [("seen", Key("Dataset", "default", name)) for name in names]
        told += [] if following else [("ended", "Dataset", version, frozenset(each["uid"] for each in there.values()))]
        assert receiver.told == told

    assert told[-1][0] == "ended"


async def test_a_list_that_breaks_off_is_none(
    bare: ControlPlane, session: aiohttp.ClientSession, receiver: Receiver
) -> None:
    for name in ("a", "b"):
        await asyncio.to_thread(create, bare, name)
    for _ in range(2):
        async with session.get(f"{bare.url}/apis/{meta.API_VERSION}/datasets", params={"limit": "1"}) as answer:
            await answer.json()

    assert [told[0] for told in receiver.told] == ["asked", "came", "seen"] * 2


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


def event(kind: str, name: str, version: int = 7, **body: Any) -> bytes:
    metadata = {"name": name, "namespace": "default", "uid": f"uid of {name}", "resourceVersion": str(version)}
    return json.dumps({"type": kind, "object": {"metadata": metadata, **body}}).encode() + b"\n"


def bookmark(version: int) -> bytes:
    return b'{"type":"BOOKMARK","object":{"metadata":{"resourceVersion":"%d"}}}\n' % version


@dataclass
class Stream:
    """What the server sends, in these chunks."""

    chunks: list[bytes]

    async def iter_chunked(self, _size: int) -> AsyncIterator[bytes]:
        for chunk in self.chunks:
            yield chunk


async def left_for_kopf(receiver: Receiver, working: set[str], *chunks: bytes) -> list[bytes]:
    shown = listening.Shown(lambda: receiver, lambda: working)
    watch = listening.Content(cast("aiohttp.StreamReader", Stream([*chunks])), kinds.DATASET, shown)
    return [chunk async for chunk in watch.iter_chunked(2**20)]


async def test_events_go_to_the_loop_and_kopf_learns_how_far_the_watch_is(
    receiver: Receiver, working: set[str]
) -> None:
    sent = event("ADDED", "a", 1) + event("MODIFIED", "b", 2) + event("DELETED", "c", 3)

    left = await left_for_kopf(receiver, working, sent[:-40], sent[-40:])

    keys = [Key("Dataset", "default", name) for name in "abc"]
    assert receiver.told == [("seen", keys[0]), ("seen", keys[1]), ("gone", keys[2], "uid of c")]
    assert left == [bookmark(2), bookmark(3)]


async def test_what_is_known_is_not_shown_again(receiver: Receiver, working: set[str]) -> None:
    receiver.known = {Key("Dataset", "default", "a")}

    assert await left_for_kopf(receiver, working, event("MODIFIED", "a", 9)) == [bookmark(9)]
    assert receiver.told == []


async def test_of_kinds_that_are_not_reconciled_only_the_end_is_shown(receiver: Receiver, working: set[str]) -> None:
    working.clear()

    await left_for_kopf(receiver, working, event("ADDED", "a") + event("DELETED", "a"))

    assert [told[0] for told in receiver.told] == ["gone"]


async def test_bookmarks_and_errors_are_kopfs(receiver: Receiver, working: set[str]) -> None:
    error = b'{"type":"ERROR","object":{"kind":"Status","metadata":{},"code":410}}\n'

    assert await left_for_kopf(receiver, working, event("ADDED", "a", 5) + error) == [bookmark(5) + error]
    assert await left_for_kopf(receiver, working, bookmark(6)) == [bookmark(6)]


async def test_one_resource_that_cannot_be_read_does_not_end_the_watch(
    receiver: Receiver, working: set[str], caplog: pytest.LogCaptureFixture
) -> None:
    broken = event("ADDED", "a", status=["nothing", "that", "a", "schema", "allows"])

    await left_for_kopf(receiver, working, broken + event("ADDED", "b"))

    assert receiver.told == [("seen", Key("Dataset", "default", "b"))]
    assert "uid of a" in caplog.text


async def test_a_watch_that_says_no_json_is_a_broken_connection(receiver: Receiver, working: set[str]) -> None:
    with pytest.raises(aiohttp.ClientPayloadError, match="the watch of Dataset says no JSON"):
        await left_for_kopf(receiver, working, b"<html>\n")
