"""A client for InvenioRDM's REST API: drafts, their files, published records. Zenodo is such a repository.

URLs are built here and never taken from responses, so that the token is only sent to the repository. Values of responses are
bounded before they are used. A failed call that may have taken effect raises UncertainError: it must not be repeated blindly.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from pelagos_contract.failures import Reason, RefusedError
from pelagos_contract.publication import repository_name
from pelagos_contract.text import shown
from pelagos_pipelines.fetching import (
    Answer,
    Client,
    Credentials,
    FetchError,
    FileBody,
    UnexpectedStatusError,
    shown_url,
)
from pelagos_pipelines.publishing.description import owner_urn, plain_doi, version_urn
from pelagos_pipelines.publishing.packing import Packed

ACCEPT = {"Accept": "application/vnd.inveniordm.v1+json, application/json;q=0.5"}
"""Without this header, Zenodo answers in its own format; endpoints of files only offer the second one."""
PAGE = 25
"""Hits per page, the limit for requests by anyone."""
MOST_PAGES = 20
LARGEST_LIST = 64 * 2**20
_NUMBER = re.compile(r"[0-9a-z]([-0-9a-z]{0,62}[0-9a-z])?")
_NOBODY_KNOWS = frozenset({408, 500, 502, 503, 504})
"""Statuses after which it is unknown whether a call took effect."""
_GONE = frozenset({404, 410})
_MOST_ERRORS = 5
_TRIES = 3


class UncertainError(Exception):
    """It is unknown whether the call took effect."""


class GoneError(Exception):
    """The draft no longer exists: it was discarded or published."""


@dataclass(frozen=True)
class Record:
    """The used fields of a record or draft. ``pids`` has to be sent back when a draft is updated."""

    number: str
    parent: str
    doi: str | None
    concept_doi: str | None
    is_published: bool
    index: int
    at: str
    pids: Mapping[str, Any] = field(default_factory=dict)
    names: frozenset[str] = frozenset()
    """Its identifiers, by which our records are recognised."""
    errors: tuple[str, ...] = ()
    """The reasons why a draft cannot be published yet, in the repository's words."""

    def is_of(self, owners: Collection[str]) -> bool:
        """Whether it is a version of one of these Datasets, or started as a copy of one."""
        return any(owner_urn(uid) in self.names for uid in owners)

    def is_version(self, digest: str) -> bool:
        """Whether it has the identifier of this version."""
        return version_urn(digest) in self.names


@dataclass(frozen=True)
class Entry:
    """A file of a draft; ``md5`` is empty until the file is complete."""

    name: str
    size: int | None
    md5: str
    is_complete: bool


class Repository:
    """The repository at ``url``; the token is not exposed."""

    def __init__(self, client: Client, url: str, login: Credentials) -> None:
        """Make no connection yet; ``login`` has the token."""
        self.url, self.client, self._login = url.rstrip("/"), client, login
        self._api = f"{self.url}/api"
        self.name = repository_name(self.url)

    def page(self, record: Record) -> str:
        """The URL of its page for people."""
        return f"{self.url}/{'records' if record.is_published else 'uploads'}/{record.number}"

    def drafts(self, owners: Sequence[str]) -> list[Record]:
        """Unpublished drafts of the Datasets, oldest first. The search index lags, so the latest ones may be missing."""
        found = [each for each in self._mine(owners) if not each.is_published]
        return sorted(found, key=lambda each: (each.at, each.number))

    def published(self, owners: Sequence[str]) -> list[Record]:
        """Published records of the Datasets, newest version first. The latest ones may be missing as in ``drafts``."""
        found = [each for each in self._mine(owners) if each.is_published]
        return sorted(found, key=lambda each: each.index, reverse=True)

    def draft(self, number: str) -> Record | None:
        """The draft of a record; None when there is none."""
        return self._one(f"/records/{number}/draft")

    def record(self, number: str) -> Record | None:
        """A published record; None when there is none."""
        return self._one(f"/records/{number}")

    def create(self, document: Mapping[str, Any]) -> Record:
        """Create the draft of a new record. Raises UncertainError."""
        return self._record(self._once("/records", document, expect=(200, 201)))

    def new_version(self, number: str) -> Record:
        """The draft of the next version of a published record, created unless it exists."""
        return self._record(self._again("POST", f"/records/{number}/versions", expect=(200, 201)))

    def update(self, number: str, document: Mapping[str, Any]) -> Record:
        """Replace the metadata of a draft. Raises GoneError."""
        answer = self._ask("PUT", f"/records/{number}/draft", body=document, expect=(200, *_GONE))
        return self._record(self._there(answer, number))

    def reserve(self, number: str) -> Record:
        """Reserve a DOI for a draft, unless it has one or the repository does not assign DOIs. Raises GoneError."""
        path = f"/records/{number}/draft/pids/doi"
        answer = self._again("POST", path, expect=(200, 201, 400, 403, 405, *_GONE))
        if answer.status in {200, 201}:
            return self._record(answer)
        found = self.draft(number)
        if found is None:
            raise GoneError(number)
        return found

    def files(self, number: str) -> list[Entry]:
        """The files of a draft. Raises GoneError."""
        answer = self._ask("GET", f"/records/{number}/draft/files", limit=LARGEST_LIST, expect=(200, *_GONE))
        entries = self._document(self._there(answer, number)).get("entries")
        if not isinstance(entries, list):
            raise self.client.invalid(self._api, "lists no files of a draft; is it InvenioRDM?")
        return [self._entry(each) for each in entries]

    def remove_file(self, number: str, name: str) -> None:
        """Remove a file from a draft."""
        self._ask("DELETE", self._file(number, name), expect=(200, 204, *_GONE))

    def begin_file(self, number: str, name: str) -> None:
        """Announce a file before its upload. Raises GoneError."""
        path = f"/records/{number}/draft/files"
        answer = self._again("POST", path, body=[{"key": name}], expect=(200, 201, 400, *_GONE))
        self._there(answer, number)
        if answer.status == 400 and all(each.name != name for each in self.files(number)):
            raise self._refused(f"does not accept a file {name}", answer)

    def send_file(self, number: str, body: FileBody, name: str) -> None:
        """Upload an announced file. Raises GoneError."""
        answer = self._ask("PUT", f"{self._file(number, name)}/content", body=body, expect=(200, 201, *_GONE))
        self._there(answer, number)

    def complete_file(self, number: str, name: str) -> Entry:
        """Commit an uploaded file; returns the repository's entry for it. Raises GoneError."""
        answer = self._again("POST", f"{self._file(number, name)}/commit", expect=(200, 201, 400, *_GONE))
        self._there(answer, number)
        if answer.status != 400:
            return self._entry(self._document(answer))
        # Another attempt, or an earlier try of this one, may already have committed it.
        there = next((each for each in self.files(number) if each.name == name and each.is_complete), None)
        if there is None:
            raise self._refused(f"does not accept the file {name}", answer)
        return there

    def publish(self, number: str) -> Record:
        """Publish a draft, which is irreversible. Raises UncertainError, GoneError, and RefusedError (PUBLICATION_REFUSED)."""
        answer = self._once(f"/records/{number}/draft/actions/publish", None, expect=(200, 201, 202, 400, *_GONE))
        self._there(answer, number)
        if answer.status == 400:
            raise self._refused("does not publish the draft", answer)
        return self._record(answer)

    def discard(self, number: str) -> None:
        """Discard a draft; a published record with the same number stays."""
        self._ask("DELETE", f"/records/{number}/draft", expect=(200, 204, *_GONE))

    def propose(self, number: str, community: str) -> str | None:
        """Propose a published record to a community; returns the repository's reason if that fails, else None."""
        document = {"communities": [{"id": community}]}
        answer = self._again("POST", f"/records/{number}/communities", body=document, expect=(200, 201, 400, 403, 404))
        words = self._words(answer) if answer.status >= 400 else None
        # The repository refuses a record that was already proposed or accepted with this word.
        return None if words is None or "already" in words else words

    def _one(self, path: str) -> Record | None:
        answer = self._ask("GET", path, expect=(200, *_GONE))
        return self._record(answer) if answer.status == 200 else None

    def _mine(self, owners: Sequence[str]) -> list[Record]:
        """All records and drafts of the account that name one of the Datasets, in all versions.

        Those of other accounts do not count, even if shared with ours: anyone can publish a record that names our Dataset. The
        search is full-text, so each hit is checked again.
        """
        query = " OR ".join(f'metadata.related_identifiers.identifier:"{owner_urn(uid)}"' for uid in owners)
        found: dict[str, Record] = {}
        for page in range(1, MOST_PAGES + 1):
            asked = {"q": query, "size": PAGE, "page": page, "sort": "newest", "allversions": "true"}
            answer = self._ask("GET", "/user/records", params={**asked, "shared_with_me": "false"}, limit=LARGEST_LIST)
            hits = self._document(answer).get("hits")
            listed = hits.get("hits") if isinstance(hits, dict) else None
            if not isinstance(listed, list):
                raise self.client.invalid(self._api, "does not answer a search with a list; is it InvenioRDM?")
            records = [self._parsed(each) for each in listed]
            found |= {each.number: each for each in records if each.is_of(owners)}
            if len(listed) < PAGE:
                break
        return list(found.values())

    def _ask(self, method: str, path: str, **asked: Any) -> Answer:
        return self.client.answer(f"{self._api}{path}", method=method, headers=ACCEPT, login=self._login, **asked)

    def _again(self, method: str, path: str, **asked: Any) -> Answer:
        """Repeat a call that is idempotent, although its HTTP method is not."""
        for left in reversed(range(_TRIES)):
            try:
                return self._ask(method, path, **asked)
            except FetchError:
                if not left:
                    raise
            self.client.deadline.pause(self.client.deadline.back_off(1), f"asking {shown_url(self._api + path)}")
        raise AssertionError("the last try returns or raises")

    def _once(self, path: str, body: Any, expect: tuple[int, ...]) -> Answer:
        """Make a call that must not be repeated. Raises UncertainError."""
        try:
            answer = self._ask("POST", path, body=body, expect=(*expect, *_NOBODY_KNOWS))
        except FetchError as error:
            raise UncertainError(str(error)) from error
        if answer.status in _NOBODY_KNOWS:
            raise UncertainError(f"{shown_url(answer.url)} answers with HTTP {answer.status}")
        return answer

    def _there(self, answer: Answer, number: str) -> Answer:
        if answer.status in _GONE:
            raise GoneError(number)
        return answer

    def _file(self, number: str, name: str) -> str:
        return f"/records/{number}/draft/files/{quote(name, safe='')}"

    def _document(self, answer: Answer) -> Mapping[str, Any]:
        found = self.client.parsed(answer)
        if not isinstance(found, dict):
            raise self.client.invalid(answer.url, "answers differently from InvenioRDM")
        return found

    def _record(self, answer: Answer) -> Record:
        return self._parsed(self._document(answer))

    def _parsed(self, found: Any) -> Record:
        number = str(found.get("id") or "") if isinstance(found, dict) else ""
        if _NUMBER.fullmatch(number) is None:
            raise self.client.invalid(self._api, "answers with a record without a number; is it InvenioRDM?")
        parent, metadata, pids = (_inside(found, name) for name in ("parent", "metadata", "pids"))
        index = _inside(found, "versions").get("index")
        named = [*_listed(metadata.get("identifiers")), *_listed(metadata.get("related_identifiers"))]
        return Record(
            number=number,
            parent=str(parent.get("id") or "")[:64],
            doi=plain_doi(_inside(pids, "doi").get("identifier")),
            concept_doi=plain_doi(_inside(_inside(parent, "pids"), "doi").get("identifier")),
            is_published=found.get("is_published") is True,
            index=index if isinstance(index, int) and 0 < index < 10**6 else 1,
            at=shown(str(found.get("created") or ""))[:40],
            pids=pids,
            names=frozenset(str(each.get("identifier"))[:300] for each in named),
            errors=_errors(found),
        )

    def _entry(self, found: Any) -> Entry:
        name, size = (found.get("key"), found.get("size")) if isinstance(found, dict) else (None, None)
        if not isinstance(name, str) or not name:
            raise self.client.invalid(self._api, "lists a file without a name")
        algorithm, _, digest = str(found.get("checksum") or "").partition(":")
        whole = (
            int(size) if isinstance(size, int | float) and not isinstance(size, bool) and 0 <= size < 2**60 else None
        )
        is_complete = found.get("status") == "completed"
        return Entry(name[:1000], whole, digest.lower() if algorithm == "md5" else "", is_complete)

    def _refused(self, what: str, answer: Answer) -> RefusedError:
        return RefusedError(
            Reason.PUBLICATION_REFUSED,
            f"{self.name} {what}: {self._words(answer)}. Correct what it names, in the Dataset or there",
            self.client.field,
        )

    def _words(self, answer: Answer) -> str:
        """The repository's reason for a refusal."""
        try:
            found = self._document(answer)
        except RefusedError:
            return f"HTTP {answer.status}"
        told = "; ".join(_errors(found)) or shown(str(found.get("message") or f"HTTP {answer.status}"))
        return told[:400]


def is_whole(entry: Entry, file: Packed) -> bool:
    """Whether the repository has the complete file, by MD5 and size."""
    return entry.is_complete and entry.md5 == file.md5 and entry.size in {None, file.size}


def refusal(error: UnexpectedStatusError, name: str) -> RefusedError:
    """The refusal of a publication for an unexpected status."""
    if error.status in {401, 403}:
        return RefusedError(
            Reason.REPOSITORY_ACCESS_DENIED,
            f"{name} refuses the token of the Secret (HTTP {error.status}): it is wrong, has expired, or may not do this (it"
            " needs deposit:write and deposit:actions). Put a new one into the Secret; it is tried again within the hour, or at"
            " once when the annotation pelagos.dev/retry is set to a new value",
            error.failure.field,
        )
    words = f": {error.quoted}" if error.quoted else ""
    return RefusedError(
        Reason.PUBLICATION_REFUSED, f"{name} answers with HTTP {error.status}{words}", error.failure.field
    )


def _errors(found: Mapping[str, Any]) -> tuple[str, ...]:
    """The errors that a repository reports, by field."""
    told = list[str]()
    for each in _listed(found.get("errors")):
        messages = each.get("messages") or each.get("message") or ()
        words = "; ".join(map(str, messages)) if isinstance(messages, list | tuple) else str(messages)
        told.append(shown(f"{each.get('field') or 'the record'}: {words}")[:200])
    return tuple(told[:_MOST_ERRORS])


def _listed(found: Any) -> Iterator[Mapping[str, Any]]:
    yield from (each for each in (found if isinstance(found, list) else ()) if isinstance(each, dict))


def _inside(found: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    inner = found.get(name)
    return inner if isinstance(inner, dict) else {}
