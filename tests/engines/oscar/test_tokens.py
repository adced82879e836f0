"""Tokens from a refresh token: requested when needed, kept until shortly before they expire, and never in a message."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic

import pytest
from aiohttp import web

from oscar_fake_server.manager import Manager
from pelagos.engines.oscar import tokens
from pelagos.engines.oscar.rest import Access, OscarRest
from pelagos.engines.oscar.tokens import Provider
from pelagos.ports.errors import OutageError, RejectedError


@dataclass
class Issuer:
    """``answers`` come in turn, the last one repeatedly, tuples part by part; ``forms`` are the requests."""

    answers: list[tuple[int, object]]
    forms: list[dict[str, str]] = field(default_factory=list)
    url: str = ""

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.forms.append({name: str(value) for name, value in (await request.post()).items()})
        status, body = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(body, tuple):
            parts = web.StreamResponse(status=status)
            await parts.prepare(request)
            for part in body:
                await parts.write(part)
                await asyncio.sleep(0.05)
            return parts
        return (
            web.Response(text=body, status=status) if isinstance(body, str) else web.json_response(body, status=status)
        )


@pytest.fixture
async def issuer() -> AsyncIterator[Issuer]:
    made = Issuer([(200, {"access_token": "an-oidc-token", "expires_in": 3600})])
    app = web.Application()
    app.router.add_post("/token", made.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}/token"
    yield made
    await runner.cleanup()


@pytest.fixture
async def rest(issuer: Issuer, tmp_path: Path) -> AsyncIterator[OscarRest]:
    (tmp_path / "refresh").write_text("a-refresh-token\n")
    async with Manager() as manager:
        provider = Provider(issuer.url, "token-portal", tmp_path / "refresh", "openid")
        made = OscarRest(Access(manager.url, provider=provider))
        yield made
        await made.close()


async def test_an_answer_may_come_in_parts(rest: OscarRest, issuer: Issuer) -> None:
    issuer.answers = [(200, (b'{"access_token": "an-oidc-', b'token", "expires_in": 3600}'))]

    assert "version" in await rest.info()


async def test_one_token_is_asked_for_and_used_until_shortly_before_its_end(
    rest: OscarRest, issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(3):
        assert (await rest.info())["version"] == "v4.1.2"
    expected = {"grant_type": "refresh_token", "client_id": "token-portal", "refresh_token": "a-refresh-token"}
    assert issuer.forms == [expected | {"scope": "openid"}]
    later = monotonic() + 3600 - 30
    monkeypatch.setattr(tokens, "monotonic", lambda: later)
    await rest.info()
    assert len(issuer.forms) == 2


async def test_a_token_that_oscar_refuses_is_not_used_again(rest: OscarRest, issuer: Issuer) -> None:
    issuer.answers = [(200, {"access_token": "revoked"}), (200, {"access_token": "an-oidc-token"})]
    with pytest.raises(RejectedError, match=r"HTTP 401.*PELAGOS_OSCAR_TOKEN_URL"):
        await rest.info()
    await rest.info()
    assert len(issuer.forms) == 2


async def test_a_provider_that_changes_refresh_tokens_is_followed(
    rest: OscarRest, issuer: Issuer, tmp_path: Path
) -> None:
    issuer.answers = [
        (200, {"access_token": "an-oidc-token", "expires_in": 0, "refresh_token": "second"}),
        (200, {"access_token": "an-oidc-token", "expires_in": 3600}),
    ]
    await rest.info()
    assert rest._tokens is not None
    rest._tokens.forget()
    await rest.info()
    (tmp_path / "refresh").write_text("brought-by-a-person")
    rest._tokens.forget()
    await rest.info()
    assert [form["refresh_token"] for form in issuer.forms] == ["a-refresh-token", "second", "brought-by-a-person"]


@pytest.mark.parametrize(
    ("status", "body", "kind", "words"),
    [
        (
            400,
            {"error": "invalid_grant", "error_description": "expired"},
            RejectedError,
            "invalid_grant expired; log in",
        ),
        (503, "busy", OutageError, "HTTP 503"),
        (200, "no json", OutageError, "no token was given"),
        (200, [], OutageError, "no token was given"),
        (200, {"access_token": "two\nlines"}, OutageError, "no token was given"),
        (302, "", OutageError, "HTTP 302"),
    ],
)
async def test_why_there_is_no_token_is_said_without_any(
    rest: OscarRest, issuer: Issuer, status: int, body: object, kind: type[Exception], words: str
) -> None:
    issuer.answers = [(status, body)]
    with pytest.raises(kind) as caught:
        await rest.info()
    assert words in str(caught.value)
    assert "a-refresh-token" not in repr(caught.value)
