"""Comparing versions on object storage downloads only those images that the comparison draws."""

from __future__ import annotations

from pathlib import Path

import dataset_versions
import image_sources
from faulty_proxy import Proxy
from pelagos_pipelines.preparation import comparing, published
from pelagos_pipelines.storage import Bucket


def test_of_two_versions_only_what_is_drawn_is_brought(bucket: str, proxy: Proxy, tmp_path: Path) -> None:
    source = dataset_versions.detection(tmp_path / "source")
    was = published.publish(dataset_versions.write(tmp_path / "store", source), Bucket(f"s3://{bucket}/a"))
    image_sources.photo(source / "images/9.png", 50, 30, seed=77)
    image_sources.text(source / "labels/9.txt", "0 0.5 0.5 0.25 0.1")
    now = published.publish(dataset_versions.write(tmp_path / "store", source), Bucket(f"s3://{bucket}/a"))
    before = proxy.count("GET", "/blobs/")

    found = comparing.compare(was, now)

    assert [each["path"] for each in found["images"]["added"]] == ["images/9.png"]
    assert found["from"]["uri"] == was
    assert proxy.count("GET", "/blobs/") == before

    comparing.compare(was, now, tmp_path / "sheet.png")

    assert proxy.count("GET", "/blobs/") - before == 1
    assert (tmp_path / "sheet.png").exists()
