"""A place on object storage: what is downloaded, what is uploaded and in which order, and who may write."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from faulty_proxy import Fault, Proxy
from object_storage import ObjectStorage
from pelagos_pipelines.storage import (
    Bucket,
    Lease,
    Place,
    StorageError,
    StorageRefusedError,
    TakenOverError,
    buckets,
    leases,
)


def everything(path: str) -> bool:
    return not path.endswith(".partial")


def test_a_folder_is_used_as_it_is(tmp_path: Path) -> None:
    folder = tmp_path / "store"
    place = Place(str(folder), tmp_path / "scratch")
    assert place.folder == folder
    assert place.kept_as(folder / "a") == str(folder / "a")
    place.pull()
    place.push(everything)
    place.remove("a")
    assert not folder.exists()
    assert not (tmp_path / "scratch").exists()


def test_only_what_changed_goes_back(proxy: Proxy, bucket: str, object_storage: ObjectStorage, tmp_path: Path) -> None:
    for name in ("kept", "changed", "deleted"):
        object_storage.put(bucket, f"place/{name}", "1")
    object_storage.put(bucket, "places/other", "1")
    place = Place(f"s3://{bucket}/place", tmp_path / "scratch")
    place.pull()
    (place.folder / "changed").write_text("2")
    (place.folder / "deleted").unlink()
    (place.folder / "new" / "deep").mkdir(parents=True)
    (place.folder / "new" / "deep" / "file").write_text("3")
    (place.folder / "x.partial").write_text("no")
    (place.folder / "link").symlink_to("/etc/passwd")
    place.push(everything)
    place.push(everything)

    assert object_storage.keys(bucket) == ["place/changed", "place/kept", "place/new/deep/file", "places/other"]
    assert object_storage.get(bucket, "place/changed") == b"2"
    assert sorted(path for method, path in proxy.seen if method == "PUT") == [
        f"/{bucket}/place/changed",
        f"/{bucket}/place/new/deep/file",
    ]
    assert place.kept_as(place.folder / "new") == f"s3://{bucket}/place/new"


def test_of_a_folder_that_another_process_writes_to_nothing_is_brought_or_removed(
    bucket: str, object_storage: ObjectStorage, tmp_path: Path
) -> None:
    for name in ("trials/1/last.pt", "trials/1/best.pt", "trials/10/last.pt"):
        object_storage.put(bucket, f"place/{name}", "1")
    place = Place(f"s3://{bucket}/place", tmp_path / "scratch")
    place.pull()
    for trial in ("1", "10"):
        (place.folder / "trials" / trial / "last.pt").write_text("2")
    (place.folder / "trials/1/best.pt").unlink()

    place.changing.add("trials/1")
    place.push(everything)
    assert [object_storage.get(bucket, f"place/trials/{trial}/last.pt") for trial in ("1", "10")] == [b"1", b"2"]
    assert object_storage.get(bucket, "place/trials/1/best.pt") == b"1"

    place.changing.clear()
    place.push(everything)
    assert object_storage.keys(bucket) == ["place/trials/1/last.pt", "place/trials/10/last.pt"]
    assert object_storage.get(bucket, "place/trials/1/last.pt") == b"2"


def test_what_makes_it_visible_is_written_after_all_else_and_not_at_all_when_that_fails(
    proxy: Proxy, bucket: str, object_storage: ObjectStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(buckets, "TIMEOUTS", replace(buckets.TIMEOUTS, retries=0))
    place = Place(f"s3://{bucket}/place", tmp_path / "scratch")
    for name in ("z", "result.json", "a"):
        (place.folder / name).write_text(name)
    proxy.fail(Fault("answer", 500, "InternalError"), part="/z")
    with pytest.raises(StorageError, match="InternalError"):
        place.push(everything, lambda path: int(path == "result.json"))
    assert "place/result.json" not in object_storage.keys(bucket)

    proxy.fault = lambda method, path: None
    place.push(everything, lambda path: int(path == "result.json"))
    written = [path for method, path in proxy.seen if method == "PUT"]
    assert written[-1] == f"/{bucket}/place/result.json"
    assert object_storage.keys(bucket) == ["place/a", "place/result.json", "place/z"]


def test_what_an_earlier_process_left_in_the_scratch_folder_does_not_count(
    bucket: str, object_storage: ObjectStorage, tmp_path: Path
) -> None:
    (tmp_path / "scratch").mkdir()
    (tmp_path / "scratch" / "stale").write_text("from before")
    place = Place(f"s3://{bucket}/place", tmp_path / "scratch")
    place.push(everything)
    assert object_storage.keys(bucket) == []


def test_who_takes_a_lease_later_keeps_it(bucket: str) -> None:
    first, second = (Lease(Bucket(f"s3://{bucket}"), ".lease.json") for _ in range(2))
    first.take()
    first.confirm()
    second.take()
    second.confirm()
    with pytest.raises(TakenOverError, match="another process has taken over"):
        first.confirm()
    second.confirm()


def test_a_renewal_whose_answer_was_lost_is_still_ours(proxy: Proxy, bucket: str) -> None:
    lease = Lease(Bucket(f"s3://{bucket}"), ".lease.json")
    lease.take()
    proxy.fail(Fault("lose"), times=1, method="PUT")
    lease.confirm()
    lease.confirm()


def test_a_service_without_conditional_writes_is_refused(proxy: Proxy, bucket: str) -> None:
    proxy.fail(Fault("answer", 501, "NotImplemented"), method="PUT")
    with pytest.raises(StorageRefusedError, match="no conditional writes"):
        Lease(Bucket(f"s3://{bucket}"), ".lease.json").take()


def test_a_lease_is_waited_for_until_it_is_released(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "POLL", 0.05)
    first, second = (Lease(Bucket(f"s3://{bucket}"), ".lease.json") for _ in range(2))
    first.wait()
    waiting = threading.Thread(target=second.wait, daemon=True)
    waiting.start()
    time.sleep(0.5)
    assert waiting.is_alive()
    first.release()
    waiting.join(60)
    assert not waiting.is_alive()
    second.confirm()


def test_a_holder_without_a_sign_of_life_is_replaced_and_one_with_signs_is_not(
    bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "POLL", 0.05)
    monkeypatch.setattr(leases, "TTL", 1.5)
    first, second = (Lease(Bucket(f"s3://{bucket}"), ".lease.json") for _ in range(2))
    first.wait()
    waiting = threading.Thread(target=second.wait, daemon=True)
    with first.renewed():
        waiting.start()
        time.sleep(2.5)
        assert waiting.is_alive()
    waiting.join(60)
    assert not waiting.is_alive()
    with pytest.raises(TakenOverError):
        first.confirm()
