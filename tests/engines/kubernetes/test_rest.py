"""The client of the API server: its errors when no request is possible, and how writes interpret answers."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web

from pelagos.api import kinds
from pelagos.engines.kubernetes.api import KubernetesApi
from pelagos.engines.kubernetes.rest import KubernetesRest
from pelagos.ports.cluster import from_body
from pelagos.ports.errors import OutageError

DATASET = from_body(
    kinds.KINDS[0],
    {
        "metadata": {
            "name": "reef",
            "namespace": "lab",
            "uid": "3c9a8f4e-0000-4000-8000-000000000001",
            "resourceVersion": "7",
            "generation": 1,
            "creationTimestamp": "2026-01-01T00:00:00Z",
        },
        "spec": {},
    },
)


@pytest.fixture
async def refusing() -> AsyncIterator[str]:
    """A server that answers with the status that the token names, and the name of the requested object."""

    async def answer(request: web.Request) -> web.Response:
        status, _, name = request.headers["Authorization"].removeprefix("Bearer ").partition("/")
        details = {"details": {"name": name}} if name else {}
        return web.json_response({"kind": "Status", "message": "no", **details}, status=int(status))

    application = web.Application()
    application.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


async def test_a_token_file_that_cannot_be_read_is_an_outage_that_names_it(tmp_path: Path) -> None:
    binary = tmp_path / "binary"
    binary.write_bytes(b"\xff\xfe")

    for file in (tmp_path / "absent", tmp_path, binary):
        rest = KubernetesRest("http://127.0.0.1:9", tls=None, token_file=file)
        with pytest.raises(OutageError, match=f"the token file {file} cannot be read"):
            await rest.get("/version")
        with pytest.raises(OutageError, match=f"the token file {file} cannot be read"):
            await KubernetesApi(rest).patch_status(DATASET, {})
        await KubernetesApi(rest).post_event(DATASET, severity="Normal", reason="RolloutStatus", message="only logged")
        await rest.close()


@pytest.mark.parametrize("status", [404, 410])
async def test_what_is_gone_is_not_written_and_no_outage(refusing: str, status: int) -> None:
    rest = KubernetesRest(refusing, tls=None, token=f"{status}/reef")

    assert await KubernetesApi(rest).read(DATASET.kind, "lab", "reef") is None
    assert await KubernetesApi(rest).patch_status(DATASET, {}) is None
    assert await KubernetesApi(rest).set_finalizers(DATASET, ()) is None
    assert not await KubernetesApi(rest).delete_resource(DATASET)
    await rest.close()


async def test_what_was_changed_meanwhile_is_not_deleted_and_no_outage(refusing: str) -> None:
    rest = KubernetesRest(refusing, tls=None, token="409")

    assert not await KubernetesApi(rest).delete_resource(DATASET)
    await rest.close()


async def test_a_404_that_is_about_no_object_makes_nothing_gone(refusing: str) -> None:
    rest = KubernetesRest(refusing, tls=None, token="404")
    api = KubernetesApi(rest)

    for call in (api.read(DATASET.kind, "lab", "reef"), api.patch_status(DATASET, {}), api.set_finalizers(DATASET, ())):
        with pytest.raises(OutageError, match=r"datasets/reef.*: 404 no"):
            await call
    await rest.close()


@pytest.mark.parametrize("status", [400, 401, 403, 409, 422, 429, 500, 503])
async def test_every_other_refusal_of_a_write_is_tried_again(refusing: str, status: int) -> None:
    rest = KubernetesRest(refusing, tls=None, token=str(status))

    with pytest.raises(OutageError, match=f"PATCH .*datasets/reef/status.*: {status} no"):
        await KubernetesApi(rest).patch_status(DATASET, {})
    await rest.close()


async def test_half_a_surrogate_pair_in_a_status_is_sent_as_an_escape() -> None:
    bodies: list[bytes] = []

    async def answer(request: web.Request) -> web.Response:
        bodies.append(await request.read())
        return web.json_response({})

    application = web.Application()
    application.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    rest = KubernetesRest(f"http://127.0.0.1:{runner.addresses[0][1]}", tls=None)

    for text in ("Gro\u00dfe", "\ud83d cut"):
        await rest.ask("POST", "/api/v1/namespaces/lab/events", {"message": text})

    await rest.close()
    await runner.cleanup()
    assert [json.loads(body) for body in bodies] == [{"message": "Gro\u00dfe"}, {"message": "\ud83d cut"}]
