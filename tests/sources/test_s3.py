"""A third-party bucket becomes a version; our own storage's credentials are never sent there."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from faulty_proxy import Proxy, proxied
from fetched_sources import Step, folder, zipped
from object_storage import KEY, SECRET, ObjectStorage
from pelagos_contract import source_hosts
from pelagos_contract.failures import Reason
from pelagos_contract.remote_sources import SECRET_CONTENT
from web_servers import Reply, Server, serving


@pytest.fixture
def proxy(object_storage: ObjectStorage) -> Iterator[Proxy]:
    with proxied(object_storage.url) as made:
        yield made


@pytest.fixture
def step(
    object_storage: ObjectStorage, bucket: str, proxy: Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Step:
    """The step, with an environment in which everything about the installation's own storage is wrong."""
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.setenv(name, "OURS")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setenv(source_hosts.VARIABLE, proxy.url)
    monkeypatch.setenv(SECRET_CONTENT, json.dumps({"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": f"{SECRET}\n"}))
    for name, content in folder().items():
        object_storage.put(bucket, f"surveys/reef 1/{name}", content)
    object_storage.put(bucket, "surveys/reef 1/.DS_Store", b"x")
    object_storage.put(bucket, "packed.zip", zipped(folder(8)))
    source = {"uri": f"s3://{bucket}/surveys/reef 1", "endpoint": proxy.url, "secretRef": {"name": "s3"}}
    return Step(Server(lambda request: pytest.fail("nobody asks this"), ""), tmp_path, "s3", source)


def test_a_prefix_becomes_a_version_and_is_not_brought_twice(
    step: Step, object_storage: ObjectStorage, bucket: str, proxy: Proxy
) -> None:
    first = step.run()
    assert (first.images, first.files.excluded) == (6, 1)
    assert first.origin is not None
    assert first.origin.files == 7
    brought = proxy.count("GET", ".png")
    assert step.run(retry="one") == first
    assert proxy.count("GET", ".png") == brought
    object_storage.put(bucket, "surveys/reef 1/fish/9.png", folder(10)["crab/9.png"])
    assert step.run(retry="two").images == 7


def test_an_archive_in_a_bucket_stands_for_what_is_in_it(step: Step, bucket: str) -> None:
    result = step.run(uri=f"s3://{bucket}/packed.zip")
    assert result.images == 8
    assert result.origin is not None
    assert result.origin.version


def test_only_the_secret_of_the_source_logs_in(step: Step, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(lambda request: Reply(b"<Error><Code>AccessDenied</Code></Error>", 403)) as server:
        monkeypatch.setenv(source_hosts.VARIABLE, server.url)
        for secret, told in (({"name": "s3"}, f"Credential={KEY}/"), (None, "")):
            server.seen.clear()
            refused = step.refusal(endpoint=server.url, secretRef=secret).failure
            assert refused.reason is Reason.SOURCE_ACCESS_DENIED
            (headers,) = {tuple(sorted(request.headers.items())) for request in server.seen[:1]}
            assert told in dict(headers).get("authorization", "")
            assert "OURS" not in str(headers)
            assert "x-amz-security-token" not in dict(headers)
            assert ("asked as nobody" in refused.message) is (secret is None)
            assert ("authorization" in dict(headers)) is (secret is not None)
        assert os.environ["AWS_ACCESS_KEY_ID"] == "OURS"
        server.seen.clear()
        monkeypatch.setenv(SECRET_CONTENT, json.dumps({"AWS_ACCESS_KEY_ID": KEY}))
        assert step.refusal(endpoint=server.url).failure.reason is Reason.SOURCE_SECRET_INCOMPLETE
        assert server.seen == []


def test_refusals_are_of_the_source(step: Step, bucket: str, proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    assert step.refusal(uri=f"s3://{bucket}/nothing").failure.reason is Reason.SOURCE_NOT_FOUND
    missing = step.refusal(uri="s3://no-such-bucket-anywhere/x").failure
    assert missing.reason is Reason.SOURCE_ACCESS_DENIED
    assert "there is no such bucket" in missing.message
    monkeypatch.delenv(source_hosts.VARIABLE)
    refused = step.refusal().failure
    assert refused.reason is Reason.SOURCE_NOT_ALLOWED
    assert f"PELAGOS_SOURCE_HOSTS={proxy.url!r}" in refused.message
