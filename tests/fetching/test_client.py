"""Third-party servers are asked within limits: of bytes, of time, of where they redirect, and of who gets the credentials."""

from __future__ import annotations

import gzip
import ipaddress
import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest

from faulty_proxy import make_authority
from pelagos_contract.failures import Reason, RefusedError
from pelagos_contract.source_hosts import Address
from pelagos_pipelines.fetching import (
    Client,
    Credentials,
    FetchError,
    Patience,
    Policy,
    UnexpectedStatusError,
    shown_url,
)
from pelagos_pipelines.fetching.patience import asked_pause
from web_servers import Fault, Reply, Request, Server, quick, serving

TOKEN = "very-secret-token"


def service(request: Request) -> Reply:
    if request.path == "/pages":
        page = int(request.query.get("page", "1"))
        return Reply({"results": [page], "next": f"/pages?page={page + 1}" if page < 3 else None})
    if request.path == "/login":
        return Reply({"authorization": request.headers.get("authorization", ""), "key": request.query.get("api_key")})
    if request.path == "/html":
        return Reply(b"<!doctype html><title>log in</title>")
    if request.path == "/deep":
        return Reply(b"[" * 100_000)
    if request.path == "/large":
        return Reply(b"1" * 2_000_000)
    if request.path == "/packed":
        return Reply(gzip.compress(b'"' + b"a" * 20_000_000 + b'"'), headers={"Content-Encoding": "gzip"})
    if request.path == "/private":
        return Reply({"detail": f"token {request.headers.get('authorization')} \x1b[2J"}, 401)
    if request.path == "/posted":
        return Reply({"got": request.document}, 202)
    return Reply({"ok": True})


@pytest.fixture(scope="module")
def shared() -> Iterator[Server]:
    with serving(service) as server:
        yield server


@pytest.fixture
def server(shared: Server) -> Iterator[Server]:
    shared.seen.clear()
    yield shared
    shared.heal()


def reason(caught: pytest.ExceptionInfo[RefusedError]) -> Reason:
    return caught.value.failure.reason


def test_documents_and_pages_are_read(server: Server) -> None:
    with server.client() as client:
        assert client.json(f"{server.url}/x", params={"a": "b c"}) == {"ok": True}
        assert server.seen[-1].query == {"a": "b c"}
        pages = list(client.pages(f"{server.url}/pages", lambda page: page["next"], params={"page": 1}))
        posted = client.answer(f"{server.url}/posted", method="POST", body={"a": 1}, expect=(202,))
    assert [page["results"] for page in pages] == [[1], [2], [3]]
    assert json.loads(posted.content) == {"got": {"a": 1}}


def test_pages_end_and_stay_on_their_server(server: Server) -> None:
    with server.client() as client:
        with pytest.raises(RefusedError, match="more than 5 pages"):
            list(client.pages(f"{server.url}/x", lambda _: "/x", most=5))
        with pytest.raises(RefusedError, match="on another server"):
            list(client.pages(f"{server.url}/x", lambda _: "https://93.184.216.34/x"))
        with pytest.raises(RefusedError, match="no address"):
            list(client.pages(f"{server.url}/x", lambda _: {"a": 1}))  # type: ignore[arg-type, return-value]


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("/html", "a page for people"),
        ("/deep", "no JSON"),
        ("/large", "more than 1 MiB"),
        ("/packed", "more than 1 MiB"),
    ],
)
def test_what_is_no_document_is_refused(server: Server, path: str, why: str) -> None:
    with server.client() as client, pytest.raises(RefusedError, match=why) as caught:
        client.json(f"{server.url}{path}", limit=2**20)
    assert reason(caught) is Reason.SOURCE_INVALID


@pytest.mark.parametrize(
    ("login", "expected"),
    [
        (Credentials.bearer(f"{TOKEN}\n"), {"authorization": f"Bearer {TOKEN}", "key": None}),
        (Credentials.scheme("Token", TOKEN), {"authorization": f"Token {TOKEN}", "key": None}),
        (Credentials.basic("ann", TOKEN), {"authorization": "Basic YW5uOnZlcnktc2VjcmV0LXRva2Vu", "key": None}),
        (Credentials.parameter("api_key", TOKEN), {"authorization": "", "key": TOKEN}),
    ],
)
def test_credentials_log_in_and_do_not_show(server: Server, login: Credentials, expected: Any) -> None:
    with server.client() as client:
        assert client.json(f"{server.url}/login", login=login) == expected
    assert TOKEN not in repr(login)


@pytest.mark.parametrize("value", ["", "\n", "a\r\nX: y", "é"])
def test_credentials_that_would_make_another_header_are_refused(value: str) -> None:
    with pytest.raises(ValueError, match="credential"):
        Credentials.bearer(value)


def test_credentials_stay_with_the_server_that_they_are_for(server: Server) -> None:
    with serving(service) as other:
        server.fail(Fault("redirect", to=f"{other.url}/login?from=a"), times=2, part="/moved")
        both = {"PELAGOS_SOURCE_HOSTS": f"{server.url} {other.url}"}
        with Client(Policy.read(both), "f", quick()) as client:
            for login in (Credentials.bearer(TOKEN), Credentials.parameter("api_key", TOKEN)):
                assert client.json(f"{server.url}/moved", login=login) == {"authorization": "", "key": None}
        assert all(TOKEN not in f"{each.headers}{each.query}" for each in other.seen)


def test_credentials_are_in_no_message(server: Server) -> None:
    with server.client() as client:
        with pytest.raises(UnexpectedStatusError) as caught:
            client.json(f"{server.url}/x?api_key={TOKEN}", login=Credentials.parameter("k", TOKEN), expect=(204,))
        assert TOKEN not in str(caught.value)
        server.fail(Fault("answer", 500))
        with pytest.raises(FetchError) as failed:
            client.json(f"{server.url}/x?api_key={TOKEN}")
    assert TOKEN not in str(failed.value)
    assert "HTTP 500, 4 times" in str(failed.value)
    assert shown_url("https://a:b@c.example/d?key=e#f") == "https://c.example/d?***"


def test_refusals_say_what_helps(server: Server) -> None:
    with server.client("source.cvat.url") as client, pytest.raises(UnexpectedStatusError) as caught:
        client.json(f"{server.url}/private")
    assert reason(caught) is Reason.SOURCE_ACCESS_DENIED
    assert caught.value.failure.field == "source.cvat.url"
    assert "HTTP 401" in caught.value.failure.message
    assert "secretRef" in caught.value.failure.message
    assert "\x1b" not in caught.value.failure.message


@pytest.mark.parametrize(
    "to",
    [
        "http://169.254.169.254/latest",
        "https://10.0.0.1/",
        "file:///etc/passwd",
        "http://127.0.0.1:1/",
        "//user@127.0.0.1/",
    ],
)
def test_redirects_are_judged_like_addresses_of_people(server: Server, to: str) -> None:
    server.fail(Fault("redirect", to=to))
    with server.client() as client, pytest.raises(RefusedError) as caught:
        client.json(f"{server.url}/x")
    assert reason(caught) is Reason.SOURCE_NOT_ALLOWED


def test_redirects_end(server: Server) -> None:
    server.fail(Fault("redirect", to="/x"))
    with server.client() as client, pytest.raises(RefusedError, match="leads on more than 5 times"):
        client.json(f"{server.url}/x")
    assert len(server.seen) == 6


def test_the_connection_is_made_to_the_address_that_was_judged(server: Server) -> None:
    """The name resolves to a public address when it is judged, and to this machine afterwards, which must never be asked."""
    answers: list[list[Address]] = [[ipaddress.ip_address("203.0.114.1")], [ipaddress.ip_address("127.0.0.1")]]
    asked = list[str]()

    def rebinding(host: str, port: int) -> list[Address]:
        asked.append(host)
        return answers[min(len(asked), 2) - 1]

    port = server.url.rsplit(":", 1)[1]
    policy = Policy(f"http://rebinding.example:{port}", resolver=rebinding)
    patience = Patience(connect=0.2, read=0.2, total=5, tries=1, first_pause=0.01)
    with Client(policy, "f", patience) as client, pytest.raises(FetchError):
        client.json(f"http://rebinding.example:{port}/x")
    assert asked == ["rebinding.example"]
    assert server.seen == []


def test_a_name_that_leads_to_this_machine_is_refused_when_it_is_connected(server: Server) -> None:
    policy = Policy(resolver=lambda host, port: [ipaddress.ip_address("127.0.0.1")])
    with (
        Client(policy, "f", quick()) as client,
        pytest.raises(RefusedError, match=r"at the loopback address 127\.0\.0\.1"),
    ):
        client.json("https://looks.example/")


@pytest.mark.parametrize(
    "fault", [Fault("answer", 429, "0"), Fault("answer", 503), Fault("answer", 500), Fault("drop"), Fault("cut")]
)
def test_what_passes_is_asked_again(server: Server, fault: Fault) -> None:
    server.fail(fault, times=2)
    with server.client() as client:
        assert client.json(f"{server.url}/x") == {"ok": True}
    assert len(server.seen) == 3


def test_a_server_that_asks_for_time_is_given_it_within_bounds(server: Server) -> None:
    server.fail(Fault("answer", 429, "3600"), times=8)
    with server.client() as client:
        began = time.monotonic()
        assert client.json(f"{server.url}/x") == {"ok": True}
    assert 8 * quick().longest <= time.monotonic() - began < 60
    server.fail(Fault("answer", 429, "3600"))
    impatient = Patience(total=0.2, longest=0.05)
    with (
        server.client(patience=impatient) as client,
        pytest.raises(FetchError, match=r"there is no time left|it took longer than"),
    ):
        client.json(f"{server.url}/x")


def test_what_changes_something_is_not_asked_twice(server: Server) -> None:
    server.fail(Fault("drop"), times=1)
    with server.client() as client, pytest.raises(FetchError, match="the connection broke"):
        client.answer(f"{server.url}/posted", method="POST", body={})
    assert server.count("POST") == 1


def test_a_server_that_hangs_is_given_up(server: Server) -> None:
    server.fail(Fault("slow", seconds=0.4))
    patience = Patience(read=0.1, total=5, tries=2, first_pause=0.01)
    with server.client(patience=patience) as client, pytest.raises(FetchError, match="no answer in time, 2 times"):
        client.json(f"{server.url}/x")


@pytest.mark.parametrize(
    ("value", "seconds"),
    [("7", 7), (" 0 ", 0), ("Sat, 28 Nov 2026 10:01:40 GMT", 100), (formatdate(0, usegmt=True), 0)],
)
def test_pauses_are_seconds_or_dates(value: str, seconds: float) -> None:
    assert asked_pause(value, datetime(2026, 11, 28, 10, tzinfo=UTC)) == seconds


@pytest.mark.parametrize("value", [None, "", "soon", "-3", "1e9", "٣", "9" * 400 + "x"])
def test_pauses_that_say_nothing_are_none(value: str | None) -> None:
    assert asked_pause(value) is None


def test_certificates_are_held_against_the_authorities_that_are_named(tmp_path: Path) -> None:
    authority = make_authority(tmp_path / "ca")
    with serving(service, authority.server) as server:
        server.authority = str(authority.file)
        with server.client() as client:
            assert client.json(f"{server.url}/x") == {"ok": True}
        server.authority = ""
        with server.client() as client, pytest.raises(FetchError, match="its TLS certificate is not trusted"):
            client.json(f"{server.url}/x")
