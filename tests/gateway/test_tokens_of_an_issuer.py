"""Which tokens of an issuer are valid, and which requests it gets. The issuer has real keys, and lies on demand."""

from __future__ import annotations

import asyncio
import base64
import hmac
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web

from gateway.issuers import AUDIENCE, ECKey, MadeIssuer, OctKey, key
from gateway.sites import Clock, until
from pelagos_gateway.identities import KEPT_SECONDS, UNKNOWN_SECONDS, OpenIdentities
from pelagos_gateway.issuer import AGAIN_SECONDS, LONGEST_SECONDS, Issuer
from pelagos_gateway.issuer import KEPT_SECONDS as KEPT_KEYS_SECONDS
from pelagos_gateway.judging import IssuerAwayError, UnknownCallerError

GROUP = "urn:mace:egi.eu:group:imagine.eu:role=member#aai.egi.eu"
DISCOVERY = "/.well-known/openid-configuration"


class World:
    """An issuer, and the verifier of its tokens."""

    def __init__(self, issuer: MadeIssuer, **given: Any) -> None:
        self.issuer = issuer
        self.clock = Clock()
        claims = ("eduperson_entitlement", "realm_access.roles")
        self.identities = OpenIdentities(
            Issuer(issuer.name, None, self.clock), (AUDIENCE, "other"), claims, self.clock, **given
        )

    async def refusal(self, token: str) -> str:
        with pytest.raises(UnknownCallerError) as caught:
            await self.identities.identify(token)
        return str(caught.value)


@pytest.fixture
async def issuer() -> AsyncIterator[MadeIssuer]:
    made = MadeIssuer()
    await made.start()
    yield made
    await made.stop()


@pytest.fixture
async def world(issuer: MadeIssuer) -> AsyncIterator[World]:
    made = World(issuer)
    yield made
    await made.identities.close()


@pytest.fixture
async def opaque_world(issuer: MadeIssuer) -> AsyncIterator[World]:
    made = World(issuer, accepts_opaque=True)
    yield made
    await made.identities.close()


async def test_a_good_token_says_who_calls_and_keys_are_fetched_once(world: World) -> None:
    keys = {(await world.identities.identify(world.issuer.token(jti=str(n)))).key for n in range(20)}
    assert len(keys) == 1
    assert len(keys.pop()) == 16
    assert world.issuer.asked == {DISCOVERY: 1, "/keys": 1}


@pytest.mark.parametrize(
    ("claims", "words"),
    [
        ({"iss": "https://elsewhere"}, "from another issuer"),
        ({"iss": None}, "from another issuer"),
        ({"aud": "somebody"}, f"for another audience: ask for one with the audience {AUDIENCE} or other"),
        ({"aud": ["somebody", "else"]}, "for another audience"),
        ({"aud": None}, "for another audience"),
        ({"aud": {"pelagos-models": 1}}, "for another audience"),
        ({"exp": int(time.time()) - 1}, "The token has expired: log in again"),
        ({"exp": None}, "needs the claim exp"),
        ({"exp": "2999-01-01"}, "needs the claim exp"),
        ({"exp": 1e300}, "needs the claim exp"),
        ({"exp": True}, "needs the claim exp"),
        ({"nbf": int(time.time()) + 864_000}, "not valid yet"),
        ({"nbf": "soon"}, "needs the claim exp"),
        ({"sub": None}, "has no claim sub"),
        ({"sub": 7}, "has no claim sub"),
    ],
)
async def test_claims_that_are_not_for_us_or_not_now_are_refused_in_words(
    world: World, claims: Any, words: str
) -> None:
    assert words in await world.refusal(world.issuer.token(**claims))


@pytest.mark.parametrize("audience", [AUDIENCE, "other", ["x", "other"]])
async def test_one_of_the_audiences_is_enough(world: World, audience: Any) -> None:
    usual = await world.identities.identify(world.issuer.token())

    assert (await world.identities.identify(world.issuer.token(aud=audience))).key == usual.key


async def test_nobody_signs_with_what_is_public_or_not_at_all(world: World) -> None:
    def part(content: Any) -> str:
        return base64.urlsafe_b64encode(json.dumps(content).encode()).rstrip(b"=").decode()

    body = world.issuer.token().split(".")[1]
    public = key("first").as_pem(private=False)
    told = f"{part({'alg': 'HS256', 'kid': 'first'})}.{body}"
    mark = base64.urlsafe_b64encode(hmac.digest(public, told.encode(), "sha256")).rstrip(b"=").decode()
    assert "signed by 'HS256', which is not accepted" in await world.refusal(f"{told}.{mark}")
    for algorithm in ("none", "None", "NONE", "", None, ["RS256"]):
        assert "which is not accepted" in await world.refusal(f"{part({'alg': algorithm})}.{body}.")
    stranger = key("first", 1)
    assert "signature" in await world.refusal(world.issuer.token(stranger))
    header, _, signature = world.issuer.token().split(".")
    changed = part({"iss": world.issuer.name, "aud": AUDIENCE, "sub": "eve", "exp": 2**33})
    assert "signature" in await world.refusal(f"{header}.{changed}.{signature}")
    own = {"kid": "first", "jwk": stranger.as_dict(private=False), "jku": f"{world.issuer.name}/keys"}
    assert "signature" in await world.refusal(world.issuer.token(stranger, header=own))


@pytest.mark.parametrize("token", ["a.b.c", "..", "e30.e30.", "[].x.y", f"{'a' * 3000}.b.c", "bnVsbA.x.y"])
async def test_what_is_no_token_is_refused_and_asks_nobody(world: World, token: str) -> None:
    await world.refusal(token)
    assert world.issuer.asked == {}


async def test_a_secret_that_the_issuer_publishes_by_mistake_is_no_key(world: World) -> None:
    secret = OctKey.generate_key(256, {"kid": "secret"})
    published = {"keys": [secret.as_dict(private=True), world.issuer.keys[0].as_dict(private=False)]}
    world.issuer.answers["/keys"] = web.json_response(published)
    await world.identities.identify(world.issuer.token())
    assert "signed by 'HS256', which is not accepted" in await world.refusal(world.issuer.token(secret, "HS256"))


async def test_keys_that_change_are_followed_and_withdrawn_ones_end(world: World) -> None:
    old = world.issuer.token()
    await world.identities.identify(old)
    world.issuer.keys = [ECKey.generate_key("P-256", {"kid": "second"})]
    new = world.issuer.token(algorithm="ES256")
    world.clock.ahead = AGAIN_SECONDS
    await world.identities.identify(new)
    world.clock.ahead = AGAIN_SECONDS + KEPT_SECONDS
    assert "its key was withdrawn" in await world.refusal(old)


async def test_withdrawn_keys_end_though_no_new_one_is_seen(world: World) -> None:
    token = world.issuer.token(exp=int(time.time()) + 10_000)
    await world.identities.identify(token)
    world.issuer.keys = [key("second")]
    world.clock.ahead = KEPT_KEYS_SECONDS + 1
    assert "its key was withdrawn" in await world.refusal(token)


async def test_tokens_of_keys_that_nobody_knows_do_not_make_us_ask_for_each(world: World) -> None:
    await world.identities.identify(world.issuer.token())
    for number in range(20):
        await world.refusal(world.issuer.token(header={"kid": f"made up {number}"}))
    assert world.issuer.asked["/keys"] == 1
    world.clock.ahead = AGAIN_SECONDS
    for number in range(20):
        await world.refusal(world.issuer.token(header={"kid": f"made up again {number}"}))
    assert world.issuer.asked["/keys"] == 2


async def test_keys_are_good_for_a_while_without_the_issuer_and_not_for_ever(world: World) -> None:
    await world.identities.identify(world.issuer.token())
    token = world.issuer.token(exp=int(time.time()) + 100_000)
    world.issuer.answers["/keys"] = web.Response(status=500)
    world.clock.ahead = KEPT_KEYS_SECONDS + 1
    await world.identities.identify(token)
    world.clock.ahead = LONGEST_SECONDS + 1
    with pytest.raises(IssuerAwayError, match=r"the keys of .* cannot be fetched"):
        await world.identities.identify(token)


@pytest.mark.parametrize(
    ("path", "answer"),
    [
        (DISCOVERY, {"issuer": "https://elsewhere"}),
        (DISCOVERY, ["x"]),
        (DISCOVERY, {}),
        ("/keys", {"keys": []}),
        ("/keys", {"keys": "x"}),
        ("/keys", {"keys": [{"kty": "RSA", "n": "!", "e": "AQAB"}]}),
        ("/keys", {"keys": [], "x": "x" * 1024 * 1024}),
    ],
)
async def test_what_an_issuer_should_not_say_makes_nobody_known(world: World, path: str, answer: Any) -> None:
    world.issuer.answers[path] = web.json_response(answer)
    with pytest.raises(IssuerAwayError):
        await world.identities.identify(world.issuer.token())


async def test_an_issuer_that_sends_us_elsewhere_is_not_followed(world: World) -> None:
    world.issuer.answers["/keys"] = web.Response(status=302, headers={"Location": f"{world.issuer.name}/me"})
    with pytest.raises(IssuerAwayError):
        await world.identities.identify(world.issuer.token())
    assert "/me" not in world.issuer.asked


async def test_entitlements_of_the_token_need_no_question(world: World) -> None:
    made = await world.identities.identify(world.issuer.token(eduperson_entitlement=[GROUP]))
    assert await made.entitlements() == (GROUP,)
    made = await world.identities.identify(world.issuer.token(realm_access={"roles": ["access:imagine:ap-a"]}))
    assert await made.entitlements() == ("access:imagine:ap-a",)
    assert "/me" not in world.issuer.asked


async def test_entitlements_of_userinfo_are_asked_for_once_in_a_while(world: World) -> None:
    token = world.issuer.token(exp=int(time.time()) + 10_000)
    world.issuer.users[token] = {"sub": "ada", "eduperson_entitlement": GROUP}
    for _ in range(3):
        made = await world.identities.identify(token)
        assert await made.entitlements() == (GROUP,)
    assert world.issuer.asked["/me"] == 1
    world.issuer.users[token] = {"sub": "ada", "eduperson_entitlement": []}
    world.clock.ahead = KEPT_SECONDS + 1
    assert await (await world.identities.identify(token)).entitlements() == ()


async def test_userinfo_of_somebody_else_is_not_believed(world: World) -> None:
    token = world.issuer.token()
    world.issuer.users[token] = {"sub": "eve", "eduperson_entitlement": GROUP}
    made = await world.identities.identify(token)
    with pytest.raises(IssuerAwayError, match="describes somebody other"):
        await made.entitlements()


async def test_a_token_that_userinfo_refuses_is_good_and_entitles_to_nothing(world: World) -> None:
    made = await world.identities.identify(world.issuer.token())
    assert await made.entitlements() == ()


async def test_opaque_tokens_are_refused_where_nobody_said_otherwise(world: World) -> None:
    world.issuer.users["opaque"] = {"sub": "ada"}
    assert f"ask for one with the audience {AUDIENCE}" in (await world.refusal("opaque")).replace(
        f"{world.issuer.name} for", "for"
    )
    assert world.issuer.asked == {}


async def test_opaque_tokens_are_asked_about_and_unknown_ones_not_again_at_once(opaque_world: World) -> None:
    world = opaque_world
    world.issuer.users["opaque"] = {"sub": "ada", "voperson_id": ["a11ce@egi.eu"], "eduperson_entitlement": [GROUP]}
    for _ in range(3):
        made = await world.identities.identify("opaque")
        assert await made.entitlements() == (GROUP,)
    assert world.issuer.asked["/me"] == 1
    for _ in range(3):
        assert "does not know this token" in await world.refusal("unknown")
    assert world.issuer.asked["/me"] == 2
    world.issuer.users["unknown"] = {"sub": "bob"}
    world.clock.ahead = UNKNOWN_SECONDS + 1
    assert (await world.identities.identify("unknown")).key != made.key


async def test_tokens_that_anybody_may_send_hold_up_nobody_whose_token_is_good(opaque_world: World) -> None:
    world = opaque_world
    sent = [asyncio.create_task(world.identities.identify(f"slow {number}")) for number in range(16)]
    await until(lambda: world.issuer.asked.get("/me") == 16)
    with pytest.raises(IssuerAwayError):
        await world.identities.identify("one more")

    token = world.issuer.token()
    world.issuer.users[token] = {"sub": "ada", "eduperson_entitlement": [GROUP]}
    assert await (await world.identities.identify(token)).entitlements() == (GROUP,)
    world.issuer.gate.set()
    assert all(isinstance(each, UnknownCallerError) for each in await asyncio.gather(*sent, return_exceptions=True))


async def test_a_person_is_the_same_by_every_token(opaque_world: World) -> None:
    world = opaque_world
    world.issuer.users["text"] = {"sub": "x", "voperson_id": "a11ce@egi.eu"}
    world.issuer.users["list"] = {"sub": "y", "voperson_id": ["a11ce@egi.eu"]}
    by_jwt = world.issuer.token(voperson_id="a11ce@egi.eu", sub="z")
    keys = {(await world.identities.identify(token)).key for token in ("text", "list", by_jwt)}
    assert len(keys) == 1
