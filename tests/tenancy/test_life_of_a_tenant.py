"""Tenant settings in the life of a tenant's resources: the operator with kopf, a real API server, fakes for everything else."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from control_plane import ControlPlane
from pelagos.engines.kubernetes.tenants import KubernetesTenants
from pelagos.ports.tenants import Tenant
from pelagos.wiring import Credentials, rest_client
from sites import Site, condition, has_reason
from tenancy.conftest import HOME, PLACE

SPEC = {"source": {"volume": {"path": "plankton"}}, "task": "Detection"}


@pytest.fixture
async def site(plane: ControlPlane, namespace: str, tmp_path: Path) -> AsyncIterator[Site]:
    """An operator that reads tenant settings from the API server, and soon forgets them."""

    def make(credentials: object) -> KubernetesTenants:
        del credentials
        return KubernetesTenants(client, Tenant(), PLACE, kept=0.5)

    client = rest_client(Credentials(plane.url, plane.token, str(plane.authority), None))
    made = Site(plane, namespace, tmp_path, make_tenants=make)
    yield made
    await made.stop_operator()
    await client.close()


async def test_the_prefix_of_the_storage_leads_every_path_that_a_run_gets(
    site: Site, agree: Callable[..., None]
) -> None:
    agree(site.namespace, {"storagePrefix": f"institute/{site.namespace}"})
    site.fakes.volumes.put(f"institute/{site.namespace}/plankton/1.png")
    await site.start_operator()

    await site.create("Dataset", "plankton", SPEC)
    await site.wait("Dataset", "plankton", has_reason("Queued"))

    (run,) = site.fakes.pipelines.runs.values()
    given = run.request.parameters
    assert given["data_root"].endswith(f"/institute/{site.namespace}")
    for name in ("store", "report"):
        assert given[name].startswith(f"fake://objects/institute/{site.namespace}/")
    assert run.request.tenant.storage_prefix == f"institute/{site.namespace}"


async def test_images_of_another_tenant_are_not_found(site: Site, agree: Callable[..., None]) -> None:
    agree(site.namespace, {"storagePrefix": f"institute/{site.namespace}"})
    site.fakes.volumes.put("plankton/1.png")
    site.fakes.volumes.put("other/plankton/1.png")
    await site.start_operator()

    await site.create("Dataset", "plankton", SPEC)

    await site.wait("Dataset", "plankton", has_reason("SourceNotFound"))
    assert not site.fakes.pipelines.runs


async def test_bad_tenant_settings_stall_what_the_namespace_holds_until_they_are_corrected(
    site: Site, agree: Callable[..., None]
) -> None:
    agree(site.namespace, {"storagePrefix": "../other"})
    site.fakes.volumes.put(f"institute/{site.namespace}/plankton/1.png")
    await site.start_operator()

    await site.create("Dataset", "plankton", SPEC)
    body = await site.wait("Dataset", "plankton", lambda found: condition(found, "Stalled").get("status") == "True")
    message = condition(body, "Ready")["message"]
    assert f"ConfigMap pelagos-tenant-{site.namespace} of namespace {HOME}: storagePrefix is '../other'" in message
    assert not site.fakes.pipelines.runs

    agree(site.namespace, {"storagePrefix": f"institute/{site.namespace}"})
    await site.wait("Dataset", "plankton", has_reason("Queued"), seconds=40)
