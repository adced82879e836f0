"""What `pelagos doctor` reports about KServe on a real API server with its kinds."""

from __future__ import annotations

from pathlib import Path

import yaml

from control_plane import ControlPlane
from pelagos.engines.diagnosis import DoctorContext, Finding, State
from pelagos.engines.kserve import diagnosis
from pelagos.settings import Settings
from pelagos.wiring import Credentials, rest_client
from serving_clusters import STORAGE_CONTAINER, STORAGE_CONTAINERS

CONFIGURATIONS = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations"


async def test_what_restricted_namespaces_ask_for_is_looked_for(plane: ControlPlane, tmp_path: Path) -> None:
    api = rest_client(Credentials(plane.url, plane.token, str(plane.authority), None))
    settings = Settings(home=tmp_path, serving_engine="kserve", objects_uri="s3://bucket/prefix")

    async def told() -> State:
        found = await diagnosis.look(DoctorContext(settings, api, "default"))
        return next(each.state for each in found if each.subject == "storage")

    assert await told() is State.OK
    plane.request("DELETE", f"{STORAGE_CONTAINERS}/pelagos")
    try:
        assert await told() is State.WARNING
    finally:
        plane.request("POST", STORAGE_CONTAINERS, yaml.safe_load(STORAGE_CONTAINER.read_text(encoding="utf-8")))
        await api.close()


async def test_a_webhook_that_is_missing_is_told_of(plane: ControlPlane, tmp_path: Path) -> None:
    api = rest_client(Credentials(plane.url, plane.token, str(plane.authority), None))
    settings = Settings(home=tmp_path, serving_engine="kserve", objects_uri="s3://bucket/prefix")

    async def told() -> Finding:
        found = await diagnosis.look(DoctorContext(settings, api, "default"))
        return next(each for each in found if each.subject == "webhooks")

    assert (await told()).state is State.FAILURE
    webhook = {
        "name": "inferenceservice.kserve-webhook-server.pod-mutator",
        "clientConfig": {"url": "https://127.0.0.1:9/mutate-pods"},
        "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
        "objectSelector": {"matchLabels": {"pelagos.dev/nobody": "has-it"}},
    }
    body = {"metadata": {"name": diagnosis.WEBHOOKS}, "webhooks": [webhook]}
    plane.request("POST", CONFIGURATIONS, body)
    try:
        assert (await told()).state is State.OK
    finally:
        plane.request("DELETE", f"{CONFIGURATIONS}/{diagnosis.WEBHOOKS}")
        await api.close()
