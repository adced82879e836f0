"""Downloads files: resumes them where they broke off, checks size and disk space, and compares them with their digests."""

from __future__ import annotations

import errno
import hashlib
import re
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO

import httpcore

from pelagos_contract import disk
from pelagos_contract.disk import FullError
from pelagos_contract.failures import Reason, RefusedError
from pelagos_pipelines.fetching.client import Asked, Client, UnexpectedStatusError, headers_of, number, words
from pelagos_pipelines.fetching.credentials import NO_CREDENTIALS, Credentials, shown_url
from pelagos_pipelines.fetching.patience import FetchError
from pelagos_pipelines.fetching.policy import Target

LARGEST = 2**40
"""The most bytes of a file, if the caller sets no lower limit; far more than disks and archives hold."""
_MINUTE = 60.0
_CHANGES = 2
"""After this many downloads with unexpected content, the file is refused."""
Told = Callable[[int, int], None]


@dataclass(frozen=True)
class Validators:
    """What a server reports about a file without sending it; None and "" for what it does not report."""

    etag: str = ""
    modified: str = ""
    size: int | None = None

    @property
    def state(self) -> str:
        """A text that changes when the content does; "" when the server reports too little for that."""
        # A weak ETag is good enough here, because no parts of files are joined by it.
        told = self.etag or (f"{self.modified} {self.size}" if self.modified and self.size is not None else "")
        return told[:500]


class UnchangedError(Exception):
    """The server says that the file is still as ``Wanted.unless`` describes it (RFC 9110, section 15.4.5); nothing was sent."""


@dataclass(frozen=True)
class Wanted:
    """A file to download from ``url`` to ``target``. ``size`` in bytes, ``sha256`` and ``md5`` in hexadecimal, where known."""

    url: str
    target: Path
    login: Credentials = NO_CREDENTIALS
    size: int | None = None
    sha256: str = ""
    md5: str = ""
    limit: int = LARGEST
    headers: dict[str, str] = field(default_factory=dict)
    unless: Validators | None = None
    """What the server reported about a copy that is here already."""

    @property
    def is_known(self) -> bool:
        """Whether a digest is known, which will prove that it is the right file."""
        return bool(self.sha256 or self.md5)


@dataclass(frozen=True)
class Fetched:
    """A downloaded file at ``path``, with its size in bytes, and its digests in hexadecimal."""

    path: Path
    size: int
    sha256: str
    md5: str
    validators: Validators


def validators(client: Client, url: str, login: Credentials = NO_CREDENTIALS) -> Validators:
    """What the server reports about the file now. If it refuses HEAD, the first byte of the file is requested.

    Raises as `Client.json` does.
    """
    use: Callable[[Target, httpcore.Response], Validators] = lambda _, response: _validators(response)  # noqa: E731
    try:
        return client.ask(Asked(url, "HEAD", login=login), use)
    except UnexpectedStatusError as error:
        # Addresses that are signed for GET refuse HEAD with any of these.
        if error.status not in {400, 401, 403, 404, 405, 501}:
            raise
    return client.ask(Asked(url, headers={"Range": "bytes=0-0"}, login=login, expect=(200, 206, 416)), use)


def download(client: Client, wanted: Wanted, progress: Told | None = None) -> Fetched:
    """Download the file. ``progress`` is called with the bytes that are here, and with the total, or 0 if that is not known.

    Raises:
        RefusedError: as `Client.json`; SOURCE_CHANGED when its size or digest is not the expected one in two downloads.
        FetchError: the server is unavailable or too slow.
        FullError: the disk has too little space; raised before the first byte if the server reports the size.
        UnchangedError: the file is as ``wanted.unless`` describes it.
    """
    part = wanted.target.with_name(f"{wanted.target.name}.part")
    part.parent.mkdir(parents=True, exist_ok=True)
    with disk.written(part), part.open("w+b") as file:
        work = _Download(client, wanted, part, file, progress or (lambda done, total: None))
        fetched = work.run()
        file.flush()
        part.replace(wanted.target)
    return replace(fetched, path=wanted.target)


class _Download:
    """The state of one download: the bytes that have arrived, and their running digests."""

    def __init__(self, client: Client, wanted: Wanted, part: Path, file: BinaryIO, progress: Told) -> None:
        self._client, self._wanted, self._part, self._file, self._progress = client, wanted, part, file, progress
        self._changes = 0
        self._restart()

    def _restart(self) -> None:
        self._file.seek(0)
        self._file.truncate()
        self._done, self._found, self._whole = 0, Validators(), 0
        self._sha256, self._md5 = hashlib.sha256(), hashlib.md5(usedforsecurity=False)

    def run(self) -> Fetched:
        tried, doing = 0, f"downloading {shown_url(self._wanted.url)}"
        while True:
            before = self._done
            try:
                self._client.ask(self._asked(), self._answered)
                broke = ""
            except (httpcore.NetworkError, httpcore.TimeoutException, httpcore.ProtocolError) as error:
                broke = words(error)
            except _SlowError as error:
                broke = str(error)
            if not broke and self._is_whole():
                return Fetched(self._part, self._done, self._sha256.hexdigest(), self._md5.hexdigest(), self._found)
            # A try that brought some bytes resets the count: a bad connection then costs only time.
            tried = 1 if self._done > before else tried + 1
            if tried >= self._client.patience.tries:
                raise FetchError(f"{doing}: {broke or 'less came than was promised'}, {tried} times")
            self._client.deadline.pause(self._client.deadline.back_off(tried), f"{doing}: {broke}")

    def _asked(self) -> Asked:
        headers = dict(self._wanted.headers)
        etag = self._found.etag
        is_strong = etag.startswith('"')
        # Without a strong ETag or a digest, nothing would show that the rest belongs to the same content: start from scratch.
        if self._done and not is_strong and not self._wanted.is_known:
            self._restart()
        if self._done:
            headers["Range"] = f"bytes={self._done}-"
            # With If-Range, a server whose file has changed sends all of it instead of a part (RFC 9110, section 13.1.5).
            if is_strong:
                headers["If-Range"] = etag
        expect: tuple[int, ...] = (200, 206, 416)
        if not self._done and (unless := self._wanted.unless) is not None and (unless.etag or unless.modified):
            # RFC 9110 ignores the date if there is an ETag.
            headers |= {"If-None-Match": unless.etag} if unless.etag else {"If-Modified-Since": unless.modified}
            expect = (*expect, 304)
        return Asked(self._wanted.url, headers=headers, login=self._wanted.login, expect=expect)

    def _answered(self, target: Target, response: httpcore.Response) -> None:
        if response.status == 304:
            raise UnchangedError
        self._take(target, response)

    def _take(self, target: Target, response: httpcore.Response) -> None:
        """Append the answer's content, or start from scratch if the server sends the whole file."""
        headers = headers_of(response)
        if response.status == 206 and not self._continues(headers):
            self._changed("it answers with another part than was asked for")
            return
        if response.status == 416:
            self._changed("it has less than it had")
            return
        if response.status == 200 and self._done:
            self._restart()
        if not self._done:
            self._found = _validators(response)
        left = number(headers.get("content-length"))
        if response.status == 206:
            # A server may send less than was requested; Content-Range has the whole size.
            self._whole = number(headers.get("content-range", "").rpartition("/")[2]) or 0
        total = self._wanted.size if self._wanted.size is not None else (self._done + left if left is not None else 0)
        self._require_room(max(total, self._done + (left or 0)), target)
        end, mark = self._client.deadline.clock() + _MINUTE, self._done
        try:
            for chunk in response.iter_stream():
                self._write(chunk, target)
                self._progress(self._done, total)
                if self._client.deadline.clock() > end:
                    if self._done - mark < self._client.patience.slowest * _MINUTE:
                        raise _SlowError("it sends next to nothing")
                    self._client.deadline.require(f"downloading {shown_url(target.url)}")
                    end, mark = self._client.deadline.clock() + _MINUTE, self._done
        except (httpcore.NetworkError, httpcore.TimeoutException, httpcore.ProtocolError) as error:
            # Another class of error, so that `Client.ask` does not repeat the same request: `run` keeps what has arrived, and
            # requests the rest.
            raise _SlowError(words(error)) from None

    def _continues(self, headers: dict[str, str]) -> bool:
        found = re.fullmatch(r"bytes ([0-9]{1,18})-[0-9]{1,18}/([0-9]{1,18}|\*)", headers.get("content-range", ""))
        same = not self._found.etag or headers.get("etag", self._found.etag) == self._found.etag
        return found is not None and int(found[1]) == self._done and same

    def _write(self, chunk: bytes, target: Target) -> None:
        self._done += len(chunk)
        if self._done > self._limit:
            raise self._client.invalid(target.url, f"has more than {self._limit} bytes{self._announced}")
        self._file.write(chunk)
        self._sha256.update(chunk)
        self._md5.update(chunk)

    @property
    def _limit(self) -> int:
        wanted = self._wanted
        return min(wanted.limit, wanted.size if wanted.size is not None else wanted.limit)

    @property
    def _announced(self) -> str:
        return ", as its server announced it" if self._wanted.size == self._limit else ""

    def _require_room(self, total: int, target: Target) -> None:
        if total > self._limit:
            raise self._client.invalid(target.url, f"has {total} bytes, allowed are {self._limit}{self._announced}")
        free = shutil.disk_usage(self._part.parent).free
        if total - self._done > free:
            raise FullError(errno.ENOSPC, self._part, total - self._done)

    def _is_whole(self) -> bool:
        """Whether the file is complete and as expected. Raises RefusedError when its content is wrong for the second time."""
        wanted = self._wanted
        if (not self._done and self._changes) or self._done < self._whole:
            return False
        if wanted.size is not None and self._done != wanted.size:
            return self._changed(f"it has {self._done} bytes, and {wanted.size} were announced")
        for name, expected, found in (
            ("sha256", wanted.sha256, self._sha256.hexdigest()),
            ("md5", wanted.md5, self._md5.hexdigest()),
        ):
            if expected and expected.lower() != found:
                return self._changed(f"its {name} is {found}, and {expected.lower()} was expected")
        return True

    def _changed(self, why: str) -> bool:
        self._changes += 1
        self._restart()
        if self._changes >= _CHANGES:
            raise RefusedError(
                Reason.SOURCE_CHANGED,
                f"{shown_url(self._wanted.url)} is not used: {why}. It was fetched {self._changes} times; correct the digest, or"
                " have the file put there anew",
                self._client.field,
            )
        return False


class _SlowError(Exception):
    """The server sends too slowly, or the connection broke while it sent."""


def _validators(response: httpcore.Response) -> Validators:
    headers: dict[str, Any] = headers_of(response)
    size = number(headers.get("content-length"))
    if response.status == 206:
        size = number(headers.get("content-range", "").rpartition("/")[2])
    modified = ""
    with suppress(KeyError):
        modified = headers["last-modified"][:100]
    return Validators(headers.get("etag", "")[:300], modified, size)
