"""Reading and writing objects, and how failures of the storage are distinguished and reported."""

from __future__ import annotations

import errno
import hashlib
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from faulty_proxy import Fault, Proxy, make_authority, proxied
from object_storage import ObjectStorage
from pelagos_pipelines import storage
from pelagos_pipelines.storage import Bucket, ChangedError, StorageError, StorageRefusedError, buckets, places


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Timeouts of seconds instead of minutes."""
    monkeypatch.setattr(buckets, "TIMEOUTS", replace(buckets.TIMEOUTS, read=0.5, retries=1, retry_timeout=2))
    monkeypatch.setattr(buckets, "TRIES", 2)


def test_files_go_there_and_come_back(bucket: str, tmp_path: Path) -> None:
    kept = Bucket(f"s3://{bucket}/a/b/")
    large = tmp_path / "large"
    large.write_bytes(bytes(range(256)) * 50_000)  # more than one part of a multipart upload
    kept.upload(large, "x/large.bin")
    kept.write("x/Kütten zoo.txt", b"small")

    assert [(entry.path, entry.size) for entry in kept.list()] == [("x/Kütten zoo.txt", 5), ("x/large.bin", 12_800_000)]
    kept.download("x/large.bin", tmp_path / "back", sha256=hashlib.sha256(large.read_bytes()).hexdigest())
    assert (tmp_path / "back").read_bytes() == large.read_bytes()
    assert kept.read("x/Kütten zoo.txt") == (b"small", kept.list()[0].etag)
    assert kept.read("x/absent") is None
    kept.remove(["x/large.bin", "x/absent"])
    assert kept.find("x/large.bin") is None
    with pytest.raises(FileNotFoundError):
        kept.download("x/large.bin", tmp_path / "again")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["back", "large", "tmp"], "no partial file is left"


def test_conditional_writes_let_one_of_two_win(bucket: str) -> None:
    kept = Bucket(f"s3://{bucket}")
    first = kept.write_if("lease", b"1", "")
    assert first
    assert kept.write_if("lease", b"2", "") is None
    second = kept.write_if("lease", b"2", first)
    assert second
    assert kept.write_if("lease", b"3", first) is None
    assert kept.read("lease") == (b"2", second)


def test_what_changed_since_it_was_listed_is_not_taken(bucket: str, tmp_path: Path) -> None:
    kept = Bucket(f"s3://{bucket}")
    kept.write("a", b"1")
    (listed,) = kept.list()
    kept.write("a", b"2")
    with pytest.raises(ChangedError, match="changed while reading a; try again"):
        kept.download("a", tmp_path / "a", etag=listed.etag)
    with pytest.raises(ChangedError, match="has sha256 d4735e3a"):
        kept.download("a", tmp_path / "a", sha256="0" * 64)
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (Fault("answer", 503, "SlowDown"), "HTTP 503 SlowDown"),
        (Fault("hang", seconds=2), "no answer in time"),
        (Fault("drop"), "the connection broke"),
        (Fault("cut"), "."),
    ],
)
@pytest.mark.usefixtures("impatient")
def test_what_passes_by_itself_is_tried_again_and_then_reported(
    fault: Fault, words: str, proxy: Proxy, bucket: str, object_storage: ObjectStorage, tmp_path: Path
) -> None:
    object_storage.put(bucket, "a", b"x" * 100_000)
    kept = Bucket(f"s3://{bucket}")
    proxy.fail(fault, times=1)
    kept.download("a", tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == b"x" * 100_000

    proxy.fail(fault)
    with pytest.raises(StorageError, match=words) as caught:
        kept.download("a", tmp_path / "b")
    assert f"s3://{bucket}" in str(caught.value)
    assert "Debug" not in str(caught.value)
    assert not (tmp_path / "b").exists()


@pytest.mark.usefixtures("impatient")
def test_a_write_whose_answer_was_lost_is_there_once(proxy: Proxy, bucket: str, object_storage: ObjectStorage) -> None:
    proxy.fail(Fault("lose"), times=1, method="PUT")
    Bucket(f"s3://{bucket}").write("a", b"1")
    assert object_storage.get(bucket, "a") == b"1"


def test_an_absent_bucket_is_named(bucket: str, tmp_path: Path) -> None:
    kept = Bucket("s3://no-such-bucket/x")
    for call in (kept.list, lambda: kept.read("a"), lambda: kept.download("a", tmp_path / "a")):
        with pytest.raises(StorageRefusedError, match="s3://no-such-bucket/x: there is no such bucket; create it"):
            call()
    with pytest.raises(StorageRefusedError, match="there is no such bucket"):
        kept.write("a", b"")


def test_wrong_credentials_are_refused_without_being_quoted(
    bucket: str, object_storage: ObjectStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    with object_storage.requiring_credentials():
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "CANARY")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "canary")
        with pytest.raises(StorageRefusedError, match=r"access is refused .* check AWS_ACCESS_KEY_ID") as caught:
            Bucket(f"s3://{bucket}").list()
        assert "canary" not in f"{caught.value!r} {caught.value.__cause__!r}".lower()
        for name, value in object_storage.environment.items():
            monkeypatch.setenv(name, value)
        assert Bucket(f"s3://{bucket}").list() == []
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(StorageRefusedError, match=r"there are no credentials .* objectsSecret"):
        Bucket(f"s3://{bucket}")


def test_tls_is_checked_against_the_named_authority(
    bucket: str, object_storage: ObjectStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(buckets, "TIMEOUTS", replace(buckets.TIMEOUTS, retries=0))
    monkeypatch.setattr(buckets, "TRIES", 1)
    authority = make_authority(tmp_path / "ours")
    with proxied(object_storage.url, authority.server) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        with pytest.raises(StorageError, match="not trusted; name its certificate authority in AWS_CA_BUNDLE"):
            Bucket(f"s3://{bucket}").read("a")
        monkeypatch.setenv("AWS_CA_BUNDLE", str(authority.file))
        assert Bucket(f"s3://{bucket}").read("a") is None
    monkeypatch.setenv("AWS_CA_BUNDLE", str(tmp_path / "absent.pem"))
    with pytest.raises(StorageRefusedError, match=r"absent\.pem cannot be read: No such file"):
        Bucket(f"s3://{bucket}")


@pytest.mark.parametrize("uri", ["gs://bucket/a", "s3:/a", "s3://", "s3://B_D", "s3://bucket/../a"])
def test_what_is_neither_folder_nor_object_storage_is_refused(uri: str) -> None:
    if uri != "s3:/a":
        with pytest.raises(StorageRefusedError, match="must be"):
            Bucket(uri)
    assert not storage.is_remote("s3:/a"), "a strange folder, but one"


@pytest.mark.parametrize("key", ["a/../../evil", "a//b", "a/" + "n" * 256, "a/x\x7fy"])
def test_names_that_no_folder_can_hold_are_refused(
    key: str, bucket: str, object_storage: ObjectStorage, tmp_path: Path
) -> None:
    object_storage.put(bucket, "package/fine", "x")
    object_storage.put(bucket, f"package/{key}", "x")
    with pytest.raises(StorageRefusedError, match="rename"):
        storage.Place(f"s3://{bucket}/package", tmp_path / "package").pull()
    assert not (tmp_path / "evil").exists()


def test_a_file_that_is_also_a_folder_is_refused(bucket: str, object_storage: ObjectStorage, tmp_path: Path) -> None:
    object_storage.put(bucket, "package/a", "x")
    object_storage.put(bucket, "package/a/b", "x")
    with pytest.raises(StorageRefusedError, match="'a' is an object and the folder of others"):
        storage.Place(f"s3://{bucket}/package", tmp_path / "package").pull()


def test_what_does_not_fit_is_known_before_the_first_byte(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"no space is left on the volume .* 1000000000.0 GB are needed") as caught:
        places.require_room(tmp_path, [buckets.Object("a", 10**18, "")])
    assert caught.value.errno == errno.ENOSPC


def test_the_init_container_of_a_model_server_needs_nothing_else() -> None:
    program = (
        "import sys; from pelagos_pipelines import storage; from obstore.store import S3Store;"
        "print(sorted({'torch', 'numpy', 'pydantic', 'orjson', 'mlflow'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True, timeout=60)
    assert done.stdout == "[]\n"
