"""The guarantees for the operator, wherever objects are kept."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Protocol

import pytest

from pelagos.engines.folders.objects import FolderObjects
from pelagos.engines.s3.client import Service
from pelagos.engines.s3.objects import S3Objects
from pelagos.ports.errors import RejectedError
from pelagos.ports.fakes.objects import ObjectsFake

if TYPE_CHECKING:
    from pathlib import Path

    from object_storage import ObjectStorage
    from pelagos.ports.objects import Objects


class Store(Protocol):
    """A store, and the way in which a pipeline writes to it."""

    objects: Objects

    def write(self, path: str, text: str) -> None: ...


class FakeStore:
    """The shipped fake."""

    def __init__(self) -> None:
        self._fake = ObjectsFake()
        self.objects: Objects = self._fake

    def write(self, path: str, text: str) -> None:
        self._fake.files[path] = text


class FolderStore:
    """A folder; pipelines write to the uri."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "objects"
        self.objects: Objects = FolderObjects(self.root)

    def write(self, path: str, text: str) -> None:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)


class BucketStore:
    """A prefix of a bucket; pipelines write keys."""

    def __init__(self, storage: ObjectStorage, bucket: str) -> None:
        self._storage, self._bucket = storage, bucket
        self.objects: Objects = S3Objects(f"s3://{bucket}/a/prefix", Service(storage.url))

    def write(self, path: str, text: str) -> None:
        self._storage.put(self._bucket, f"a/prefix/{path}", text)


@pytest.fixture(params=["fake", "folder", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "s3":
        return BucketStore(request.getfixturevalue("object_storage"), request.getfixturevalue("bucket"))
    return FakeStore() if request.param == "fake" else FolderStore(tmp_path)


async def test_nothing_is_there_at_first(store: Store) -> None:
    assert await store.objects.read_json("reports/a/result.json") is None
    assert not await store.objects.exists("reports")
    await store.objects.delete("reports")


async def test_what_a_pipeline_wrote_is_read(store: Store) -> None:
    store.write("reports/a/result.json", json.dumps({"images": 3}))

    assert await store.objects.read_json("reports/a/result.json") == {"images": 3}
    assert await store.objects.exists("reports/a/result.json")
    assert await store.objects.exists("reports/a")


@pytest.mark.parametrize("text", ["", "{", "[1, 2]", "null", '"text"'])
async def test_what_is_not_a_json_object_is_rejected_by_name(store: Store, text: str) -> None:
    store.write("reports/a/result.json", text)

    with pytest.raises(RejectedError, match=r"reports/a/result\.json"):
        await store.objects.read_json("reports/a/result.json")


async def test_bytes_are_read_up_to_a_limit(store: Store) -> None:
    store.write("packages/a/probe.png", "12345")

    assert await store.objects.read_bytes("packages/a/probe.png", limit=5) == b"12345"
    assert await store.objects.read_bytes("packages/a/absent.png", limit=5) is None
    with pytest.raises(RejectedError, match=r"packages/a/probe\.png is larger than 4 bytes"):
        await store.objects.read_bytes("packages/a/probe.png", limit=4)


async def test_names_right_in_a_folder_are_listed_in_order(store: Store) -> None:
    for path in ("store/b", "store/a/1", "store/a/2", "store/c/d/3", "storey/4"):
        store.write(path, "{}")

    assert await store.objects.names("store") == ("a", "b", "c")
    assert await store.objects.names("store/b") == ()
    assert await store.objects.names("nowhere/at/all") == ()


async def test_a_document_is_written_in_the_place_of_the_one_before(store: Store) -> None:
    await store.objects.write_json("records/a/b.json", {"images": 3})
    await store.objects.write_json("records/a/b.json", {"images": 4, "classes": ["Köcherfliege"]})

    assert await store.objects.read_json("records/a/b.json") == {"images": 4, "classes": ["Köcherfliege"]}
    assert await store.objects.names("records/a") == ("b.json",)


async def test_a_folder_is_deleted_with_all_that_is_in_it_and_nothing_else(store: Store) -> None:
    for path in ("store/a/1", "store/a/b/2", "store/ab/3"):
        store.write(path, "{}")

    await store.objects.delete("store/a")
    await store.objects.delete("store/a")

    assert not await store.objects.exists("store/a")
    assert await store.objects.exists("store/ab/3")


async def test_a_file_is_deleted_alone(store: Store) -> None:
    store.write("store/a/1", "{}")
    store.write("store/a/2", "{}")

    await store.objects.delete("store/a/1")

    assert not await store.objects.exists("store/a/1")
    assert await store.objects.exists("store/a/2")


async def test_a_path_below_a_file_is_not_there(store: Store) -> None:
    store.write("store/a", "{}")

    assert not await store.objects.exists("store/a/b")
    assert await store.objects.read_json("store/a/b") is None
    await store.objects.delete("store/a/b")
    assert await store.objects.exists("store/a")


def test_uris_lead_back_to_their_paths(store: Store) -> None:
    for path in ("", "a", "store/versions/12ab"):
        assert store.objects.path(store.objects.uri(path)) == path
    root = store.objects.uri("")
    assert store.objects.uri("a/b") == f"{root}/a/b"
    for outside in ("/etc/passwd", "relative", "s3://bucket/a", f"{root}-2/a", f"{root}/../a", f"{root}/a/../../b"):
        assert store.objects.path(outside) is None


@pytest.mark.parametrize("path", ["..", "../a", "a/../../b", "/etc/passwd", "a//b", "./a", "a/"])
async def test_paths_out_of_the_store_are_rejected(store: Store, path: str) -> None:
    with pytest.raises(RejectedError, match="inside of the store"):
        store.objects.uri(path)
    for call in (store.objects.read_json, store.objects.exists, store.objects.names, store.objects.delete):
        with pytest.raises(RejectedError, match="inside of the store"):
            await call(path)
    with pytest.raises(RejectedError, match="inside of the store"):
        await store.objects.write_json(path, {})


async def test_the_whole_store_cannot_be_deleted(store: Store) -> None:
    store.write("a", "{}")

    with pytest.raises(RejectedError):
        await store.objects.delete("")

    assert await store.objects.exists("a")


async def test_when_something_was_written_last_is_told_of_files_and_folders(store: Store) -> None:
    assert await store.objects.written_at("reports") is None

    store.write("reports/one/result.json", "{}")

    for path in ("reports", "reports/one"):
        written = await store.objects.written_at(path)
        assert written is not None
        assert written <= datetime.now(UTC) + timedelta(minutes=1)
    assert await store.objects.written_at("elsewhere") is None
