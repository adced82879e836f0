"""A version becomes a record of a repository: once, whole, and as it was judged, even if steps fail on the way."""

from __future__ import annotations

import io
import json
import ssl
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from fetched_sources import Step, allow
from invenio_deposits import Deposit, Deposits, File
from pelagos_contract import sealing
from pelagos_contract.documents import DOCUMENTS
from pelagos_contract.failures import Reason
from pelagos_contract.formats import FORMATS
from pelagos_contract.remote_sources import SECRET_CONTENT
from pelagos_pipelines.fetching import client as fetching_client
from pelagos_pipelines.fetching import connecting
from pelagos_pipelines.preparation import versions
from pelagos_pipelines.publishing import publication
from published_datasets import UID, KilledError, Publisher, killed_at, sha256, versions_of
from web_servers import Fault, quick, serving


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("made")
    versions_of(root)
    return root


@pytest.fixture(scope="module")
def trusted() -> ssl.SSLContext:
    """Shared by all tests, since loading all certificate authorities takes longer than a publication."""
    return connecting.context()


@pytest.fixture
def publisher(
    made: Path, trusted: ssl.SSLContext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Publisher]:
    monkeypatch.setattr(fetching_client, "Patience", quick)
    monkeypatch.setattr(publication, "SETTLES", 0.15)
    monkeypatch.setattr(publication, "_PAUSE", 0.01)
    monkeypatch.setattr(connecting, "context", lambda authority: trusted)
    monkeypatch.setenv(SECRET_CONTENT, json.dumps({"token": "very-secret"}))
    repository = Deposits()
    with serving(repository) as server:
        allow(server, monkeypatch, tmp_path)
        yield Publisher(server, repository, tmp_path, versions_of(made))


def test_a_version_is_published_with_its_metadata_a_doi_and_its_files(publisher: Publisher) -> None:
    result = publisher.run()

    record = publisher.only()
    digest = publisher.versions[0].digest
    assert record.is_published
    assert (result.state, result.doi, result.concept_doi) == ("Published", "10.5072/zenodo.111", "10.5072/zenodo.110")
    assert result.url == f"{publisher.server.url}/records/111"
    assert (result.version, result.at) == (f"sha256:{digest}", "2026-11-29T10:52:23Z")
    assert record.metadata["title"] == "Fish of the bay"
    assert record.metadata["creators"][0] == {
        "person_or_org": {
            "type": "personal",
            "family_name": "Curie",
            "given_name": "Marie",
            "identifiers": [{"scheme": "orcid", "identifier": "0000-0002-1825-0097"}],
        },
        "affiliations": [{"name": "Caltech"}],
    }
    assert record.metadata["rights"] == [{"id": "cc-by-4.0"}]
    assert record.metadata["languages"] == [{"id": "eng"}]
    assert record.metadata["identifiers"] == [{"identifier": f"urn:sha256:{digest}", "scheme": "urn"}]
    assert record.metadata["related_identifiers"][0]["identifier"] == f"urn:uuid:{UID}"
    assert record.metadata["description"] == "<p>Boxes of &quot;cod&quot; &amp; &lt;eel&gt;.<br>Two lines, señor.</p>"
    assert {each["subject"] for each in record.metadata["subjects"]} == {"fish", "underwater images", "Fish", "Cod"}
    assert record.metadata["funding"][0]["award"]["number"] == "101058625"
    assert record.access == {"record": "public", "files": "public"}


def test_the_manifest_and_every_document_name_what_is_there(publisher: Publisher) -> None:
    publisher.run()

    files = {name: file.content or b"" for name, file in publisher.only().files.items()}
    digest = publisher.versions[0].digest
    archive = f"fish-{digest[:12]}.zip"
    assert set(files) == {archive, "datacite.json", "schema.jsonld", "manifest.json"}
    manifest = json.loads(files["manifest.json"])
    assert (manifest["version"], manifest["doi"]) == (f"sha256:{digest}", "10.5072/zenodo.111")
    assert {name: each["sha256"] for name, each in manifest["files"].items()} == {
        name: sha256(content) for name, content in files.items() if name != "manifest.json"
    }
    assert json.loads(files["datacite.json"])["doi"] == "10.5072/zenodo.111"
    with zipfile.ZipFile(io.BytesIO(files[archive])) as packed:
        images = [name for name in packed.namelist() if name.endswith(".png")]
        assert (len(images), packed.testzip()) == (3, None)
        assert {sha256(packed.read(name)) for name in images} == {
            blob.parent.name + blob.name for blob in publisher.versions[0].blobs.values()
        }
        assert packed.read("datacite.json") == files["datacite.json"]


@pytest.mark.parametrize("view", ["coco", "yolo", "voc"])
def test_what_was_published_is_a_source_of_the_same_images_again(publisher: Publisher, view: str) -> None:
    result = publisher.run(view=view, documents=[each.name for each in DOCUMENTS])
    source = {
        "url": publisher.server.url,
        "record": result.record,
        "files": ["fish-*.zip"],
        "secretRef": {"name": "zenodo"},
    }
    format_name = next(each.name for each in FORMATS if each.view == view)
    again = Step(publisher.server, publisher.root / "again", "zenodo", source)
    again.request = {"task": "Detection", "format": format_name}

    made = again.run()

    assert made.origin is not None
    assert (made.images, made.annotations, made.origin.doi) == (3, 3, result.doi)
    found = versions.read(made.uri)
    assert {blob.parent.name + blob.name for blob in found.blobs.values()} == {
        blob.parent.name + blob.name for blob in publisher.versions[0].blobs.values()
    }


def test_a_draft_is_for_people_to_look_at_and_becomes_the_record_when_that_is_asked(publisher: Publisher) -> None:
    draft = publisher.run(state="Draft")
    sent = list(publisher.repository.sent)
    assert (draft.state, draft.doi, draft.url) == ("Draft", "10.5072/zenodo.111", f"{publisher.server.url}/uploads/111")
    assert not publisher.only().is_published

    record = publisher.run()

    assert (record.state, record.doi) == ("Published", draft.doi)
    assert publisher.repository.sent == sent
    assert publisher.only().is_published


def test_the_same_request_asks_nobody_again_and_another_one_finds_the_record(publisher: Publisher) -> None:
    first = publisher.run()
    seen = len(publisher.server.seen)

    assert publisher.run() == first
    assert len(publisher.server.seen) == seen

    publisher.request["retry"] = "again"
    assert publisher.run() == first.model_copy(update={"retry": "again"})
    assert publisher.only().is_published


def test_a_newer_version_is_a_new_version_of_the_same_record(publisher: Publisher) -> None:
    first, second = publisher.run(), publisher.run(1)

    old, new = publisher.repository.published
    assert (second.concept_doi, second.doi) == (first.concept_doi, f"10.5072/zenodo.{new.number}")
    assert (old.parent, new.index) == (new.parent, 2)
    assert set(old.files) & set(new.files) == {"datacite.json", "schema.jsonld", "manifest.json"}
    assert new.metadata["identifiers"][0]["identifier"] == f"urn:sha256:{publisher.versions[1].digest}"
    publisher.request["retry"] = "the first one is asked for again"
    assert publisher.run().doi == first.doi
    assert len(publisher.repository.there) == 2


def test_the_draft_of_an_earlier_version_becomes_that_of_the_present_one(publisher: Publisher) -> None:
    first, second = publisher.run(state="Draft"), publisher.run(1, state="Draft")

    assert first.doi == second.doi
    draft = publisher.only()
    assert [name for name in draft.files if name.endswith(".zip")] == [f"fish-{publisher.versions[1].digest[:12]}.zip"]


def test_a_dataset_that_came_back_under_another_uid_finds_what_it_published(publisher: Publisher) -> None:
    first = publisher.run()
    (publisher.report / "publication.json").unlink()
    publisher.request |= {"owners": [UID, "uid-of-the-rebuilt-cluster"], "retry": "1"}

    assert publisher.run().doi == first.doi
    assert publisher.run(1).concept_doi == first.concept_doi


def calls(publisher: Publisher) -> int:
    """The number of calls that a publication makes."""
    with pytest.MonkeyPatch.context() as patch:
        made = killed_at(patch, 0, after=False)
        publisher.run()
        return made()


def forget(publisher: Publisher) -> None:
    """Reset the repository and the report, as if nothing had been published."""
    publisher.repository.there.clear()
    publisher.repository.sent.clear()
    for file in publisher.report.iterdir():
        file.unlink()


def test_a_newer_version_finds_what_a_step_published_just_before_it_died(publisher: Publisher) -> None:
    last = calls(publisher)
    forget(publisher)
    publisher.repository.lag = 50
    with pytest.MonkeyPatch.context() as patch:
        killed_at(patch, last, after=True)
        with pytest.raises(KilledError):
            publisher.run()
    assert publisher.only().is_published

    publisher.run(1)

    assert len({each.parent for each in publisher.repository.published}) == 1
    assert len(publisher.repository.published) == 2


@pytest.mark.parametrize(("after", "lag"), [(False, 0), (True, 2)])
def test_a_step_that_is_killed_at_any_call_leaves_one_record_and_sends_nothing_twice(
    publisher: Publisher, after: bool, lag: int
) -> None:
    number = calls(publisher)
    assert number > 15
    for call in range(1, number + 1):
        forget(publisher)
        publisher.repository.lag = lag
        with pytest.MonkeyPatch.context() as patch:
            killed_at(patch, call, after=after)
            with pytest.raises(KilledError):
                publisher.run()

        result = publisher.run()

        record = publisher.only()
        assert record.is_published, call
        assert result.doi == record.doi
        names = [name for name, _ in publisher.repository.sent]
        # A file that was sent but not yet confirmed may have to be sent again; at most one is in that state.
        assert len(names) - len(set(names)) <= 1, call
        assert all(file.is_complete for file in record.files.values())


@pytest.mark.parametrize("kind", ["lose", "broken", "drop"])
@pytest.mark.parametrize(
    ("method", "part"),
    [
        ("GET", "/user/records"),
        ("POST", "/api/records"),
        ("PUT", "/draft"),
        ("POST", "/pids/doi"),
        ("POST", "/files"),
        ("PUT", "/content"),
        ("POST", "/commit"),
        ("POST", "/publish"),
    ],
)
def test_an_answer_that_is_lost_or_wrong_costs_time_alone(
    publisher: Publisher, method: str, part: str, kind: str
) -> None:
    publisher.server.fail(Fault(kind, 500), times=1, method=method, part=part)  # type: ignore[arg-type]

    result = publisher.run()

    assert (result.state, publisher.only().is_published) == ("Published", True)


def test_a_server_that_is_busy_is_given_the_time_that_it_asks_for(publisher: Publisher) -> None:
    publisher.server.fail(Fault("answer", 429, retry_after="0"), times=7, method="POST")
    publisher.server.fail(Fault("slow", seconds=0.05), times=2, method="PUT")
    publisher.server.fail(Fault("cut"), times=1, method="GET")

    assert publisher.run().state == "Published"
    assert len(publisher.repository.there) == 1


def test_a_repository_that_is_away_is_waited_for_and_gone_on_with(publisher: Publisher) -> None:
    publisher.server.fail(Fault("answer", 502), part="/content")
    error = publisher.refusal()
    assert (error.failure.reason, error.failure.reason.state) == (Reason.REPOSITORY_AWAY, "waiting")
    publisher.server.heal()

    assert publisher.run().doi == "10.5072/zenodo.111"
    assert publisher.only().is_published


def test_a_token_that_expired_is_told_and_shows_nowhere(
    publisher: Publisher, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(SECRET_CONTENT, json.dumps({"token": "CANARY-token"}))
    error = publisher.refusal()

    assert error.failure.reason is Reason.REPOSITORY_ACCESS_DENIED
    assert "deposit:write and deposit:actions" in error.failure.message
    written = "".join(path.read_text() for path in publisher.report.iterdir())
    assert "CANARY" not in written + "".join(capfd.readouterr()) + repr(error)


@pytest.mark.parametrize(
    ("secret", "words"),
    [(None, "was not given"), ({"key": "x"}, "has no key token"), ({"token": "a\nb"}, "characters that no header can")],
)
def test_a_secret_without_a_token_is_waited_for(
    publisher: Publisher, secret: dict[str, str] | None, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(SECRET_CONTENT)
    if secret is not None:
        monkeypatch.setenv(SECRET_CONTENT, json.dumps(secret))

    failure = publisher.refusal().failure

    assert (failure.reason, failure.reason.state) == (Reason.REPOSITORY_SECRET_INCOMPLETE, "waiting")
    assert words in failure.message
    assert publisher.server.seen == []


def test_a_host_that_the_platform_has_not_allowed_gets_no_byte(
    publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PELAGOS_SOURCE_HOSTS", "")
    failure = publisher.refusal().failure

    assert failure.reason is Reason.REPOSITORY_NOT_ALLOWED
    assert f"PELAGOS_SOURCE_HOSTS='{publisher.server.url}'" in failure.message
    assert publisher.server.seen == []


def test_what_the_repository_finds_wrong_in_words_is_told_before_anything_large_is_sent(publisher: Publisher) -> None:
    publisher.request["metadata"] = {**publisher.asked()["metadata"], "license": "EUPL-1.2"}
    failure = publisher.refusal().failure

    assert failure.reason is Reason.PUBLICATION_REFUSED
    assert "metadata.rights: Invalid value eupl-1.2." in failure.message
    assert publisher.repository.sent == []
    publisher.request.clear()
    assert publisher.run().state == "Published"
    assert publisher.only().is_published


def test_a_document_that_cannot_be_written_is_told_by_its_fields(publisher: Publisher) -> None:
    publisher.request["metadata"] = {name: publisher.asked()["metadata"][name] for name in ("title", "creators")}
    failure = publisher.refusal(documents=["Croissant"]).failure

    assert failure.reason is Reason.METADATA_INCOMPLETE
    assert "Croissant cannot be written without spec.metadata.description" in failure.message


def test_a_file_that_arrives_as_another_one_is_sent_again_and_then_refused(
    publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = Deposits._entry

    def wrong(self: Deposits, name: str, file: File) -> dict[str, object]:
        return entry(self, name, file) | ({"checksum": f"md5:{'0' * 32}"} if name == "datacite.json" else {})

    monkeypatch.setattr(Deposits, "_entry", wrong)
    failure = publisher.refusal().failure

    assert failure.reason is Reason.PUBLICATION_REFUSED
    assert "a checksum other than the sent one, twice" in failure.message
    assert not publisher.only().is_published


def test_a_file_that_is_too_large_for_the_repository_is_told(publisher: Publisher) -> None:
    publisher.repository.largest = 100
    failure = publisher.refusal().failure

    assert failure.reason is Reason.PUBLICATION_REFUSED
    assert "HTTP 413" in failure.message


def test_a_version_that_was_damaged_is_not_published(publisher: Publisher, tmp_path: Path) -> None:
    damaged = versions_of(tmp_path / "own")[0]
    blob = next(iter(damaged.blobs.values()))
    blob.chmod(0o644)
    blob.write_bytes(bytes(len(blob.read_bytes())))
    publisher.versions[0] = damaged

    assert publisher.refusal().failure.reason is Reason.DATASET_NOT_READABLE
    assert not publisher.only().is_published
    assert publisher.repository.sent == []


def test_a_draft_that_is_deleted_behind_our_back_is_made_again(
    publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    publisher.run(state="Draft")
    publisher.repository.there.clear()
    publisher.request["retry"] = "1"
    assert publisher.run(state="Draft").doi == "10.5072/zenodo.121"

    update, left = Deposits._update, [1]

    def vanish(self: Deposits, request: object, number: str) -> object:
        if left[0]:
            left[0] -= 1
            del self.there[int(number)]
        return update(self, request, number)  # type: ignore[arg-type]

    monkeypatch.setattr(Deposits, "_update", vanish)
    assert publisher.run().state == "Published"
    assert publisher.only().is_published


def test_a_record_of_somebody_else_that_names_the_dataset_and_the_version_counts_for_nothing(
    publisher: Publisher,
) -> None:
    publisher.run()
    ours = publisher.only()
    publisher.request["retry"] = "1"
    publisher.repository.there.clear()
    theirs = Deposit(900, 899, dict(ours.metadata), dict(ours.access), 9, True, "10.5072/theirs.900", is_ours=False)
    publisher.repository.there[900] = theirs
    (publisher.report / "publication.json").unlink()

    result = publisher.run()

    assert result.record != "900"
    assert len(publisher.repository.published) == 2


def test_a_note_of_somebody_else_about_what_was_begun_is_not_believed(
    publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(sealing.STEP_KEY, "11" * 32)
    monkeypatch.setenv(sealing.STEP_RUN, "dataset-1")
    publisher.report.mkdir()
    written = {"server": publisher.server.url, "intended": False, "record": "900"}
    (publisher.report / "publication.json").write_text(json.dumps(written))

    publisher.step(publisher.asked())

    assert not publisher.server.count("GET", "/records/900")
    kept = json.loads((publisher.report / "publication.json").read_bytes())
    assert kept["record"] == "111"
    assert kept["seal"]["attempt"] == 1


def test_a_draft_that_somebody_works_on_is_left_alone(publisher: Publisher) -> None:
    publisher.run()
    first = publisher.only()
    metadata = dict(first.metadata)
    theirs = Deposit(200, first.parent, metadata, dict(first.access), 2, files={"figures.pdf": File(b"x", True)})
    publisher.repository.there[200] = theirs

    failure = publisher.refusal(1).failure

    assert failure.reason is Reason.PUBLICATION_REFUSED
    assert "/uploads/200 contains files that are not from this Dataset (figures.pdf)" in failure.message
    assert list(theirs.files) == ["figures.pdf"]


@pytest.mark.parametrize(
    ("community", "note"),
    [("reefs", None), ("nobody", "not in the community nobody: the record: Community not found.")],
)
def test_a_published_record_is_proposed_to_a_community(publisher: Publisher, community: str, note: str | None) -> None:
    result = publisher.run(community=community)

    assert (result.state, result.note) == ("Published", note)
    publisher.request["retry"] = "1"
    assert publisher.run(community=community).note == note


@pytest.mark.parametrize("state", ["Draft", "Published"])
def test_a_dataset_that_goes_takes_its_draft_along_and_never_a_record(publisher: Publisher, state: str) -> None:
    publisher.run(state=state)
    publisher.step({"discard": {"url": publisher.server.url}, "dataset": "reef/fish", "owners": [UID]})

    told = json.loads((publisher.report / "result.json").read_bytes())
    assert told["discarded"] == (["111"] if state == "Draft" else [])
    assert bool(publisher.repository.published) == (state == "Published")
    assert not publisher.repository.drafts


def test_a_server_that_is_no_repository_is_refused(publisher: Publisher) -> None:
    publisher.server.fail(Fault("answer", 200))
    failure = publisher.refusal().failure

    assert failure.reason is Reason.PUBLICATION_REFUSED
    assert "with what is no JSON" in failure.message
