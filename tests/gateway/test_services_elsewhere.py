"""Services on another platform, as OSCAR's: by https, below a path, with a login that the gateway adds and nobody sees."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import ssl
import stat
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from faulty_proxy import Authority, make_authority
from gateway.sites import BINARY, Answer, Site, running, until, until_true
from gateway.test_streams import stream
from pelagos.api.service_logins import SECRET, ServiceLogin, written
from pelagos.engines.envoy.config import Limits
from pelagos_gateway.metrics import METRICS

BASE = "/system/services/p-0123456789ab-detector/exposed"
TOKEN = base64.b64encode(b"p-0123456789ab-detector:" + b"5e" * 32).decode()
LOGIN = f"Basic {TOKEN}"
INFER = "/reef/detector/v2/models/detector/infer"
IMAGE = {"name": "image", "shape": [1, 1], "datatype": "BYTES", "data": [base64.b64encode(b"frame").decode()]}
JSON = json.dumps({"inputs": [IMAGE]}).encode()
FORMS: dict[str, tuple[bytes, dict[str, Any]]] = {
    "binary": (bytes(10), BINARY),
    "json": (JSON, {"Content_Type": "application/json"}),
}


@dataclass
class Platform:
    """An ingress over TLS that asks for the login. ``answer`` is that of the server behind it; ``reached`` what arrived there."""

    port: int = 0
    reached: list[tuple[str, bytes, dict[str, str]]] = field(default_factory=list)
    answer: Callable[[], Awaitable[web.StreamResponse]] | None = None

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}{BASE}"

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        body = b"".join([chunk async for chunk in request.content.iter_any()])
        self.reached.append((request.raw_path, body, {key.lower(): value for key, value in request.headers.items()}))
        if request.headers.get("Authorization") != LOGIN:
            asked = {"WWW-Authenticate": 'Basic realm="oscar"', "Set-Cookie": "a=b"}
            return web.Response(status=401, text="<html>401 Authorization Required</html>", headers=asked)
        if self.answer is not None:
            return await self.answer()
        headers = {"Set-Cookie": "route=1", "X-Login": LOGIN, "Inference-Header-Content-Length": "2"}
        return web.json_response({}, headers=headers)


@dataclass
class Elsewhere:
    """The gateway, and the platform of reef/detector."""

    site: Site
    platform: Platform

    async def give(self, login: ServiceLogin | None) -> None:
        """Write the login as the operator does; returns once the gateway knows it."""
        data = {"detector.login": base64.b64encode(written(login).encode()).decode()} if login is not None else {}
        await self.site.api.put("secrets", "reef", SECRET, data=data)
        if login == ServiceLogin(self.platform.url, LOGIN):
            await until_true(self._answers)
        else:
            await until(lambda: "reef/detector" not in self.site.gateway._judge.table.services)

    async def _answers(self) -> bool:
        found: bool = (await self.ready()).status == 200
        self.platform.reached.clear()
        return found

    async def ready(self) -> Answer:
        return await self.site.ask("GET", "/reef/detector/v2/health/ready")


class Trickling(web.StreamResponse):
    """An answer of which a byte comes from time to time."""

    async def prepare(self, request: web.BaseRequest) -> Any:
        self.content_length = 1_000_000
        writer = await super().prepare(request)
        with contextlib.suppress(ConnectionError):
            while True:
                await self.write(b"x")
                await asyncio.sleep(0.2)
        return writer


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return make_authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
async def elsewhere(environments: Path, authority: Authority) -> AsyncIterator[Elsewhere]:
    platform = Platform()
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(*authority.server)
    runner = web.ServerRunner(web.Server(platform.handle, access_log=None), shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls).start()
    platform.port = runner.addresses[0][1]
    limits = Limits(answer_seconds=3)
    async with running(environments, open=True, services_ca_file=authority.file, limits=limits) as site:
        await site.api.put("modelservices", "reef", "detector", status={"endpoints": {"http": platform.url}})
        await until(lambda: "reef/detector" in site.gateway._judge.table.closed)
        made = Elsewhere(site, platform)
        await made.give(ServiceLogin(platform.url, LOGIN))
        yield made
    await runner.cleanup()


async def test_it_is_called_below_its_path_with_the_login_of_the_service_instead_of_the_callers(
    elsewhere: Elsewhere,
) -> None:
    site, platform = elsewhere.site, elsewhere.platform
    token = await site.trial("reef", "ada", "detector")
    told: dict[str, Any] = {"X_Forwarded_For": "192.0.2.7", "Cookie": "session=1", "X_Request_Id": "mine"}
    assert (await site.ask("GET", "/reef/detector/v2/health/ready?a=1", token=token, **told)).status == 200
    assert (await site.ask("POST", INFER, bytes(2_000_000), token=token, **BINARY)).status == 200
    assert (await site.ask("POST", INFER, JSON, token=token, Content_Type="application/json")).status == 200
    infer = f"{BASE}/v2/models/detector/infer"
    assert [path for path, _, _ in platform.reached] == [f"{BASE}/v2/health/ready?a=1", infer, infer]
    assert platform.reached[1][1] == bytes(2_000_000)
    assert platform.reached[2][1].endswith(b"frame")
    for _, _, headers in platform.reached:
        assert headers["authorization"] == LOGIN
        assert headers["host"].partition(":")[0] == "127.0.0.1"
        assert token not in str(headers)
        assert not {name for name in headers if name.startswith(("x-", "pelagos-", "cookie"))}, "it learns who calls"


async def test_nobody_learns_the_login(elsewhere: Elsewhere, caplog: pytest.LogCaptureFixture) -> None:
    site = elsewhere.site
    answers = [
        await elsewhere.ready(),
        *[await site.ask("POST", INFER, body, **headers) for body, headers in FORMS.values()],
        await site.ask("GET", "/reef/detector/v2/models/detector/config"),
    ]
    for answer in answers:
        assert TOKEN not in f"{answer}"
        assert not {"set-cookie", "x-login", "www-authenticate"} & answer.headers.keys()
    assert answers[1].headers["inference-header-content-length"] == "2"
    served = site.gateway._judge.table.services["reef/detector"]
    assert TOKEN not in f"{served} {site.gateway._places} {caplog.text} {[*METRICS.registry.collect()]}"
    assert TOKEN in (site.settings.folder / "clusters.json").read_text()
    for path in site.settings.folder.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
    assert stat.S_IMODE(site.settings.folder.stat().st_mode) == 0o700


async def test_callers_without_a_right_do_not_get_there(elsewhere: Elsewhere) -> None:
    site, platform = elsewhere.site, elsewhere.platform
    other = await site.trial("reef", "eve", "classifier")
    for token, status in ((other, 403), ("pt_" + "x" * 43, 401), (TOKEN, 401)):
        assert (await site.ask("POST", INFER, bytes(10), token=token, **BINARY)).status == status
    basic = await site.ask("POST", INFER, bytes(10), **BINARY, Authorization=LOGIN)
    assert basic.status == 401, "not even the login of the service itself is one for the gateway"
    inside = (
        "../../../system/services",
        "models/..%2f..%2f/infer",
        "models/detector/../../../../infer",
        "models/a/load",
    )
    for path in inside:
        assert (await site.ask("GET", f"/reef/detector/v2/{path}")).status in {400, 403, 404}, path
    assert platform.reached == []


@pytest.mark.parametrize("form", [*FORMS])
async def test_a_redirection_is_not_followed_and_a_refused_login_is_reported(elsewhere: Elsewhere, form: str) -> None:
    site, platform = elsewhere.site, elsewhere.platform
    body, headers = FORMS[form]

    async def moved() -> web.StreamResponse:
        away = {"Location": "https://elsewhere.example/?login=" + TOKEN, "Set-Cookie": "a=b"}
        return web.Response(status=307, headers=away)

    async def refused() -> web.StreamResponse:
        return web.Response(status=401, text=LOGIN, headers={"WWW-Authenticate": 'Basic realm="oscar"'})

    async def forbidden() -> web.StreamResponse:
        return web.Response(status=403, body=bytes(5_000_000))

    for answer, words in ((moved, "redirection"), (refused, "does not accept the login"), (forbidden, "")):
        platform.answer = answer
        told = await site.ask("POST", INFER, body, **headers)
        assert told.status in {500, 502}
        assert words in f"{told.body!r}"
        assert len(told.body) < 1000
        assert TOKEN not in f"{told}"
        assert not {"location", "set-cookie", "www-authenticate"} & told.headers.keys()
    assert len(platform.reached) == 3


@pytest.mark.parametrize("form", [*FORMS])
async def test_slow_answers_end_in_time_and_a_huge_one_passes(elsewhere: Elsewhere, form: str) -> None:
    site, platform = elsewhere.site, elsewhere.platform
    body, headers = FORMS[form]

    async def slow() -> web.StreamResponse:
        await asyncio.sleep(30)
        return web.Response()

    async def huge() -> web.StreamResponse:
        return web.Response(body=bytes(5_000_000))

    async def trickling() -> web.StreamResponse:
        return Trickling()

    platform.answer = slow
    assert (await site.ask("POST", INFER, body, **headers)).status == 504
    platform.answer = trickling
    with pytest.raises(asyncio.IncompleteReadError):
        await site.ask("POST", INFER, body, **headers)
    platform.answer = huge
    assert len((await site.ask("POST", INFER, body, **headers)).body) == 5_000_000
    platform.answer = None
    assert (await elsewhere.ready()).status == 200


async def test_grpc_is_refused_with_the_way_that_there_is(elsewhere: Elsewhere) -> None:
    site = elsewhere.site
    token = await site.trial("reef", "ada", "detector")
    words = "reef/detector answers only over HTTP: send requests to /reef/detector/v2 of the gateway"
    assert await site.call(token=token) == ("UNIMPLEMENTED", words)
    async with stream(site, token=token) as ours:
        assert await ours.status() == ("UNIMPLEMENTED", words)
    other = await site.trial("reef", "eve", "classifier")
    assert (await site.call(token=other, pelagos_service="reef/detector"))[0] == "PERMISSION_DENIED"


async def test_the_login_is_sent_only_to_the_address_that_it_was_written_for(elsewhere: Elsewhere) -> None:
    platform = elsewhere.platform
    stranger = platform.url.replace("detector", "another")
    for login in (
        ServiceLogin(stranger, LOGIN),
        ServiceLogin(platform.url.replace("https", "http").replace("127.0.0.1", "192.0.2.1"), LOGIN),
        ServiceLogin(platform.url, 'Basic a"\nevil'),
        ServiceLogin(platform.url, ""),
        None,
    ):
        await elsewhere.give(login)
        answer = await elsewhere.ready()
        assert answer.status == 404
        assert "asks for a login that the gateway was not given" in answer.error
        assert platform.reached == []
        await elsewhere.give(ServiceLogin(platform.url, LOGIN))


async def test_a_changed_login_holds_without_a_restart(elsewhere: Elsewhere) -> None:
    site, platform = elsewhere.site, elsewhere.platform
    other = base64.b64encode(written(ServiceLogin(platform.url, "Bearer other")).encode()).decode()
    await site.api.put("secrets", "reef", SECRET, data={"detector.login": other})

    async def is_refused() -> bool:
        return (await elsewhere.ready()).status == 502

    await until_true(is_refused)
    assert platform.reached[-1][2]["authorization"] == "Bearer other"
    await elsewhere.give(ServiceLogin(platform.url, LOGIN))
