"""A file is sent unchanged, in pieces, and from its beginning whenever it must be sent again."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from pelagos_pipelines.fetching import Credentials, FetchError, FileBody, uploads
from web_servers import Fault, Reply, Request, Server, serving

CONTENT = random.Random(2).randbytes(300_000)


@dataclass
class Inbox:
    """A server that keeps the content of requests."""

    got: list[Request] = field(default_factory=list)

    def __call__(self, request: Request) -> Reply:
        self.got.append(request)
        return Reply({"size": len(request.body)})


@pytest.fixture
def inbox() -> Inbox:
    return Inbox()


@pytest.fixture
def server(inbox: Inbox) -> Iterator[Server]:
    with serving(inbox) as made:
        yield made


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(uploads, "PIECE", 1000)
    path = tmp_path / "reef.zip"
    path.write_bytes(CONTENT)
    return path


@pytest.mark.parametrize("kind", [None, "drop", "lose", "cut"])
def test_a_file_arrives_as_it_is_whatever_breaks_on_the_way(
    server: Server, inbox: Inbox, file: Path, kind: str | None
) -> None:
    if kind is not None:
        server.fail(Fault(kind), times=2)  # type: ignore[arg-type]
    told: list[int] = []
    body = FileBody(file, len(CONTENT), told.append)

    with server.client() as client:
        answer = client.json(f"{server.url}/a", method="PUT", body=body, login=Credentials.bearer("x"))

    assert answer == {"size": len(CONTENT)}
    assert inbox.got[-1].body == CONTENT
    assert inbox.got[-1].headers["content-type"] == "application/octet-stream"
    assert (told[0], told[-1]) == (1000, len(CONTENT))
    assert len(server.seen) == (1 if kind is None else 3)


def test_a_piece_is_in_memory_at_a_time(file: Path) -> None:
    pieces = FileBody(file, len(CONTENT)).pieces()

    assert len(next(pieces)) == 1000
    assert {len(piece) for piece in pieces} == {1000}


def test_what_is_no_repetition_is_not_made_again_when_nobody_knows_what_became_of_it(
    server: Server, inbox: Inbox
) -> None:
    server.fail(Fault("lose"), times=1)
    with server.client() as client, pytest.raises(FetchError):
        client.json(f"{server.url}/a", method="POST", body={})
    assert len(inbox.got) == 1


def test_a_call_without_a_body_says_so(server: Server, inbox: Inbox) -> None:
    with server.client() as client:
        client.json(f"{server.url}/a", method="POST")
    assert inbox.got[0].headers["content-length"] == "0"
