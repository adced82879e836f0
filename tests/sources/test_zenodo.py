"""A record of a repository becomes a version: the latest one, or exactly the one that is named, with every file verified."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from fetched_sources import Step, allow, folder, image, zipped
from invenio_servers import Repository, Version
from pelagos_contract.failures import Reason
from pelagos_contract.remote_sources import SECRET_CONTENT
from web_servers import Fault, serving


@pytest.fixture
def repository() -> Repository:
    return Repository({100: [Version({"reef.zip": zipped(folder(6))}), Version({"reef.zip": zipped(folder(8))}, "v2")]})


@pytest.fixture
def step(repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Step]:
    with serving(repository) as server:
        allow(server, monkeypatch, tmp_path)
        yield Step(server, tmp_path, "zenodo", {"url": server.url})


@pytest.mark.parametrize("leads", [True, False])
@pytest.mark.parametrize(
    ("source", "images", "version"),
    [
        ({"record": "100"}, 8, "102 (v2)"),
        ({"record": "101"}, 6, "101"),
        ({"doi": "10.5281/zenodo.100"}, 8, "102 (v2)"),
        ({"doi": "10.5281/ZENODO.101"}, 6, "101"),
    ],
)
def test_the_version_that_is_meant_is_taken_and_told(
    step: Step, repository: Repository, leads: bool, source: dict[str, str], images: int, version: str
) -> None:
    repository.leads = leads
    result = step.run(**source)
    assert result.origin is not None
    assert (result.images, result.origin.version) == (images, version)
    assert result.origin.doi == f"10.5281/zenodo.{version[:3]}"
    assert result.origin.url == f"{step.server.url}/records/{version.partition(' ')[0]}"


@pytest.mark.parametrize(("doi", "version"), [("10.1234/abcd.100", "102 (v2)"), ("10.1234/abcd.101", "101")])
def test_a_doi_of_another_repository_is_searched_for(
    step: Step, repository: Repository, doi: str, version: str
) -> None:
    repository.prefix = "10.1234/abcd."
    origin = step.run(doi=doi).origin
    assert origin is not None
    assert origin.version == version


def test_a_new_version_is_seen_without_bringing_what_is_here(step: Step, repository: Repository) -> None:
    first = step.run(record="100")
    again = step.run(retry="one", record="100")
    assert again == first
    assert step.server.count("GET", "/content") == 1
    repository.records[100].append(Version({"reef.zip": zipped(folder(10))}))
    third = step.run(retry="two", record="100")
    assert (third.images, third.origin and third.origin.version) == (10, "103")
    assert step.server.count("GET", "/content") == 2


def test_several_files_lie_beside_each_other_and_archives_are_folders(step: Step, repository: Repository) -> None:
    content = {f"{name}.zip": zipped({f"{n}.png": image(n) for n in numbers}) for name, numbers in
               (("fish", range(4)), ("crab", range(4, 8)))}  # fmt: skip
    repository.records[100].append(Version(content | {"LICENSE.txt": b"CC0", "notes of 1998.md": b"hello"}))
    result = step.run(record="100")
    assert {each.name: each.images for each in result.classes} == {"crab": 4, "fish": 4}
    assert result.origin is not None
    assert result.origin.files == 4
    assert step.run(record="100", files=["*.zip"]).origin.files == 2  # type: ignore[union-attr]


def test_no_file_takes_the_place_of_another(step: Step, repository: Repository) -> None:
    files = {"fish.zip": zipped({"1.png": image(1), "2.png": image(2)}), "fish.tar.zip": zipped({"3.png": image(3)})}
    plain = {"fish/1.png": image(4), "fish.tar": zipped({"5.png": image(5)}), "crab/6.png": image(6)}
    repository.records[100].append(Version(files | plain))
    step.request = {"task": "Classification", "split": {"ratios": {"train": 100, "validation": 0, "test": 0}}}
    result = step.run(record="100", files=["*.zip", "*.png", "*.tar"])
    assert result.files.images == 6


def test_patterns_that_match_nothing_name_what_is_there(step: Step) -> None:
    error = step.refusal(record="100", files=["*.tar"])
    assert error.failure.reason is Reason.SOURCE_NOT_FOUND
    assert "no files that match '*.tar'; there are: reef.zip" in error.failure.message


def test_a_file_with_another_md5_is_refused(step: Step, repository: Repository) -> None:
    repository.records[100][1].checksums = {"reef.zip": "md5:" + "0" * 32}
    error = step.refusal(record="100")
    assert error.failure.reason is Reason.SOURCE_CHANGED
    assert "its md5 is" in error.failure.message


def test_a_restricted_record_says_so_and_is_read_with_a_token(
    step: Step, repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository.records[100][1].restricted = True
    repository.token = "very-secret"
    error = step.refusal(record="100")
    assert error.failure.reason is Reason.SOURCE_ACCESS_DENIED
    assert "the files of the record 102 are restricted" in error.failure.message
    monkeypatch.setenv(SECRET_CONTENT, json.dumps({"token": "wrong"}))
    assert "its token may not read it" in step.refusal(record="100", secretRef={"name": "z"}).failure.message
    monkeypatch.setenv(SECRET_CONTENT, json.dumps({"token": "very-secret"}))
    assert step.run(record="100", secretRef={"name": "z"}).images == 8


def test_tokens_go_nowhere_else_whatever_links_say(
    step: Step, repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(SECRET_CONTENT, json.dumps({"token": "very-secret"}))
    assert step.run(record="100", secretRef={"name": "z"}).images == 8
    assert all(request.headers["host"].startswith("127.0.0.1") for request in step.server.seen)


@pytest.mark.parametrize("source", [{"record": "999"}, {"doi": "10.5281/zenodo.999"}, {"doi": "10.9999/none"}])
def test_what_is_not_published_is_waited_for(step: Step, source: dict[str, str]) -> None:
    failure = step.refusal(**source).failure
    assert (failure.reason, failure.reason.state) == (Reason.SOURCE_NOT_FOUND, "waiting")


@pytest.mark.parametrize(
    "name", ["../escape.png", "a/../../b.png", "/etc/cron.d/a.png", "a\\x00.png", "x" * 300 + ".png"]
)
def test_names_of_files_that_a_folder_cannot_hold_are_refused(step: Step, repository: Repository, name: str) -> None:
    name = name.replace("\\x00", "\x00")
    repository.records[100].append(Version({name: image(1), "b.png": image(2)}))
    assert step.refusal(record="100").failure.reason is Reason.FORMAT_INVALID


@pytest.mark.parametrize("reply", [[], {"id": "../../x"}, {"id": "102", "pids": 7}, "text"])
def test_what_is_no_repository_is_refused(step: Step, repository: Repository, reply: object) -> None:
    from web_servers import Reply

    step.server.handler = lambda request: Reply(reply)
    assert step.refusal(record="100").failure.reason in {Reason.SOURCE_INVALID, Reason.FORMAT_INVALID}


def test_a_repository_that_asks_for_patience_gets_it(step: Step) -> None:
    step.server.fail(Fault("answer", 429, "0"), times=2)
    step.server.fail(Fault("cut"), times=1, part="/content")
    assert step.run(record="100").images == 8
