"""A repository like Zenodo that takes deposits: drafts, their files, new versions, publication, communities.

Stateful, and as strict as InvenioRDM (REST API reference of drafts and records, schema of metadata): a faulty draft is kept and
its errors are listed in the answer, and it is published only without errors. Its search finds a record only after ``lag``
searches.
"""

from __future__ import annotations

import copy
import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

import invenio_terms
from web_servers import Reply, Request

ACCEPTED = ("application/vnd.inveniordm.v1+json", "application/json", "*/*")


@dataclass
class File:
    """A file of a draft or record; its content is None until it was sent."""

    content: bytes | None = None
    is_complete: bool = False


@dataclass
class Deposit:
    """A draft, a published record, or both at once while the record is edited."""

    number: int
    parent: int
    metadata: dict[str, Any]
    access: dict[str, Any]
    index: int = 1
    is_published: bool = False
    doi: str = ""
    files: dict[str, File] = field(default_factory=dict)
    searchable_after: int = 0
    communities: list[str] = field(default_factory=list)
    is_ours: bool = True
    """Whether the account owns it."""


@dataclass
class Deposits:
    """The repository.

    ``lag``: searches that miss a new record. ``token``: the account's; any other gets 403, like an expired one.
    """

    token: str = "very-secret"
    lag: int = 0
    largest: int = 10**9
    prefix: str = "10.5072/zenodo."
    there: dict[int, Deposit] = field(default_factory=dict)
    sent: list[tuple[str, int]] = field(default_factory=list)
    """Names and sizes of the files whose content was received, in order."""
    _next: int = 100
    _searches: int = 0

    @property
    def published(self) -> list[Deposit]:
        """Published records."""
        return [each for each in self.there.values() if each.is_published]

    @property
    def drafts(self) -> list[Deposit]:
        """Drafts that were never published."""
        return [each for each in self.there.values() if not each.is_published]

    def __call__(self, request: Request) -> Reply:
        """Answer one request."""
        accepted = [part.partition(";")[0].strip() for part in request.headers.get("accept", "*/*").split(",")]
        if not set(accepted) & set(ACCEPTED):
            return _told(406, "not this form")
        if request.headers.get("authorization") != f"Bearer {self.token}":
            return _told(403, "Permission denied.")
        for method, pattern, answer in self._routes():
            found = re.fullmatch(pattern, request.path)
            if found and method == request.method:
                reply: Reply = answer(request, *found.groups())
                return reply
        return _told(404, "The requested URL was not found on the server.")

    def _routes(self) -> Iterator[tuple[str, str, Any]]:
        draft = r"/api/records/([0-9]+)/draft"
        yield from (
            ("GET", r"/api/user/records", self._search),
            ("POST", r"/api/records", self._create),
            ("GET", r"/api/records/([0-9]+)", self._read),
            ("GET", r"/api/records/([0-9]+)/files", self._published_files),
            ("GET", r"/api/records/([0-9]+)/files/([^/]+)/content", self._published_content),
            ("POST", r"/api/records/([0-9]+)/versions", self._new_version),
            ("POST", r"/api/records/([0-9]+)/communities", self._propose),
            ("GET", draft, self._read_draft),
            ("PUT", draft, self._update),
            ("DELETE", draft, self._discard),
            ("POST", rf"{draft}/pids/doi", self._reserve),
            ("POST", rf"{draft}/actions/publish", self._publish),
            ("GET", rf"{draft}/files", self._files),
            ("POST", rf"{draft}/files", self._begin),
            ("PUT", rf"{draft}/files/([^/]+)/content", self._content),
            ("POST", rf"{draft}/files/([^/]+)/commit", self._commit),
            ("DELETE", rf"{draft}/files/([^/]+)", self._remove),
        )

    def _search(self, request: Request) -> Reply:
        self._searches += 1
        size, page = int(request.query.get("size", "10")), int(request.query.get("page", "1"))
        if size > 100:
            return _told(400, "Page size cannot be greater than 100.")
        wanted = re.findall(r'metadata\.related_identifiers\.identifier:"([^"]+)"', request.query["q"])
        mine, every = request.query.get("shared_with_me") == "false", request.query.get("allversions") == "true"
        found = [
            self.document(each)
            for each in self.there.values()
            if each.searchable_after < self._searches
            and (each.is_ours or not mine)
            and (every or each.index == max(one.index for one in self.there.values() if one.parent == each.parent))
            and any(one["identifier"] in wanted for one in each.metadata.get("related_identifiers", ()))
        ]
        hits = found[(page - 1) * size : page * size]
        return Reply({"hits": {"hits": hits, "total": len(found)}, "links": {}})

    def _create(self, request: Request) -> Reply:
        number = self._number()
        document = request.document
        made = Deposit(number + 1, number, document.get("metadata", {}), document.get("access", {}))
        self.there[made.number] = made
        made.searchable_after = self._searches + self.lag
        return Reply(self.document(made), 201)

    def _new_version(self, _: Request, number: str) -> Reply:
        old = self.there.get(int(number))
        if old is None or not old.is_published:
            return _told(404, "The persistent identifier does not exist.")
        for each in self.drafts:
            if each.parent == old.parent:
                return Reply(self.document(each), 201)
        latest = max((each for each in self.published if each.parent == old.parent), key=lambda each: each.index)
        metadata = copy.deepcopy(latest.metadata)
        metadata.pop("version", None)
        metadata["publication_date"] = "2026-11-29"
        made = Deposit(self._number(), old.parent, metadata, dict(latest.access), latest.index + 1)
        made.searchable_after = self._searches + self.lag
        self.there[made.number] = made
        return Reply(self.document(made), 201)

    def _read(self, _: Request, number: str) -> Reply:
        found = self.there.get(int(number))
        if found is None or not found.is_published:
            return _told(404, "The persistent identifier does not exist.")
        return Reply(self.document(found))

    def _published_files(self, _: Request, number: str) -> Reply:
        found = self.there[int(number)]
        assert found.is_published
        return Reply({"enabled": True, "entries": [self._entry(name, each) for name, each in found.files.items()]})

    def _published_content(self, _: Request, number: str, name: str) -> Reply:
        content = self.there[int(number)].files[unquote(name)].content or b""
        return Reply(content, etag=f'"{hashlib.md5(content, usedforsecurity=False).hexdigest()}"')

    def _draft(self, number: str) -> Deposit | None:
        found = self.there.get(int(number))
        return found if found is not None and not found.is_published else None

    def _read_draft(self, _: Request, number: str) -> Reply:
        found = self._draft(number)
        return Reply(self.document(found)) if found is not None else _gone()

    def _update(self, request: Request, number: str) -> Reply:
        found = self._draft(number)
        if found is None:
            return _gone()
        document = request.document
        found.metadata, found.access = document.get("metadata", {}), document.get("access", {})
        found.doi = ((document.get("pids") or {}).get("doi") or {}).get("identifier", "")
        return Reply(self.document(found))

    def _discard(self, _: Request, number: str) -> Reply:
        found = self._draft(number)
        if found is None:
            return _gone()
        del self.there[found.number]
        return Reply(b"", 204)

    def _reserve(self, _: Request, number: str) -> Reply:
        found = self._draft(number)
        if found is None:
            return _gone()
        if found.doi:
            return _told(400, "A PID already exists for type doi.")
        found.doi = f"{self.prefix}{found.number}"
        return Reply(self.document(found), 201)

    def _publish(self, _: Request, number: str) -> Reply:
        found = self._draft(number)
        if found is None:
            return _gone()
        if wrong := [*self._wrong(found)]:
            return Reply({"status": 400, "message": "A validation error occurred.", "errors": wrong}, 400)
        found.is_published = True
        found.doi = found.doi or f"{self.prefix}{found.number}"
        found.searchable_after = self._searches + self.lag
        return Reply(self.document(found), 202)

    def _propose(self, request: Request, number: str) -> Reply:
        found = self.there.get(int(number))
        if found is None or not found.is_published:
            return _told(404, "The persistent identifier does not exist.")
        (asked,) = request.document["communities"]
        if asked["id"] == "nobody":
            return Reply({"errors": [{"community": "nobody", "message": "Community not found."}]}, 400)
        if asked["id"] in found.communities:
            told = "The record is already included in this community."
            return Reply({"errors": [{"community": asked["id"], "message": told}]}, 400)
        found.communities.append(asked["id"])
        return Reply({"processed": [{"community": asked["id"], "request": {"id": "1"}}]})

    def _files(self, _: Request, number: str) -> Reply:
        found = self._draft(number)
        if found is None:
            return _gone()
        return Reply({"enabled": True, "entries": [self._entry(name, each) for name, each in found.files.items()]})

    def _begin(self, request: Request, number: str) -> Reply:
        found = self._draft(number)
        if found is None:
            return _gone()
        for each in request.document:
            if each["key"] in found.files:
                return _told(400, f"File with key {each['key']} already exists.")
        for each in request.document:
            found.files[each["key"]] = File()
        return Reply({"entries": [self._entry(name, each) for name, each in found.files.items()]}, 201)

    def _content(self, request: Request, number: str, name: str) -> Reply:
        found = self._draft(number)
        if found is None or unquote(name) not in found.files:
            return _gone()
        if request.headers.get("content-type") != "application/octet-stream":
            return _told(415, "not this form")
        if len(request.body) > self.largest:
            return _told(413, "The file is too large.")
        file = found.files[unquote(name)]
        if file.is_complete:
            return _told(400, "The file is complete.")
        self.sent.append((unquote(name), len(request.body)))
        file.content = request.body
        return Reply(self._entry(unquote(name), file))

    def _commit(self, _: Request, number: str, name: str) -> Reply:
        found = self._draft(number)
        file = found.files.get(unquote(name)) if found is not None else None
        if file is None:
            return _gone()
        if file.content is None or file.is_complete:
            return _told(400, "The file has no content, or is complete.")
        file.is_complete = True
        return Reply(self._entry(unquote(name), file))

    def _remove(self, _: Request, number: str, name: str) -> Reply:
        found = self._draft(number)
        if found is None or found.files.pop(unquote(name), None) is None:
            return _gone()
        return Reply(b"", 204)

    def _number(self) -> int:
        self._next += 10
        return self._next

    def _entry(self, name: str, file: File) -> dict[str, Any]:
        if not file.is_complete or file.content is None:
            return {"key": name, "status": "pending", "metadata": None, "links": {}}
        digest = hashlib.md5(file.content, usedforsecurity=False).hexdigest()
        return {"key": name, "status": "completed", "checksum": f"md5:{digest}", "size": len(file.content)}

    def document(self, deposit: Deposit) -> dict[str, Any]:
        """A record or draft as the API returns it."""
        doi = {"doi": {"identifier": deposit.doi, "provider": "datacite", "client": "datacite"}} if deposit.doi else {}
        concept = {"doi": {"identifier": f"{self.prefix}{deposit.parent}", "provider": "datacite"}}
        found = {
            "id": str(deposit.number),
            "created": "2026-11-29T10:52:23.945755+00:00",
            "updated": "2026-11-29T10:52:23.969244+00:00",
            "is_published": deposit.is_published,
            "is_draft": not deposit.is_published,
            "access": deposit.access,
            "files": {"enabled": True},
            "metadata": deposit.metadata,
            "parent": {"id": str(deposit.parent), **({"pids": concept} if deposit.is_published else {})},
            "pids": doi,
            "versions": {"index": deposit.index, "is_latest": deposit.is_published},
            "links": {"self": "https://elsewhere.example/steal"},
        }
        return found if deposit.is_published else {**found, "errors": [*self._wrong(deposit)]}

    def _wrong(self, deposit: Deposit) -> Iterator[dict[str, Any]]:
        for name, words in invenio_terms.wrong(deposit.metadata):
            yield {"field": f"metadata.{name}", "messages": [words]}
        if set(deposit.access) < {"record", "files"} or not set(deposit.access.values()) <= {"public", "restricted"}:
            yield {"field": "access", "messages": ["Missing data for required field."]}
        if not deposit.files:
            yield {"field": "files.enabled", "messages": ["Missing uploaded files."]}
        if any(not each.is_complete for each in deposit.files.values()):
            yield {"field": "files", "messages": ["One or more files have not completed their transfer."]}


def _told(status: int, message: str) -> Reply:
    return Reply({"status": status, "message": message}, status)


def _gone() -> Reply:
    return _told(404, "The persistent identifier is not registered.")
