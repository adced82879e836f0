"""Namespaces of a real API server as tenants. In: ConfigMaps as administrators write them. Out: conventions, requests, status."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest

from control_plane import ControlPlane
from plane_fixtures import api, plane

__all__ = ["api", "plane"]

_numbers = itertools.count(1)


@pytest.fixture
def namespace(plane: ControlPlane) -> str:
    """A tenant without conventions."""
    name = f"tenant-{next(_numbers)}"
    plane.create_namespace(name)
    return name


@pytest.fixture
def agree(plane: ControlPlane) -> Callable[..., None]:
    """Writes the ConfigMap of a namespace, in place of the one before."""

    def write(namespace: str, data: dict[str, str], **more: Any) -> None:
        path = f"/api/v1/namespaces/{namespace}/configmaps"
        names = [item["metadata"]["name"] for item in plane.request("GET", path)["items"]]
        if "pelagos-config" in names:
            plane.request("DELETE", f"{path}/pelagos-config")
        plane.request("POST", path, {"metadata": {"name": "pelagos-config"}, "data": data, **more})

    return write


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Stopping kopf within a test's own event loop drops its watch connections unclosed; that is no fault of ours."""
    for item in items:
        if item.path.name == "test_life_of_a_tenant.py":
            item.add_marker(pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"))
