"""Clients check leadership right before every write: that of the API server, here a real one, and that of MLflow."""

from __future__ import annotations

import urllib.error

import pytest

from control_plane import ControlPlane
from pelagos.observability import calls, metrics
from pelagos.ports.fakes.leadership import LeadershipFake
from pelagos.ports.leadership import NotLeadingError
from pelagos.wiring import Credentials, rest_client


def refused(operation: str) -> float:
    labels = {"system": "kubernetes", "operation": operation}
    return metrics.REGISTRY.get_sample_value("pelagos_fenced_calls_total", labels) or 0.0


@pytest.mark.parametrize(
    "path",
    [
        "/apis/apps/v1/namespaces/reef/deployments/detector?fieldManager=x",
        "/apis/apps/v1/deployments",
        "/apis/apps/v1/namespaces/reef/deployments",
    ],
)
async def test_refusals_are_counted_by_kind_and_not_by_name(path: str) -> None:
    api = rest_client(Credentials("http://127.0.0.1:9", None, None, None), calls.guard(LeadershipFake()))
    before = refused("PATCH deployments")
    try:
        with pytest.raises(NotLeadingError):
            await api.ask("PATCH", path, {})
    finally:
        await api.close()

    assert refused("PATCH deployments") == before + 1


async def test_objects_are_read_by_everybody_and_changed_by_the_leader_only(
    plane: ControlPlane, namespace: str
) -> None:
    leadership = LeadershipFake(leads=True)
    credentials = Credentials(plane.url, plane.token, str(plane.authority), None)
    api = rest_client(credentials, calls.guard(leadership))
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    try:
        assert (await api.ask("POST", path, {"metadata": {"name": "first"}})).status == 201
        leadership.leads = False

        before = refused("POST configmaps")
        with pytest.raises(NotLeadingError):
            await api.ask("POST", path, {"metadata": {"name": "second"}})
        with pytest.raises(NotLeadingError):
            await api.ask("DELETE", f"{path}/first")

        assert (await api.get(f"{path}/first")).status == 200
        with pytest.raises(urllib.error.HTTPError, match="404"):
            plane.request("GET", f"{path}/second")
        assert refused("POST configmaps") == before + 1
        assert refused("DELETE configmaps") >= 1
    finally:
        await api.close()
