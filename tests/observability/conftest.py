"""Resources as the API server returns them. In: resources, calls, HTTP requests. Out: metrics for Prometheus, and log lines."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from pelagos.api.kinds import Kind
from pelagos.ports.cluster import Resource


@pytest.fixture
def resource() -> Callable[..., Resource]:
    """Creates a resource with the given conditions (status by type) and other status fields."""

    def make(kind: Kind, name: str = "one", *, conditions: dict[str, str] | None = None, **status: Any) -> Resource:
        listed = [{"type": key, "status": value} for key, value in (conditions or {}).items()]
        known = {"conditions": listed, **status} if conditions is not None else status
        return Resource(kind, "default", name, f"uid-{name}", 1, "1", deleting=False, status=known)

    return make
