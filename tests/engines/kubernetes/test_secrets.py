"""Secrets of users, read from a real API server for steps on this machine."""

from __future__ import annotations

import pytest

from control_plane import ControlPlane
from pelagos.engines.kubernetes.rest import Answer, KubernetesRest
from pelagos.engines.kubernetes.secrets import SecretReader
from pelagos.ports.errors import OutageError, RejectedError
from plane_fixtures import api, plane

__all__ = ["api", "plane"]


async def test_a_secret_is_read_in_its_own_namespace_alone(api: KubernetesRest, plane: ControlPlane) -> None:
    for namespace in ("reef", "kelp"):
        plane.create_namespace(namespace)
    body = {"metadata": {"name": "cvat"}, "stringData": {"token": "CANARY", "note": "schön"}}
    assert (await api.ask("POST", "/api/v1/namespaces/reef/secrets", body)).status == 201

    reader = SecretReader(api)

    assert await reader.find("reef", "cvat") == {"token": "CANARY", "note": "schön"}
    assert await reader.find("kelp", "cvat") is None
    assert await reader.find("reef", "other") is None


@pytest.mark.parametrize(("status", "error"), [(403, RejectedError), (401, RejectedError), (400, OutageError)])
async def test_what_cannot_be_read_is_not_taken_for_absent(status: int, error: type[Exception]) -> None:
    class Refusing:
        async def get(self, path: str) -> Answer:
            del path
            return Answer(status, {"message": "no"})

    with pytest.raises(error, match="reef/cvat"):
        await SecretReader(Refusing()).find("reef", "cvat")  # type: ignore[arg-type]
