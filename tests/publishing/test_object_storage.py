"""A version on object storage is published from there; a step continues what an earlier one began, on another machine."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fetched_sources import allow
from invenio_deposits import Deposits
from object_storage import ObjectStorage
from pelagos_contract.remote_sources import SECRET_CONTENT
from pelagos_pipelines.fetching import client as fetching_client
from pelagos_pipelines.preparation import published
from pelagos_pipelines.steps.prepare import prepare
from pelagos_pipelines.storage import Bucket
from published_datasets import KilledError, Publisher, killed_at, versions_of
from web_servers import quick, serving


@pytest.fixture
def publisher(
    bucket: str, object_storage: ObjectStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Publisher]:
    monkeypatch.setattr(fetching_client, "Patience", quick)
    monkeypatch.setenv(SECRET_CONTENT, json.dumps({"token": "very-secret"}))
    monkeypatch.setenv("AWS_ENDPOINT_URL", object_storage.url)
    repository = Deposits()
    with serving(repository) as server:
        allow(server, monkeypatch, tmp_path)
        (tmp_path / "tmp").mkdir(exist_ok=True)
        version, *_ = versions_of(tmp_path)
        published.publish(version, Bucket(f"s3://{bucket}/store"))
        made = Publisher(server, repository, tmp_path, [version])
        made.request["uri"] = f"s3://{bucket}/store/versions/{version.digest}"
        yield made


def told(report: str, name: str) -> dict[str, Any]:
    found = Bucket(report).read(name)
    assert found is not None
    content: dict[str, Any] = json.loads(found[0])
    return content


def test_a_version_is_published_and_what_was_begun_is_gone_on_with(publisher: Publisher, bucket: str) -> None:
    report = f"s3://{bucket}/report"
    asked = json.dumps(publisher.asked())
    shutil.rmtree(publisher.root / "store")  # as on another machine
    with pytest.MonkeyPatch.context() as patch:
        killed_at(patch, 12, after=True)
        with pytest.raises(KilledError):
            prepare(asked, "", f"s3://{bucket}/store", report)
    assert told(report, "publication.json")["record"] == "111"

    prepare(asked, "", f"s3://{bucket}/store", report)

    assert publisher.only().is_published
    assert told(report, "result.json")["doi"] == "10.5072/zenodo.111"
    seen = len(publisher.server.seen)
    prepare(asked, "", f"s3://{bucket}/store", report)
    assert len(publisher.server.seen) == seen
