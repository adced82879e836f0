"""The files of a record of Zenodo or another InvenioRDM: the newest version that a number or DOI stands for.

Uses InvenioRDM's REST API. URLs are built here and never taken from responses, so that the token is only sent to the repository.
"""

from __future__ import annotations

import fnmatch
import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from pelagos_contract.failures import Reason, RefusedError
from pelagos_contract.remote_sources import Origin, ZenodoSource
from pelagos_contract.sources import ZENODO
from pelagos_contract.text import shown
from pelagos_pipelines.annotations.model import SourceFiles
from pelagos_pipelines.annotations.untrusted_input import format_names
from pelagos_pipelines.fetching import Credentials, UnexpectedStatusError, Wanted, download
from pelagos_pipelines.sources import fetched
from pelagos_pipelines.sources.place import Errand, RemotePlace

ACCEPT = {"Accept": "application/vnd.inveniordm.v1+json"}
"""Without this header, Zenodo answers in its own format."""
LARGEST_LIST = 64 * 2**20
"""Most bytes of the list of a record's files, with a few hundred for each."""
_NUMBER = re.compile(r"[0-9a-z]([-0-9a-z]{0,62}[0-9a-z])?")
_OF_ZENODO = re.compile(r"10\.[0-9]{4,9}/zenodo\.([0-9]{1,20})", re.IGNORECASE)


@dataclass(frozen=True)
class _File:
    """A file of a record. ``md5`` is hexadecimal, empty when the repository does not state it."""

    key: str
    size: int
    md5: str


class _Repository:
    """A client for the repository and record that the source names."""

    def __init__(self, source: ZenodoSource, errand: Errand) -> None:
        self.source, self.errand, self.client = source, errand, errand.client
        self.api = f"{source.url.rstrip('/')}/api/records"
        self.login = fetched.login(errand.secret, lambda secret: Credentials.bearer(secret["token"]), errand)

    def record(self) -> Mapping[str, Any]:
        """The requested version: the newest, if the number or DOI stands for several."""
        number, doi = self.source.record, self.source.doi
        if doi is None:
            assert number is not None
            return self._numbered(number) or self._found(f'parent.id:"{number}"', f"a record {number}")
        of_zenodo = _OF_ZENODO.fullmatch(doi)
        found = self._numbered(of_zenodo[1]) if of_zenodo else None
        if found is None:
            either = f'pids.doi.identifier:"{doi}" OR parent.pids.doi.identifier:"{doi}"'
            found = self._found(either, f"a record with the DOI {doi}")
        of_all = _inside(_inside(found, "parent"), "pids")
        if doi.lower() not in {_doi(_inside(found, "pids")).lower(), _doi(of_all).lower()}:
            raise self.client.invalid(self.api, f"answers with another record than the one with the DOI {doi}")
        return found

    def files(self, number: str) -> tuple[_File, ...]:
        """The requested files of a version."""
        try:
            found = self._ask(f"/{number}/files", limit=LARGEST_LIST)
        except UnexpectedStatusError as error:
            if error.status in {401, 403}:
                raise self._closed(number) from None
            raise
        entries = found.get("entries")
        if not isinstance(entries, list):
            raise self.client.invalid(self.api, "lists no files of the record; is it InvenioRDM?")
        files = tuple(self._files(entries))
        patterns = self.source.files
        wanted = tuple(
            file for file in files if not patterns or any(fnmatch.fnmatchcase(file.key, p) for p in patterns)
        )
        if not wanted:
            there = format_names([shown(file.key) for file in files]) if files else "none"
            asked = f" that match {', '.join(map(repr, patterns))}" if patterns and files else ""
            raise RefusedError(
                Reason.SOURCE_NOT_FOUND,
                f"the record {number} has no files{asked}; there are: {there}. Correct the record, or the patterns",
                f"{self.client.field}.files",
            )
        return wanted

    def content(self, number: str, file: _File) -> str:
        """The URL of a file's content."""
        return f"{self.api}/{number}/files/{quote(file.key, safe='')}/content"

    def _numbered(self, number: str) -> Mapping[str, Any] | None:
        """The record with this number, or the newest version if the number stands for all; None without one."""
        try:
            return self._ask(f"/{number}")
        except UnexpectedStatusError as error:
            if error.status in {401, 403}:
                raise self._closed(number) from None
            if error.status == 410:
                raise
            if error.status == 404:
                return None
            raise

    def _found(self, query: str, what: str) -> Mapping[str, Any]:
        """Find a record by a search, first among the newest versions, then among all."""
        for versions in ("false", "true"):
            asked = {"q": query, "size": 1, "sort": "version", "allversions": versions}
            hits = _inside(self._ask("", params=asked), "hits").get("hits")
            if isinstance(hits, list) and hits and isinstance(hits[0], dict):
                return hits[0]
        raise RefusedError(
            Reason.SOURCE_NOT_FOUND,
            f"{self.source.url} has no {what.removeprefix('a ')} that is published; correct it, or publish it there",
            self.client.field,
        )

    def _closed(self, number: str) -> RefusedError:
        hint = (
            "its token may not read it"
            if self.errand.secret
            else "name a Secret with a token that may read it, in secretRef"
        )
        return RefusedError(
            Reason.SOURCE_ACCESS_DENIED, f"the record {number} or its files are restricted; {hint}", self.client.field
        )

    def _ask(self, path: str, **asked: Any) -> Mapping[str, Any]:
        found = self.client.json(f"{self.api}{path}", headers=ACCEPT, login=self.login, **asked)
        if not isinstance(found, dict):
            raise self.client.invalid(self.api, "answers with something else than a record; is it InvenioRDM?")
        return found

    def _files(self, entries: list[Any]) -> Iterator[_File]:
        for entry in entries:
            key, size = (entry.get("key"), entry.get("size")) if isinstance(entry, dict) else (None, None)
            if not isinstance(key, str) or not isinstance(size, int) or isinstance(size, bool) or size < 0:
                raise self.client.invalid(self.api, "lists a file without a name and size")
            algorithm, _, digest = str(entry.get("checksum") or "").partition(":")
            yield _File(
                key, size, digest.lower() if algorithm == "md5" and re.fullmatch(r"[0-9a-fA-F]{32}", digest) else ""
            )


def look(source: ZenodoSource, errand: Errand) -> Origin:
    """The state: the version, and a digest of its list of files."""
    repository = _Repository(source, errand)
    record = repository.record()
    number = _number(record, repository)
    access = _inside(record, "access")
    if access.get("files") == "restricted" and not errand.secret:
        until = _inside(access, "embargo").get("until")
        embargo = f", until {shown(until)[:40]}" if isinstance(until, str) else ""
        raise RefusedError(
            Reason.SOURCE_ACCESS_DENIED,
            f"the files of the record {number} are restricted{embargo}; name a Secret with a token that may read them"
            " in secretRef",
            errand.client.field,
        )
    files = repository.files(number)
    listed = json.dumps([number, sorted((file.key, file.size, file.md5) for file in files)]).encode()
    named = _inside(record, "metadata").get("version")
    return Origin(
        url=f"{source.url.rstrip('/')}/records/{number}",
        version=number + (f" ({shown(named)[:100]})" if isinstance(named, str) and named else ""),
        doi=shown(_doi(_inside(record, "pids")))[:200] or None,
        modified=shown(str(record.get("updated") or ""))[:100] or None,
        files=len(files),
        bytes=sum(file.size for file in files),
        state=hashlib.sha256(listed).hexdigest(),
    )


def fetch(source: ZenodoSource, errand: Errand, origin: Origin) -> tuple[SourceFiles, Origin]:
    """Fetch the files of that version, each verified by size and MD5."""
    repository = _Repository(source, errand)
    number = (origin.version or "").partition(" ")[0]
    files = repository.files(number)
    targets = fetched.safe({file.key: file.size for file in files}, errand)
    total, before = sum(file.size for file in files), 0
    for file in files:
        wanted = Wanted(
            repository.content(number, file),
            targets[file.key],
            repository.login,
            size=file.size,
            md5=file.md5,
        )
        start = before
        download(errand.client, wanted, lambda done, _, start=start: errand.progress(start + done, total))  # type: ignore[misc]
        before += file.size
    return fetched.arranged(targets, errand), origin


def _number(record: Mapping[str, Any], repository: _Repository) -> str:
    number = str(record.get("id") or "")
    if _NUMBER.fullmatch(number) is None:
        raise repository.client.invalid(repository.api, "answers with a record without a number; is it InvenioRDM?")
    return number


def _inside(found: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    inner = found.get(name)
    return inner if isinstance(inner, dict) else {}


def _doi(pids: Mapping[str, Any]) -> str:
    return str(_inside(pids, "doi").get("identifier") or "")


PLACE = RemotePlace(ZENODO, look, fetch)
