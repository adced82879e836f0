"""A file arrives whole, once, and is the announced one; otherwise nothing of it remains."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from pelagos_contract.disk import FullError
from pelagos_contract.failures import Reason, RefusedError
from pelagos_pipelines.fetching import FetchError, Wanted, download, validators
from small_volumes import fill, small
from web_servers import Fault, Reply, Request, Server, serving

__all__ = ["small"]

CONTENT = random.Random(1).randbytes(300_000)
SHA256, MD5 = hashlib.sha256(CONTENT).hexdigest(), hashlib.md5(CONTENT).hexdigest()


@dataclass
class Shelf:
    """A server of one file, which may change."""

    content: bytes = CONTENT
    etag: str = '"one"'
    headers: dict[str, str] = field(default_factory=dict)
    heads: int = 200

    def __call__(self, request: Request) -> Reply:
        if request.method == "HEAD" and self.heads != 200:
            return Reply(b"", self.heads)
        if not self.etag:
            return Reply(self.content, headers=self.headers)
        return Reply(self.content, etag=self.etag, headers=self.headers)


@pytest.fixture
def shelf() -> Shelf:
    return Shelf()


@pytest.fixture
def server(shelf: Shelf) -> Iterator[Server]:
    with serving(shelf) as server:
        yield server


def bring(server: Server, folder: Path, **wanted: object) -> Path:
    with server.client() as client:
        return download(client, Wanted(f"{server.url}/a.zip", folder / "a.zip", **wanted)).path  # type: ignore[arg-type]


def refusal(server: Server, folder: Path, **wanted: object) -> RefusedError:
    with pytest.raises(RefusedError) as caught:
        bring(server, folder, **wanted)
    assert list(folder.iterdir()) == []
    return caught.value


def test_a_file_arrives_with_its_digests(server: Server, tmp_path: Path) -> None:
    told = list[tuple[int, int]]()
    with server.client() as client:
        wanted = Wanted(
            f"{server.url}/a.zip", tmp_path / "a" / "a.zip", size=len(CONTENT), sha256=SHA256, md5=MD5.upper()
        )
        found = download(client, wanted, lambda done, total: told.append((done, total)))
    assert found.path.read_bytes() == CONTENT
    assert (found.size, found.sha256, found.md5, found.validators.etag) == (len(CONTENT), SHA256, MD5, '"one"')
    assert told[-1] == (len(CONTENT), len(CONTENT))
    assert [path.name for path in found.path.parent.iterdir()] == ["a.zip"]


def test_a_download_that_breaks_off_goes_on_where_it_was(server: Server, tmp_path: Path) -> None:
    server.fail(Fault("cut"), times=3)
    assert bring(server, tmp_path).read_bytes() == CONTENT
    starts = [int(each.headers.get("range", "bytes=0-").removeprefix("bytes=").rstrip("-")) for each in server.seen]
    assert starts == [0, 150_000, 225_000, 262_500]
    assert all(each.headers["if-range"] == '"one"' for each in server.seen[1:])


def test_a_server_that_ignores_ranges_sends_all_anew(server: Server, tmp_path: Path) -> None:
    server.fail(Fault("cut"), times=1)
    server.fail(Fault("ignore_range"))
    assert bring(server, tmp_path).read_bytes() == CONTENT


def test_a_part_that_nobody_asked_for_is_not_taken_for_the_whole(server: Server, tmp_path: Path) -> None:
    def stingy(request: Request) -> Reply:
        start = int(request.headers.get("range", "bytes=0-").removeprefix("bytes=").rstrip("-"))
        part = CONTENT[start : start + 100_000]
        told = f"bytes {start}-{start + len(part) - 1}/{len(CONTENT)}"
        return Reply(part, 206, {"ETag": '"one"', "Content-Range": told})

    server.handler = stingy
    assert bring(server, tmp_path).read_bytes() == CONTENT
    assert server.count("GET") == 3


def test_a_file_that_changes_meanwhile_is_begun_anew(server: Server, shelf: Shelf, tmp_path: Path) -> None:
    other = CONTENT[::-1]

    def changes(request: Request) -> Reply:
        reply = shelf(request)
        shelf.content, shelf.etag = other, '"two"'
        return reply

    server.handler = changes
    server.fail(Fault("cut"), times=1)
    assert bring(server, tmp_path).read_bytes() == other


@pytest.mark.parametrize("etag", ["", 'W/"weak"'])
def test_without_a_strong_etag_nothing_is_joined_unless_its_digest_tells(
    server: Server, shelf: Shelf, tmp_path: Path, etag: str
) -> None:
    shelf.etag = etag
    server.fail(Fault("cut"), times=1)
    assert bring(server, tmp_path).read_bytes() == CONTENT
    assert "range" not in server.seen[1].headers


def test_with_a_digest_it_is_resumed_all_the_same(server: Server, shelf: Shelf, tmp_path: Path) -> None:
    shelf.etag = 'W/"weak"'
    server.fail(Fault("cut"), times=1)
    assert bring(server, tmp_path, md5=MD5).read_bytes() == CONTENT
    assert server.seen[1].headers["range"] == "bytes=150000-"
    assert "if-range" not in server.seen[1].headers


@pytest.mark.parametrize("wanted", [{"sha256": "0" * 64}, {"md5": "0" * 32}, {"size": len(CONTENT) + 1}])
def test_another_file_than_announced_is_fetched_twice_and_refused(
    server: Server, tmp_path: Path, wanted: dict[str, object]
) -> None:
    error = refusal(server, tmp_path, **wanted)
    assert error.failure.reason is Reason.SOURCE_CHANGED
    assert server.count("GET") == 2


def test_a_file_that_was_damaged_on_the_way_is_fetched_again(server: Server, shelf: Shelf, tmp_path: Path) -> None:
    shelf.content = b"x" + CONTENT[1:]

    def repaired(request: Request) -> Reply:
        reply = shelf(request)
        shelf.content = CONTENT
        return reply

    server.handler = repaired
    assert bring(server, tmp_path, sha256=SHA256).read_bytes() == CONTENT


def test_more_than_the_ceiling_is_refused_before_and_while_it_comes(
    server: Server, shelf: Shelf, tmp_path: Path
) -> None:
    assert "allowed are 1000" in str(refusal(server, tmp_path, limit=1000))
    assert "as its server announced it" in str(refusal(server, tmp_path, size=10))


def test_a_disk_without_room_is_known_before_the_first_byte(server: Server, small: Path) -> None:
    fill(small)
    with pytest.raises(FullError):
        bring(server, small)
    assert [path.name for path in small.iterdir() if path.name.startswith("a.zip")] == []


def test_a_server_that_sends_nothing_more_is_given_up(server: Server, tmp_path: Path) -> None:
    server.fail(Fault("drop"))
    with pytest.raises(FetchError, match="the connection broke"):
        bring(server, tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("status", [200, 405, 403, 501])
def test_what_is_there_now_is_known_without_bringing_it(server: Server, shelf: Shelf, status: int) -> None:
    shelf.heads, shelf.headers = status, {"Last-Modified": "Sat, 28 Nov 2026 10:00:00 GMT"}
    with server.client() as client:
        found = validators(client, f"{server.url}/a.zip")
    assert (found.etag, found.modified, found.size) == ('"one"', "Sat, 28 Nov 2026 10:00:00 GMT", len(CONTENT))
    assert found.state == '"one"'


def test_an_address_that_holds_nothing_is_refused(server: Server, shelf: Shelf) -> None:
    server.fail(Fault("answer", 404))
    with server.client() as client, pytest.raises(RefusedError) as caught:
        validators(client, f"{server.url}/a.zip")
    assert caught.value.failure.reason is Reason.SOURCE_NOT_FOUND
