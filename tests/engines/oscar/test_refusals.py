"""Actions of OSCAR, its clusters and other users: nothing of others is touched, nothing is made twice, everything is reported."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from dataclasses import replace
from datetime import timedelta

import aiohttp
import pytest

from engines.oscar.conftest import Site, access, engine
from model_packages import MakeWant
from oscar_fake_server.manager import ADMIN
from pelagos.engines.oscar import engine as oscar_engine
from pelagos.engines.oscar import manifests
from pelagos.engines.oscar.rest import OscarRest
from pelagos.ports.authority import Authority
from pelagos.ports.errors import OutageError, RejectedError
from pelagos.ports.fakes.authority import KeysFake
from pelagos.ports.leadership import NotLeadingError
from pelagos.ports.placement import Placement, Toleration
from pelagos.ports.serving import DesiredService, Scaling, ServiceState


@pytest.fixture(autouse=True)
def _without_containers(site: Site) -> None:
    site.manager.faults.pulling = True


@pytest.fixture
async def foreign(site: Site, want: DesiredService) -> str:
    """Somebody else's service, under the name that ours would have."""
    name = manifests.name_of(want)
    rest = OscarRest(access(site.folder, site.manager.url))
    await rest.create({"name": name, "image": "other/image", "script": "exit 0", "cpu": "1", "memory": "1Gi"})
    await rest.close()
    site.manager.calls.clear()
    return name


async def test_a_service_of_somebody_else_is_never_touched(site: Site, want: DesiredService, foreign: str) -> None:
    before = dict(site.manager.services[foreign].service)
    with pytest.raises(RejectedError, match=f"there is already a service {foreign} .* did not create; rename"):
        await site.engine.apply(want)
    assert await site.engine.observe(want.uid) is None
    await site.engine.stop(want.uid)
    await site.engine.restart(want.uid)
    await site.engine.remove(want.uid)
    assert await site.engine.owned(()) == ()
    assert not (await site.engine.probe(want.uid)).correct
    assert site.manager.services[foreign].service == before
    assert site.changes() == []


async def test_a_service_that_is_called_almost_as_ours_does_not_hide_it(site: Site, want: DesiredService) -> None:
    await site.engine.apply(want)
    rest = OscarRest(access(site.folder, site.manager.url))
    name = f"{manifests.prefix(want.uid)}0"
    await rest.create({"name": name, "image": "other/image", "script": "exit 0", "cpu": "1", "memory": "1Gi"})
    await rest.close()
    services = site.manager.services
    site.manager.services = {name: services.pop(name), **services}
    later = engine(site.manager, site.storage, site.bucket, site.folder)

    assert await later.observe(want.uid) is not None
    await later.remove(want.uid)
    assert list(site.manager.services) == [name]
    await later.close()


async def test_annotations_that_were_copied_or_altered_are_nobodys_word(
    site: Site, want: DesiredService, make_want: MakeWant
) -> None:
    await site.engine.apply(want)
    (deployed,) = site.manager.services.values()
    annotations = deployed.service["annotations"]
    for name in (manifests.RENDERED, "pelagos.dev/want", manifests.SEAL):
        deployed.service["annotations"] = annotations | {name: f"{annotations[name]} "}
        assert await site.engine.observe(want.uid) is None
    other = site.put(make_want(uid="other"))
    deployed.service["annotations"] = annotations
    deployed.service["name"] = manifests.name_of(other)
    site.manager.services[deployed.service["name"]] = deployed
    assert await site.engine.observe("other") is None
    assert await site.engine.owned(()) == ()


async def test_another_installation_with_another_key_has_nothing_here(site: Site, want: DesiredService) -> None:
    await site.engine.apply(want)
    site.engine._authority = Authority(KeysFake(b"another key, as long as any other"))
    assert await site.engine.observe(want.uid) is None
    assert await site.engine.owned(()) == ()


async def test_two_operators_at_once_make_one_service(site: Site, want: DesiredService) -> None:
    other = engine(site.manager, site.storage, site.bucket, site.folder)
    await asyncio.gather(site.engine.apply(want), other.apply(want))
    assert len(site.manager.services) == 1
    assert site.manager.calls.count("POST /system/services") <= 2
    assert "PUT /system/services" not in site.manager.calls
    await other.close()


async def test_an_answer_that_was_lost_makes_nothing_twice(site: Site, want: DesiredService) -> None:
    site.manager.faults.after = {"POST /system/services": (502, "Bad Gateway")}
    with pytest.raises(OutageError, match="HTTP 502 Bad Gateway"):
        await site.engine.apply(want)
    site.manager.faults.after = {}
    await site.engine.apply(want)
    assert site.changes() == ["POST /system/services"]
    seen = await site.engine.observe(want.uid)
    assert seen is not None
    assert seen.digest == want.digest


async def test_what_somebody_altered_is_put_right_in_place(site: Site, want: DesiredService) -> None:
    await site.engine.apply(want)
    (deployed,) = site.manager.services.values()
    changes: tuple[dict[str, object], ...] = (
        {"image": "other/image"},
        {"expose": deployed.service["expose"] | {"set_auth": False}},
        {"environment": {"variables": {}, "secrets": {}}},
        {"script": "#!/bin/sh\n"},
    )
    for change in changes:
        deployed.service |= change
        seen = await site.engine.observe(want.uid)
        assert seen is not None
        assert seen.digest == ""
        site.changes()
        await site.engine.apply(want)
        assert site.changes() == ["PUT /system/services"]
        seen = await site.engine.observe(want.uid)
        assert seen is not None
        assert seen.digest == want.digest
    # Fields that OSCAR adds by itself are ignored.
    deployed.service["labels"] = {"owner_name": "oscar"}
    deployed.service["cluster_id"] = "oscar-cluster"
    seen = await site.engine.observe(want.uid)
    assert seen is not None
    assert seen.digest == want.digest


async def test_new_keys_of_the_storage_are_brought_to_the_service(site: Site, want: DesiredService) -> None:
    await site.engine.apply(want)
    (site.folder / "secret").write_text("a-new-secret")
    await site.engine.apply(want)
    (deployed,) = site.manager.services.values()
    assert deployed.secrets["AWS_SECRET_ACCESS_KEY"] == "a-new-secret"
    assert "a-new-secret" not in str(deployed.service)
    assert site.changes() == ["POST /system/services", "PUT /system/services"]


async def test_what_a_cluster_has_not_begun_is_waited_for(site: Site, want: DesiredService) -> None:
    await site.engine.apply(want)
    seen = await site.engine.observe(want.uid)
    assert seen is not None
    assert seen.state is ServiceState.WAITING
    assert "no container has started yet: its image is being pulled, or there is no room" in seen.message
    assert "Deployment does not have minimum availability" in seen.message
    (deployed,) = site.manager.services.values()
    deployed.is_lost = True
    seen = await site.engine.observe(want.uid)
    assert seen is not None
    assert seen.state is ServiceState.WAITING
    assert "delete it there, and it is created again" in seen.message


@pytest.mark.parametrize(
    ("status", "text", "kind"),
    [
        (400, "The service specification is not valid: cpu", RejectedError),
        (403, "User x doesn't have permission to modify this service", RejectedError),
        (401, "", RejectedError),
        (500, 'Error creating the service: Service "x" is invalid: metadata.labels: Invalid value', RejectedError),
        (500, "Error creating the service: quantities must match the regular expression", RejectedError),
        (400, "Error creating service x: workload is NOT admitted", RejectedError),
        (500, "Error creating the service: dial tcp: connection refused", OutageError),
        (502, "<html>Bad Gateway</html>", OutageError),
        (503, "", OutageError),
        (429, "", OutageError),
        (302, "", OutageError),
    ],
)
async def test_an_outage_is_told_from_a_refusal(
    site: Site, want: DesiredService, status: int, text: str, kind: type[Exception]
) -> None:
    site.manager.faults.answers = {"POST /system/services": (status, text)}
    with pytest.raises(kind) as caught:
        await site.engine.apply(want)
    assert f"HTTP {status}" in str(caught.value)
    assert " ".join(text.split())[:40] in str(caught.value)


@pytest.mark.parametrize("text", ["no json", "[" * 100_000, "<html>login</html>"])
async def test_a_page_instead_of_oscar_is_an_outage(site: Site, text: str) -> None:
    site.manager.faults.answers = {"GET /system": (200, text)}
    with pytest.raises(OutageError, match="the answer is not JSON"):
        await site.engine.answers()
    with pytest.raises(OutageError):
        await site.engine.observe("x")


async def test_an_oscar_that_is_slow_or_away_is_an_outage(site: Site, want: DesiredService) -> None:
    site.manager.faults.seconds = 2
    site.engine._rest._timeout = aiohttp.ClientTimeout(total=0.3)
    with pytest.raises(OutageError, match=r"no answer within 0\.3 s"):
        await site.engine.observe(want.uid)
    gone = OscarRest(access(site.folder, "http://127.0.0.1:9"))
    with pytest.raises(OutageError, match=r"http://127\.0\.0\.1:9/system/info"):
        await gone.info()
    await gone.close()


async def test_logins_and_tokens_are_in_no_message_and_no_log(
    site: Site, want: DesiredService, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    await site.engine.apply(want)
    (deployed,) = site.manager.services.values()
    seen = await site.engine.observe(want.uid)
    (site.folder / "password").write_text("a wrong password")
    site.manager.faults.answers = {"PUT": (500, "you sent Basic b3NjYXI6YSB3cm9uZyBwYXNzd29yZA== a wrong password")}
    messages = [str(seen)]
    for call in (site.engine.answers(), site.engine.apply(replace(want, digest="x", confidence="0.9"))):
        with pytest.raises((RejectedError, OutageError)) as caught:
            await call
        messages.append(repr(caught.value))
    site.engine._names[want.uid] = deployed.service["name"]
    rest = OscarRest(access(site.folder, site.manager.url))
    (site.folder / "password").write_text("a wrong password")
    with pytest.raises(OutageError) as caught:
        await rest.update({"name": "x"})
    messages.append(repr(caught.value))
    await rest.close()
    told = "".join(messages) + caplog.text
    for secret in (ADMIN[1], "a wrong password", "b3NjYXI6", deployed.service["token"], site.storage.access[1]):
        assert secret not in told
    assert "PELAGOS_OSCAR_PASSWORD_FILE" in messages[1]


async def test_a_login_file_that_is_missing_or_none_is_named(site: Site) -> None:
    (site.folder / "password").write_text("two\nlines")
    with pytest.raises(RejectedError, match=r"password must hold one line .* PELAGOS_OSCAR_PASSWORD_FILE"):
        await site.engine.answers()
    (site.folder / "password").unlink()
    with pytest.raises(RejectedError, match="cannot be read: No such file or directory"):
        await site.engine.answers()


async def test_an_operator_that_leads_no_more_changes_nothing(site: Site, want: DesiredService) -> None:
    def refuse(system: str, operation: str) -> None:
        raise NotLeadingError(f"{system} {operation}")

    site.engine._rest._guard = refuse
    with pytest.raises(NotLeadingError):
        await site.engine.apply(want)
    assert site.manager.services == {}


async def test_a_token_of_a_provider_is_a_login_too_and_sees_its_own_alone(site: Site, want: DesiredService) -> None:
    await site.engine.apply(want)
    (site.folder / "token").write_text("an-oidc-token")
    site.engine._rest.access = replace(site.engine._rest.access, token_file=site.folder / "token")
    await site.engine.answers()
    assert await site.engine.owned(()) == (), "the administrator's are not hers"
    with pytest.raises(RejectedError, match="HTTP 403"):
        await site.engine.observe(want.uid)
    (site.folder / "token").write_text("an-expired-token")
    with pytest.raises(RejectedError, match="PELAGOS_OSCAR_TOKEN_FILE: it may have expired"):
        await site.engine.answers()


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"placement": Placement(gpus=2)}, "spec.resources.gpus: 2"),
        ({"placement": Placement(gpus=1, gpu_product="A100")}, "spec.resources.gpuProduct: A100"),
        ({"placement": Placement(node_selector={"a": "b"})}, "spec.resources.nodeSelector"),
        ({"placement": Placement(tolerations=(Toleration("a"),))}, "spec.resources.tolerations"),
        ({"placement": Placement(shared_memory="1Gi")}, "spec.resources.sharedMemory"),
        ({"scaling": Scaling(mode="Knative", minimum=0)}, "spec.scaling.deploymentMode: Knative"),
        ({"package_uri": "/a/folder"}, "/a/folder is out of reach"),
    ],
)
async def test_what_oscar_cannot_do_is_refused_with_its_field(
    site: Site, want: DesiredService, changes: dict[str, object], field: str
) -> None:
    with pytest.raises(RejectedError) as caught:
        manifests.service(replace(want, **changes), "config", site.engine._options)  # type: ignore[arg-type]
    assert field in str(caught.value)


@pytest.mark.parametrize("name", ["detector", "d", "9.detectors", "d" * 63, "a-" * 30 + "b"])
def test_names_are_short_and_of_one_resource(name: str, make_want: MakeWant) -> None:
    one, other = manifests.name_of(make_want(name=name)), manifests.name_of(make_want(name=name, uid="another"))
    assert len(one) <= 39
    assert one != other
    assert one.startswith(manifests.prefix("5f0c"))


def test_one_gpu_is_asked_for_and_cores_are_text(site: Site, want: DesiredService) -> None:
    body = manifests.service(replace(want, placement=Placement(gpus=1)), "config", site.engine._options)
    assert body["enable_gpu"] is True
    assert "NVIDIA_VISIBLE_DEVICES" not in body["environment"]["variables"]
    assert isinstance(body["cpu"], str)


@pytest.mark.parametrize(
    "answer",
    [
        "[]",
        "{}",
        "null",
        '{"name": 5, "annotations": [], "expose": "x", "environment": [], "deployment": 7}',
        '[{"name": null}, 5, {"name": "p-", "annotations": "x"}]',
    ],
)
async def test_whatever_is_answered_is_no_service_of_ours(site: Site, want: DesiredService, answer: str) -> None:
    site.manager.faults.answers = {"GET /system": (200, answer)}
    assert await site.engine.owned(()) == ()
    for call in (site.engine.observe(want.uid), site.engine.remove(want.uid), site.engine.stop(want.uid)):
        with contextlib.suppress(OutageError):
            assert await call is None
    with contextlib.suppress(OutageError, RejectedError):
        await site.engine.apply(want)


async def test_a_service_of_ours_that_is_told_of_in_another_form_is_put_right(site: Site, want: DesiredService) -> None:
    await site.engine.apply(want)
    (deployed,) = site.manager.services.values()
    deployed.service |= {"expose": "x", "environment": []}
    site.manager.faults.answers = {
        f"GET /system/services/{deployed.service['name']}": (200, json.dumps(deployed.service | {"deployment": []}))
    }
    seen = await site.engine.observe(want.uid)
    assert seen is not None
    assert (seen.digest, seen.state, seen.replicas) == ("", ServiceState.WAITING, 0)


async def test_a_server_that_loads_for_long_is_left_to_oscar(
    site: Site, want: DesiredService, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If it were restarted every two minutes, a large package would never arrive."""
    await site.engine.apply(want)
    name = manifests.name_of(want)
    logs = json.dumps({"available": True, "entries": [{"message": "fetching"}]})
    site.manager.faults.answers = {f"GET /system/services/{name}/deployment/logs": (200, logs)}
    seen = await site.engine.observe(want.uid)
    assert seen is not None
    assert (seen.state, seen.message) == (ServiceState.STARTING, "the server fetches the package and loads the model")
    monkeypatch.setattr(oscar_engine, "LOADING_PATIENCE", timedelta(seconds=-1))
    seen = await site.engine.observe(want.uid)
    assert seen is not None
    assert seen.state is ServiceState.WAITING
    assert "OSCAR restarts it if it is not ready after 180 s" in seen.message


async def test_an_ingress_that_asks_for_another_login_is_told(site: Site, want: DesiredService) -> None:
    await site.engine.apply(want)
    (deployed,) = site.manager.services.values()
    told = deployed.service | {"deployment": {"state": "ready", "active_instances": 1}}
    where = f"GET /system/services/{told['name']}"
    # The longer prefix first: the first match answers.
    site.manager.faults.answers = {f"{where}/exposed": (401, ""), where: (200, json.dumps(told))}
    seen = await site.engine.observe(want.uid)
    assert seen is not None
    assert seen.state is ServiceState.WAITING
    assert "HTTP 401" in seen.message
    assert "PELAGOS_OSCAR_ENDPOINT_LOGIN" in seen.message
