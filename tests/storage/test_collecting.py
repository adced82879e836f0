"""Removing versions from a store on object storage: what remains is whole, wherever the removal stops and whatever takes over."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import dataset_versions
import image_sources
from faulty_proxy import Fault, Proxy
from object_storage import ObjectStorage
from pelagos_contract.failures import RefusedError
from pelagos_contract.splits import SPLITS
from pelagos_pipelines.preparation import collecting, published, versions
from pelagos_pipelines.steps.prepare import prepare
from pelagos_pipelines.storage import Bucket, Lease, StorageRefusedError, TakenOverError

Made = tuple[versions.Version, versions.Version]


@pytest.fixture
def store(bucket: str, proxy: Proxy) -> Bucket:
    return Bucket(f"s3://{bucket}/a")


@pytest.fixture
def made(tmp_path: Path, store: Bucket) -> Made:
    """Two versions that share all images but one each."""
    source = dataset_versions.detection(tmp_path / "source", images=4)
    first = dataset_versions.write(tmp_path / "store", source)
    (source / "images/1.png").unlink()
    (source / "labels/1.txt").unlink()
    image_sources.photo(source / "images/new.png", 60, 30, seed=9)
    image_sources.text(source / "labels/new.txt", "0 0.5 0.5 0.25 0.1")
    second = dataset_versions.write(tmp_path / "store", source)
    for version in (first, second):
        published.publish(version, store)
    return first, second


def named(version: versions.Version) -> list[str]:
    return [f"sha256:{version.digest}"]


def nobody_else() -> None:
    """A confirmation that always succeeds: nobody takes the store over."""


def require_whole(version: versions.Version, store: Bucket, scratch: Path) -> None:
    uri = f"{store.uri}/versions/{version.digest}"
    published.require_complete(uri, scratch / "complete")
    versions.verify(versions.read(published.download(uri, scratch / "whole", SPLITS)))


def is_there(version: versions.Version, store: Bucket) -> bool:
    return store.find(f"versions/{version.digest}/manifest.json") is not None


def test_the_step_removes_a_version_and_its_own_images(
    made: Made, store: Bucket, bucket: str, object_storage: ObjectStorage, tmp_path: Path
) -> None:
    first, second = made
    store.write("blobs/note.txt", b"of somebody else")
    before = {entry.path: entry.size for entry in store.list()}

    prepare(json.dumps({"remove": named(first)}), "", store.uri, f"s3://{bucket}/a/report")

    found = json.loads(object_storage.get(bucket, "a/report/result.json"))
    left = {entry.path: entry.size for entry in store.list() if not entry.path.startswith(("report/", ".lease"))}
    gone = {path: size for path, size in before.items() if path not in left}
    assert (found["images"], found["keptVersions"], found["keptImages"]) == (1, 1, 4)
    assert found["freedBytes"] == sum(gone.values())
    assert left["blobs/note.txt"], "what is no image of ours is left alone"
    assert found["keptBytes"] == sum(size for path, size in left.items() if len(path) == len("blobs/") + 65)
    assert not [path for path in left if first.digest in path]
    require_whole(second, store, tmp_path)


def test_wherever_it_ends_the_store_is_whole_and_the_next_one_finishes_it(
    made: Made, store: Bucket, proxy: Proxy, tmp_path: Path
) -> None:
    first, second = made
    ends = 0
    for allowed in range(10):
        for version in made:
            published.publish(version, store)
        left = [allowed]

        def die(method: str, path: str, left: list[int] = left) -> Fault | None:
            if method not in {"DELETE", "POST"}:
                return None
            left[0] -= 1
            return Fault("answer", 403, "AccessDenied") if left[0] < 0 else None

        proxy.fault = die
        try:
            collecting.from_bucket(store, named(first), tmp_path, nobody_else)
        except StorageRefusedError:
            ends += 1
        proxy.fault = lambda method, path: None
        require_whole(second, store, tmp_path)
        if is_there(first, store):
            require_whole(first, store, tmp_path)
        if ends == allowed:
            break
        again = collecting.from_bucket(store, named(first), tmp_path, nobody_else)
        assert again.kept_images == 4
        assert not [entry.path for entry in store.list("versions") if first.digest in entry.path]
    assert ends >= 3  # at least: the file that makes it a version, its other files, the images


def test_who_lost_the_store_removes_nothing_more(made: Made, store: Bucket, tmp_path: Path) -> None:
    first, _ = made
    lease = Lease(store, ".lease.json")
    lease.take()
    asked = [0]

    def confirm() -> None:
        asked[0] += 1
        if asked[0] == 2:  # after the version was removed, before its images are
            Lease(store, ".lease.json").take()
        lease.confirm()

    with pytest.raises(TakenOverError):
        collecting.from_bucket(store, named(first), tmp_path, confirm)

    assert not is_there(first, store)
    assert len(store.list("blobs")) == 5
    # The preparation that took over may have counted on these images.
    published.publish(first, store)
    for version in made:
        require_whole(version, store, tmp_path)


def test_a_preparation_that_lost_the_store_publishes_no_version(made: Made, store: Bucket) -> None:
    """Its images may have been removed since it checked which are in the store."""
    first, _ = made
    collecting.from_bucket(store, named(first), first.folder.parent, nobody_else)

    def lost() -> None:
        raise TakenOverError("another process has taken over")

    with pytest.raises(TakenOverError):
        published.publish(first, store, lost)

    assert not is_there(first, store)


def test_half_a_version_keeps_no_images_and_a_damaged_one_all(made: Made, store: Bucket, tmp_path: Path) -> None:
    first, second = made
    store.remove([f"versions/{first.digest}/manifest.json"])
    store.write(f"versions/{'0' * 64}/annotations.json", b"of a preparation that was killed")

    assert collecting.from_bucket(store, [f"sha256:{'9' * 64}"], tmp_path, nobody_else).images == 1

    store.write(f"versions/{second.digest}/manifest.json", b"{}")
    with pytest.raises(RefusedError, match="nothing was removed"):
        collecting.from_bucket(store, named(first), tmp_path, nobody_else)
    assert len(store.list("blobs")) == 4
