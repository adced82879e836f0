"""What /readyz checks for the chosen engines, with a real API server and a real object storage."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from control_plane import ControlPlane, start_control_plane
from object_storage import ObjectStorage
from pelagos import engine_factory
from pelagos.engines.kubernetes.rest import KubernetesRest
from pelagos.settings import Settings
from plane_fixtures import api

__all__ = ["api"]


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """An API server with only Kubernetes' own kinds."""
    running = start_control_plane(tmp_path_factory.mktemp("plane"))
    yield running
    running.stop()


async def asked(api: KubernetesRest, home: Path, name: str, **changes: Any) -> str | None:
    """The result of the check ``name`` of an operator with these settings."""
    usual = {"pipelines_engine": "kubeflow", "serving_engine": "deployment", "objects_claim": "objects"}
    away = {"kubeflow_url": "http://127.0.0.1:9", "tracking_uri": "http://127.0.0.1:9"}
    engines = engine_factory.choose(Settings(home=home, **{**usual, **away, **changes}), api, lambda _uid: None)
    try:
        return await engines.checks[name]()
    finally:
        for close in engines.closing:
            await close()


async def test_kserve_is_missed_where_its_kinds_are_not_served(api: KubernetesRest, tmp_path: Path) -> None:
    missing = await asked(api, tmp_path, "serving", serving_engine="kserve")

    assert "does not serve InferenceService (serving.kserve.io/v1beta1)" in str(missing)
    assert await asked(api, tmp_path, "serving", serving_engine="deployment") is None


async def test_a_data_volume_on_object_storage_is_asked_for(
    api: KubernetesRest, bucket: str, object_storage: ObjectStorage, tmp_path: Path
) -> None:
    lost = await asked(api, tmp_path, "volumes", data_uri="s3://no-such-bucket/x", s3_endpoint=object_storage.url)

    assert "no-such-bucket" in str(lost)
    there = {"data_uri": f"s3://{bucket}/data", "s3_endpoint": object_storage.url}
    assert await asked(api, tmp_path, "volumes", **there) is None
