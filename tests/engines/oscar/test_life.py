"""The life of a ModelService that OSCAR serves, by the real operator on a real API server.

Ready when the server behind the ingress has answered a real inference right, stopped and started by spec.suspend, deleted with
its resource.
"""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from control_plane import ControlPlane
from engines.oscar.conftest import Site
from oscar_fake_server.manager import basic
from pelagos.api.service_logins import SECRET, ServiceLogin, read
from pelagos.engines.s3.client import Service
from pelagos.engines.s3.objects import S3Objects
from pelagos.engines.triton.package import DESCRIPTION, FILES
from pelagos.ports.gateway import Gateway
from sites import Site as Operated
from sites import condition, has_reason, is_ready

NAMESPACE = "oscar"


@pytest.fixture
async def operated(site: Site, plane: ControlPlane, tmp_path: Path) -> AsyncIterator[Operated]:
    """An operator whose serving engine is OSCAR's."""
    plane.apply_crds()
    plane.create_namespace(NAMESPACE)
    made = Operated(plane, NAMESPACE, tmp_path)
    parts: Any = made.fakes
    parts.serving = site.engine
    parts.gateway = Gateway("https://models.example.org", "models.example.org:8443")
    parts.objects = S3Objects(f"s3://{site.bucket}/objects", Service(site.storage.url))
    await made.start_operator()
    yield made
    await made.stop_operator()


def logins(plane: ControlPlane) -> dict[str, ServiceLogin | None]:
    """The logins that the gateway reads."""
    data = plane.request("GET", f"/api/v1/namespaces/{NAMESPACE}/secrets/{SECRET}").get("data") or {}
    return {key: read(base64.b64decode(value).decode()) for key, value in data.items()}


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
async def test_a_model_service_is_served_suspended_resumed_changed_and_gone(
    operated: Operated, site: Site, plane: ControlPlane, packages: dict[str, tuple[str, str]]
) -> None:
    package = Path(packages["Detection"][0])
    folder = f"objects/models/{NAMESPACE}/{package.name}"
    for name in (*FILES, DESCRIPTION):
        site.storage.put(site.bucket, f"{folder}/{name}", (package / name).read_bytes())
    model = {"uri": f"s3://{site.bucket}/{folder}", "manifestSha256": package.name}

    await operated.create("ModelService", "detector", {"model": model})
    body = await operated.wait("ModelService", "detector", is_ready, seconds=90)
    (name,) = site.manager.services
    url = f"{site.manager.url}/system/services/{name}/exposed"
    public = f"https://models.example.org/{NAMESPACE}/detector"
    assert (body["status"]["url"], body["status"]["endpoints"]) == (url, {"http": url, "gatewayHttp": public})
    assert condition(body, "Probed")["reason"] == "ProbeSucceeded"
    token = site.manager.services[name].service["token"]
    login = ServiceLogin(url, basic(name, token))
    assert logins(plane) == {"detector.login": login}, "the gateway needs it, and nobody else is told"
    assert token not in json.dumps(body)

    await operated.patch("ModelService", "detector", {"spec": {"suspend": True}})
    body = await operated.wait("ModelService", "detector", has_reason("Suspended"))
    assert "url" not in body["status"]
    assert site.manager.services[name].replicas == 0

    await operated.patch("ModelService", "detector", {"spec": {"suspend": False, "thresholds": {"confidence": "0.6"}}})
    body = await operated.wait("ModelService", "detector", is_ready, seconds=90)
    assert body["status"]["url"] == url
    assert site.manager.services[name].service["token"] == token

    site.manager.faults.answers = {"DELETE": (502, "Bad Gateway")}
    await operated.delete("ModelService", "detector")
    body = await operated.wait("ModelService", "detector", lambda found: "deletionTimestamp" in found["metadata"])
    assert site.manager.services, "an outage is no end"
    site.manager.faults.answers = {}
    await operated.wait_gone("ModelService", "detector", seconds=60)
    assert site.manager.services == {}
    assert logins(plane) == {}
    called = [call.replace(name, "NAME") for call in site.changes()]
    assert called[0] == "POST /system/services"
    assert {*called[1:]} == {
        "PUT /system/services",
        "POST /system/services/NAME/stop",
        "POST /system/services/NAME/start",
        "DELETE /system/services/NAME",
    }
