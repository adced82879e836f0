"""Namespaces of a real API server as tenants. In: ConfigMaps as administrators write them. Out: tenants' settings."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from control_plane import ControlPlane
from pelagos.api import tenant_settings
from pelagos.engines.kubernetes.tenants import Place
from plane_fixtures import api, plane

__all__ = ["api", "plane"]

_numbers = itertools.count(1)
HOME = "default"
"""The operator's namespace."""
PLACE = Place(HOME)


@pytest.fixture
def namespace(plane: ControlPlane) -> str:
    """A tenant without tenant settings."""
    name = f"tenant-{next(_numbers)}"
    plane.create_namespace(name)
    return name


@pytest.fixture
def agree(plane: ControlPlane) -> Iterator[Callable[..., None]]:
    """Writes the ConfigMap of a namespace, replacing an earlier one; all are deleted after the test."""
    path, written = f"/api/v1/namespaces/{HOME}/configmaps", set()

    def write(namespace: str, data: dict[str, str], **more: Any) -> None:
        name = tenant_settings.name_of(namespace)
        if name in written:
            plane.request("DELETE", f"{path}/{name}")
        written.add(name)
        plane.request("POST", path, {"metadata": {"name": name}, "data": data, **more})

    yield write
    for name in written:
        plane.request("DELETE", f"{path}/{name}")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Stopping kopf within a test's own event loop leaves its watch connections unclosed: ignore warnings about that."""
    for item in items:
        if item.path.name == "test_life_of_a_tenant.py":
            item.add_marker(pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"))
