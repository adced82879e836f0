"""An archive at an address becomes a version; looking again does not download what is already here."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from fetched_sources import Step, allow, folder, image, zipped
from pelagos_contract.failures import Reason
from pelagos_contract.remote_sources import SECRET_CONTENT, SECRET_FOLDER
from web_servers import Fault, Reply, Request, serving


def archive(count: int = 6) -> bytes:
    return zipped({f"reef/{name}": data for name, data in folder(count).items()})


@dataclass
class Shelf:
    """A server of one archive, under any name."""

    content: bytes = field(default_factory=archive)
    etag: str = '"one"'
    token: str = ""

    def __call__(self, request: Request) -> Reply:
        if self.token and request.headers.get("authorization") != f"Bearer {self.token}":
            return Reply({"message": "who are you?"}, 401)
        return Reply(self.content, etag=self.etag)


@pytest.fixture
def shelf() -> Shelf:
    return Shelf()


@pytest.fixture
def step(shelf: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Step]:
    with serving(shelf) as server:
        allow(server, monkeypatch, tmp_path)
        yield Step(server, tmp_path, "http", {"url": f"{server.url}/reef%20of%201998.zip"})


def brought(step: Step) -> int:
    return step.server.count("GET")


def test_an_archive_becomes_a_version(step: Step, shelf: Shelf) -> None:
    result = step.run()
    assert result.images == 6
    assert {each.name for each in result.classes} == {"crab", "fish"}
    assert result.origin is not None
    assert result.origin.sha256 == hashlib.sha256(shelf.content).hexdigest()
    assert (result.origin.state, result.origin.bytes, result.origin.files) == ('"one"', len(shelf.content), 6)
    assert brought(step) == 1


def test_looking_again_brings_nothing_until_the_content_changes(step: Step, shelf: Shelf) -> None:
    first = step.run()
    assert step.run(retry="one") == first
    assert brought(step) == 1
    shelf.content, shelf.etag = archive(8), '"two"'
    changed = step.run(retry="two")
    assert (changed.images, brought(step)) == (8, 2)
    assert changed.version != first.version


def test_what_a_digest_names_is_not_even_looked_at_again(step: Step, shelf: Shelf) -> None:
    digest = hashlib.sha256(shelf.content).hexdigest()
    first = step.run(sha256=digest)
    asked = len(step.server.seen)
    assert step.run(retry="again", sha256=digest) == first
    assert len(step.server.seen) == asked


def test_without_etag_and_date_it_is_brought_again_and_is_the_same_version(step: Step, shelf: Shelf) -> None:
    shelf.etag = ""
    first = step.run()
    again = step.run(retry="again")
    assert (again.version, brought(step)) == (first.version, 2)


def test_another_recipe_is_not_answered_by_what_is_known(step: Step) -> None:
    step.run()
    step.run(url=step.source["url"] + "?x=1")
    assert brought(step) == 2


def test_where_it_comes_from_is_no_part_of_a_version(step: Step, tmp_path: Path) -> None:
    first = step.run()
    assert step.run(url=f"{step.server.url}/other.zip?key=secret").version == first.version
    manifest = Path(first.uri, "manifest.json").read_text()
    assert "127.0.0.1" not in manifest
    assert "secret" not in (tmp_path / "report" / "result.json").read_text()


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:xz", "w:bz2"])
def test_the_kind_of_an_archive_is_in_its_content(step: Step, shelf: Shelf, mode: str) -> None:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode=mode) as packed:  # type: ignore[call-overload]
        for name, data in folder().items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            packed.addfile(member, io.BytesIO(data))
    shelf.content = content.getvalue()
    assert step.run(url=f"{step.server.url}/download?id=7").images == 6


def test_what_is_no_archive_is_refused_by_name(step: Step, shelf: Shelf) -> None:
    shelf.content = image(1)
    error = step.refusal(url=f"{step.server.url}/reef")
    assert error.failure.reason is Reason.FORMAT_INVALID
    assert "reef is no archive" in error.failure.message


def test_another_archive_than_its_digest_says_is_refused(step: Step) -> None:
    error = step.refusal(sha256="0" * 64)
    assert error.failure.reason is Reason.SOURCE_CHANGED
    assert error.failure.field == "source.http"


@pytest.mark.parametrize("delivered", ["folder", "variable"])
def test_a_secret_logs_in_and_is_nowhere_afterwards(
    step: Step,
    shelf: Shelf,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    delivered: str,
    capfd: pytest.CaptureFixture[str],
) -> None:
    shelf.token = "very-secret-token"
    if delivered == "folder":
        folder = tmp_path / "secret" / "..data"
        folder.mkdir(parents=True)
        (folder / "token").write_text("very-secret-token\n")
        (tmp_path / "secret" / "token").symlink_to("..data/token")
        monkeypatch.setenv(SECRET_FOLDER, str(tmp_path / "secret"))
    else:
        monkeypatch.setenv(SECRET_CONTENT, json.dumps({"token": "very-secret-token"}))
    assert step.run(secretRef={"name": "reef"}).images == 6
    out = "".join(capfd.readouterr())
    for file in (file for place in ("report", "store") for file in (tmp_path / place).rglob("*") if file.is_file()):
        assert b"very-secret" not in file.read_bytes()
    assert "very-secret" not in out


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (None, "it was not given to this step"),
        ({}, "it needs token or username and password or header and value, and has no keys"),
        ({"password": "x"}, "and has password"),
        ({"token": "a\r\nb"}, "no header can"),
    ],
)
def test_a_secret_that_is_not_whole_is_waited_for(
    step: Step, monkeypatch: pytest.MonkeyPatch, content: dict[str, str] | None, why: str
) -> None:
    if content is not None:
        monkeypatch.setenv(SECRET_CONTENT, json.dumps(content))
    error = step.refusal(secretRef={"name": "reef"})
    assert (error.failure.reason, error.failure.reason.state) == (Reason.SOURCE_SECRET_INCOMPLETE, "waiting")
    assert why in error.failure.message


def test_refused_credentials_are_said(step: Step, shelf: Shelf) -> None:
    shelf.token = "another"
    assert step.refusal().failure.reason is Reason.SOURCE_ACCESS_DENIED


def test_an_address_that_the_platform_has_not_allowed_is_refused_with_the_line_to_add(
    step: Step, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in step.server.variables:
        monkeypatch.delenv(name)
    error = step.refusal()
    assert error.failure.reason is Reason.SOURCE_NOT_ALLOWED
    assert f"PELAGOS_SOURCE_HOSTS='{step.server.url}'" in error.failure.message
    assert step.server.seen == []


def test_an_archive_that_leads_out_is_refused(step: Step, shelf: Shelf) -> None:
    shelf.content = zipped({"../../fish/1.png": image(1)})
    assert step.refusal().failure.reason is Reason.FORMAT_INVALID


def test_a_download_that_breaks_off_is_gone_on_with(step: Step) -> None:
    step.server.fail(Fault("cut"), times=2, method="GET")
    assert step.run().images == 6
    assert brought(step) == 3
