"""Objects on real S3-compatible storage: what the port's contract leaves open, and the messages of failures."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from faulty_proxy import Fault, Proxy, make_authority, proxied
from object_storage import KEY, SECRET, ObjectStorage
from pelagos.engines.s3.client import Service
from pelagos.engines.s3.objects import S3Objects
from pelagos.ports.errors import OutageError, RejectedError
from pelagos.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def proxy(object_storage: ObjectStorage) -> Iterator[Proxy]:
    with proxied(object_storage.url) as made:
        yield made


def objects_in(bucket: str, url: str, **service: object) -> S3Objects:
    return S3Objects(f"s3://{bucket}/objects", Service(url, **service))  # type: ignore[arg-type]


async def every_call(objects: S3Objects) -> list[Exception]:
    """The error that each method raises."""
    errors = []
    for call in (objects.read_json("a"), objects.exists("a"), objects.delete("a")):
        with pytest.raises((OutageError, RejectedError)) as caught:
            await call
        errors.append(caught.value)
    return errors


async def test_thousands_of_objects_are_deleted_page_by_page(
    bucket: str, object_storage: ObjectStorage, proxy: Proxy
) -> None:
    for number in range(1500):
        object_storage.put(bucket, f"objects/store/blobs/{number}", "x")
    object_storage.put(bucket, "objects/store2/blobs/1", "x")

    await objects_in(bucket, proxy.url).delete("store")

    assert object_storage.keys(bucket) == ["objects/store2/blobs/1"]
    assert proxy.count("POST", "?delete") <= 3


async def test_an_interrupted_deletion_goes_on_with_what_is_left(
    bucket: str, object_storage: ObjectStorage, proxy: Proxy
) -> None:
    for number in range(1050):
        object_storage.put(bucket, f"objects/store/{number}", "x")
    objects = objects_in(bucket, proxy.url)
    answered = []

    def second_fails(method: str, path: str) -> Fault | None:
        if method == "POST":
            answered.append(path)
        return Fault("answer", 503) if method == "POST" and len(answered) > 2 else None

    proxy.fault = second_fails
    with pytest.raises(OutageError, match="SlowDown"):
        await objects.delete("store")
    left = object_storage.keys(bucket)
    assert 0 < len(left) < 1050

    proxy.fault = lambda method, path: None
    await objects.delete("store")

    assert object_storage.keys(bucket) == []


async def test_an_absent_bucket_is_named_with_what_to_do(object_storage: ObjectStorage, bucket: str) -> None:
    for error in await every_call(objects_in("no-such-bucket", object_storage.url)):
        assert isinstance(error, RejectedError)
        assert "s3://no-such-bucket at http://127.0.0.1" in str(error)
        assert "create it, or correct PELAGOS_OBJECTS_URI" in str(error)


@pytest.mark.parametrize(("wrong", "said"), [(0, "InvalidAccessKeyId"), (1, "SignatureDoesNotMatch")])
async def test_wrong_credentials_are_refused_without_being_quoted(
    bucket: str, object_storage: ObjectStorage, monkeypatch: pytest.MonkeyPatch, wrong: int, said: str
) -> None:
    with object_storage.requiring_credentials():
        for name, value in object_storage.environment.items():
            monkeypatch.setenv(name, value)
        assert not await objects_in(bucket, object_storage.url).exists("a")
        canary = "CANARYcanary"
        monkeypatch.setenv(("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")[wrong], canary)
        errors = await every_call(objects_in(bucket, object_storage.url))

    assert all(isinstance(error, RejectedError) for error in errors)
    assert any(said in str(error) for error in errors)
    for error in errors:
        assert "check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY" in str(error)
        assert canary not in f"{error!r} {error.__cause__!r}"


async def test_no_credentials_are_asked_for_at_once(
    bucket: str, object_storage: ObjectStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    async with asyncio.timeout(1):
        with pytest.raises(RejectedError, match="set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"):
            await objects_in(bucket, object_storage.url).exists("a")


async def test_a_credentials_file_is_read_again_when_it_changes(
    bucket: str, object_storage: ObjectStorage, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    file = tmp_path / "credentials"
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))
    objects = objects_in(bucket, object_storage.url)
    with object_storage.requiring_credentials():
        key, secret = object_storage.access
        file.write_text(f"[default]\naws_access_key_id = {KEY}\naws_secret_access_key = {SECRET}\n")
        with pytest.raises(RejectedError, match="access is refused"):
            await objects.exists("a")
        file.write_text(f"[default]\naws_access_key_id = {key}\naws_secret_access_key = {secret}\n")
        assert not await objects.exists("a")
    file.write_text("CANARY = not ini\n")
    with pytest.raises(RejectedError, match="no readable profile 'default'") as caught:
        await objects.exists("a")
    assert "CANARY" not in str(caught.value)


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (Fault("answer", 503, "SlowDown"), "HTTP 503 SlowDown"),
        (Fault("answer", 500, "InternalError"), "HTTP 500 InternalError"),
        (Fault("answer", 403, "RequestTimeTooSkewed"), "RequestTimeTooSkewed|HTTP 403"),
        (Fault("hang", seconds=3), "no answer in time"),
        (Fault("drop"), "the connection broke"),
    ],
)
async def test_what_passes_by_itself_is_an_outage(
    bucket: str, proxy: Proxy, object_storage: ObjectStorage, fault: Fault, words: str
) -> None:
    object_storage.put(bucket, "objects/a", '{"all": "of it"}')
    objects = objects_in(bucket, proxy.url, timeout=1)
    proxy.fail(fault, method="GET")
    async with asyncio.timeout(10):
        with pytest.raises(OutageError, match=words) as caught:
            await objects.read_json("a")
    assert f"s3://{bucket} at {proxy.url}" in str(caught.value)
    assert "Debug" not in str(caught.value)

    proxy.fault = lambda method, path: None
    assert await objects.read_json("a") == {"all": "of it"}


async def test_a_body_that_ends_early_is_never_taken_for_the_whole(
    bucket: str, proxy: Proxy, object_storage: ObjectStorage
) -> None:
    object_storage.put(bucket, "objects/a", "x" * 100_000)
    objects = objects_in(bucket, proxy.url, timeout=2)
    proxy.fail(Fault("cut"), method="GET")
    with pytest.raises(OutageError):
        await objects.read_bytes("a", limit=10**6)

    proxy.fail(Fault("cut"), method="GET", times=1)
    assert await objects.read_bytes("a", limit=10**6) == b"x" * 100_000


async def test_a_service_that_is_away_is_an_outage(bucket: str) -> None:
    for error in await every_call(objects_in(bucket, "http://127.0.0.1:9", timeout=2)):
        assert isinstance(error, OutageError)
        assert "http://127.0.0.1:9" in str(error)
        assert "no connection" in str(error)


async def test_tls_is_checked_against_the_named_authority(
    bucket: str, object_storage: ObjectStorage, tmp_path: Path
) -> None:
    ours, other = make_authority(tmp_path / "ours"), make_authority(tmp_path / "other", "other")
    object_storage.put(bucket, "objects/a", "{}")
    with proxied(object_storage.url, ours.server) as proxy:
        settings = Settings(objects_uri=f"s3://{bucket}/objects", s3_endpoint=proxy.url, s3_ca_file=ours.file)
        assert await S3Objects.from_settings(settings).read_json("a") == {}
        for file in (None, other.file):
            with pytest.raises(OutageError, match="not trusted; name its certificate authority in PELAGOS_S3_CA_FILE"):
                await objects_in(bucket, proxy.url, ca_file=file).read_json("a")
        with pytest.raises(RejectedError, match=r"absent\.pem cannot be read: No such file"):
            await objects_in(bucket, proxy.url, ca_file=tmp_path / "absent.pem").read_json("a")


async def test_an_object_whose_name_is_no_path_is_named(bucket: str, object_storage: ObjectStorage) -> None:
    object_storage.put(bucket, "objects/store//evil", "x")
    with pytest.raises(
        RejectedError, match=r"objects/store//evil' has a name that is not a path .* rename or remove it"
    ):
        await objects_in(bucket, object_storage.url).delete("store")


@pytest.mark.parametrize(
    "uri", ["", "bucket/a", "http://bucket", "s3://", "s3://B_D/a", "s3://bucket/../a", "s3://bucket/a//b"]
)
def test_a_uri_that_is_none_is_refused(uri: str) -> None:
    with pytest.raises(RejectedError, match="must be s3://bucket/prefix"):
        S3Objects(uri, Service())


async def test_a_bucket_without_prefix_is_a_store(bucket: str, object_storage: ObjectStorage) -> None:
    object_storage.put(bucket, "tenant/a.json", "{}")
    objects = S3Objects(f"s3://{bucket}/", Service(object_storage.url))
    assert objects.uri("tenant/a.json") == f"s3://{bucket}/tenant/a.json"
    assert await objects.read_json("tenant/a.json") == {}
