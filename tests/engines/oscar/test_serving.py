"""A model that OSCAR serves: real server and real package in the container that the service describes, through its ingress."""

from __future__ import annotations

import os
import signal
from dataclasses import replace

from engines.oscar.conftest import Site
from model_packages import MakeWant
from oscar_fake_server.manager import basic
from pelagos.ports.serving import DesiredService, Scaling, ServiceState


async def test_it_loads_answers_right_stops_starts_again_and_goes(site: Site, want: DesiredService) -> None:
    engine, uid = site.engine, want.uid
    assert await engine.observe(uid) is None

    await engine.apply(want)
    seen = await site.until(uid, ServiceState.LOADED)
    assert (seen.digest, seen.message, seen.restarts, seen.replicas) == (want.digest, "", 0, 1)
    assert (seen.grpc_url, seen.metrics_url, seen.onnx_sha256) == ("", "", want.onnx_sha256)
    (name,) = site.manager.services
    assert seen.http_url == f"{site.manager.url}/system/services/{name}/exposed"
    probe = await engine.probe(uid)
    assert (probe.correct, probe.message) == (True, "")
    assert [(each.name, each.uid, each.namespace) for each in await engine.owned(())] == [(name, uid, "default")]

    await engine.apply(want)
    assert site.changes() == ["POST /system/services"]
    service = site.manager.services[name].service
    assert (service["input"], service["output"]) == (None, None)
    assert site.storage.access[1] not in str(service)

    await engine.stop(uid)
    await engine.stop(uid)
    stopped = await site.until(uid, ServiceState.ENDED)
    assert (stopped.is_stopped, stopped.replicas, stopped.digest) == (True, 0, want.digest)
    assert not (await engine.probe(uid)).correct
    await engine.restart(uid)
    changed = replace(want, confidence="0.6", digest="another")
    await engine.apply(changed)
    again = await site.until(uid, ServiceState.LOADED)
    assert (again.digest, again.restarts) == ("another", 0)
    where = f"/system/services/{name}"
    assert site.changes() == [f"POST {where}/stop", f"POST {where}/start", "PUT /system/services"]
    assert (await engine.probe(uid)).correct

    await engine.remove(uid)
    await engine.remove(uid, keep_files=True)
    assert await engine.observe(uid) is None
    assert site.manager.services == {}
    assert site.changes() == [f"DELETE {where}"]


async def test_a_change_is_made_in_place_and_the_old_answers_until_the_new_one_is_there(
    site: Site, want: DesiredService
) -> None:
    engine, uid = site.engine, want.uid
    await engine.apply(want)
    await site.until(uid, ServiceState.LOADED)
    (deployed,) = site.manager.services.values()
    token = deployed.service["token"]
    site.manager.faults.changes_tokens = True

    changed = replace(want, confidence="0.6", digest="another", pods_digest="pods")
    await engine.apply(changed)
    seen = await engine.observe(uid)
    assert seen is not None
    assert (seen.state, seen.digest) == (ServiceState.STARTING, "another")
    assert "still serves another version" in seen.message or "nothing answers" in seen.message
    assert deployed.ready, "the old one goes on"

    seen = await site.until(uid, ServiceState.LOADED)
    assert deployed.service["token"] != token
    assert (await engine.probe(uid)).correct
    assert seen.restarts == 0
    assert site.changes() == ["POST /system/services", "PUT /system/services"]

    site.manager.faults.changes_tokens = False
    (container,) = deployed.containers
    await engine.apply(replace(changed, scaling=Scaling(maximum=3), digest="third"))
    seen = await site.until(uid, ServiceState.LOADED)
    assert (seen.digest, seen.pods_digest) == ("third", "pods")
    assert deployed.service["expose"]["max_scale"] == 3
    assert deployed.containers == [container], "more of the same replace none"


async def test_a_server_that_dies_is_started_again_by_oscar_and_counted(site: Site, want: DesiredService) -> None:
    await site.engine.apply(want)
    await site.until(want.uid, ServiceState.LOADED)
    (deployed,) = site.manager.services.values()
    os.killpg(deployed.containers[0].pid, signal.SIGKILL)
    dead = await site.until(want.uid, ServiceState.DEAD, ServiceState.STARTING, ServiceState.WAITING)
    assert dead.restarts == 1
    seen = await site.until(want.uid, ServiceState.LOADED)
    assert seen.restarts == 1
    assert (await site.engine.probe(want.uid)).correct

    pid = deployed.containers[0].pid
    await site.engine.restart(want.uid)
    await site.until(want.uid, ServiceState.LOADED)
    for _ in range(300):
        if deployed.containers and deployed.containers[0].is_ready and not deployed.leaving:
            break
        await site.until(want.uid, *ServiceState)
    assert deployed.containers[0].pid != pid


async def test_a_model_that_the_server_does_not_load_says_why(site: Site, uid: str, make_want: MakeWant) -> None:
    want = site.put(make_want(uid=uid))
    site.storage.put(site.bucket, want.package_uri.partition(f"{site.bucket}/")[2] + "/model.onnx", b"no graph")
    await site.engine.apply(want)
    seen = await site.until(uid, ServiceState.LOAD_FAILED)
    assert "model.onnx has been altered" in seen.message


async def test_a_storage_that_does_not_answer_is_told(site: Site, want: DesiredService) -> None:
    site.engine._options = replace(site.engine._options, s3_endpoint="http://127.0.0.1:9")
    await site.engine.apply(want)
    seen = await site.until(want.uid, ServiceState.FETCH_FAILED)
    assert want.package_uri in seen.message


async def test_clients_need_the_token_of_the_service(site: Site, want: DesiredService) -> None:
    await site.engine.apply(want)
    seen = await site.until(want.uid, ServiceState.LOADED)
    (service,) = (each.service for each in site.manager.services.values())
    session = site.manager._session
    for login, status in (
        ("", 401),
        (basic(service["name"], "another token"), 401),
        (basic(service["name"], service["token"]), 200),
    ):
        headers = {"Authorization": login} if login else {}
        async with session.get(f"{seen.http_url}/v2/models/detector/ready", headers=headers) as answer:
            assert answer.status == status
    # Requests that the operator alone needs pass; those that would change the server do not.
    login = basic(service["name"], service["token"])
    async with session.post(
        f"{seen.http_url}/v2/repository/models/detector/unload", headers={"Authorization": login}
    ) as answer:
        assert answer.status == 403
