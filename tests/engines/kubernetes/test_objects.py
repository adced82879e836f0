"""What is remembered of an API server: the kinds that it knows, and for a limited time those that it does not know."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest
from aiohttp import web

from pelagos.engines.kubernetes.objects import UNSERVED, Collection, KubernetesObjects
from pelagos.engines.kubernetes.rest import KubernetesRest
from pelagos.ports.errors import OutageError

WORKFLOWS = Collection("argoproj.io/v1alpha1", "Workflow", "workflows")
CRON_WORKFLOWS = Collection("argoproj.io/v1alpha1", "CronWorkflow", "cronworkflows")


@dataclass
class Server:
    """Knows the plurals in ``kinds``; without any, the group is unknown as well. ``status``, if set, is every answer."""

    kinds: list[str] = field(default_factory=list)
    status: int = 0
    asked: int = 0
    url: str = ""

    async def answer(self, _request: web.Request) -> web.Response:
        self.asked += 1
        if self.status or not self.kinds:
            return web.json_response({"kind": "Status", "message": "no"}, status=self.status or 404)
        return web.json_response({"kind": "APIResourceList", "resources": [{"name": name} for name in self.kinds]})


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    made = Server()
    application = web.Application()
    application.router.add_get("/apis/argoproj.io/v1alpha1", made.answer)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield made
    await runner.cleanup()


@dataclass
class Time:
    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
async def objects(server: Server, time: Time) -> AsyncIterator[KubernetesObjects]:
    rest = KubernetesRest(server.url, tls=None)
    yield KubernetesObjects(rest, clock=time)
    await rest.close()


@pytest.fixture
def time() -> Time:
    return Time()


async def test_a_kind_that_is_not_known_is_asked_for_again_after_a_while_only(
    server: Server, objects: KubernetesObjects, time: Time
) -> None:
    assert [await objects.serves(WORKFLOWS) for _ in range(100)] == [False] * 100
    assert server.asked == 1

    server.kinds = ["workflows"]
    time.now += UNSERVED
    assert await objects.serves(WORKFLOWS)
    assert server.asked == 2


async def test_a_kind_that_is_known_is_not_asked_for_again(
    server: Server, objects: KubernetesObjects, time: Time
) -> None:
    server.kinds = ["workflows"]
    assert await objects.serves(WORKFLOWS)
    time.now += 24 * 3600

    assert await objects.serves(WORKFLOWS)
    assert server.asked == 1


async def test_of_one_group_each_kind_is_remembered_by_itself(server: Server, objects: KubernetesObjects) -> None:
    server.kinds = ["workflows"]

    assert (await objects.serves(CRON_WORKFLOWS), await objects.serves(WORKFLOWS)) == (False, True)


async def test_no_answer_is_no_no(server: Server, objects: KubernetesObjects) -> None:
    server.status = 503
    with pytest.raises(OutageError):
        await objects.serves(WORKFLOWS)

    server.status, server.kinds = 0, ["workflows"]
    assert await objects.serves(WORKFLOWS)
