"""Requests to servers that are not ours: checked addresses, bounded answers, the pauses they ask for, credentials for one origin.

It does not use httpx, which resolves a name again when it connects, and follows redirects before they can be checked. No proxy is
used.
"""

from __future__ import annotations

import os
import re
import threading
import time
import zlib
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import urlencode, urljoin

import httpcore
import orjson

from pelagos_contract.failures import Reason, RefusedError
from pelagos_contract.source_hosts import AUTHORITY, Address
from pelagos_contract.text import shown
from pelagos_pipelines.fetching import connecting
from pelagos_pipelines.fetching.credentials import NO_CREDENTIALS, Credentials, shown_url
from pelagos_pipelines.fetching.patience import Deadline, FetchError, Patience, asked_pause
from pelagos_pipelines.fetching.policy import Policy, Target
from pelagos_pipelines.fetching.uploads import FileBody

Made = TypeVar("Made")
MEBIBYTE = 2**20
LARGEST_ANSWER = 4 * MEBIBYTE
"""The most bytes of a document, unpacked. Anything larger is a file, for downloads.py."""
MOST_PAGES = 10_000
LONGEST_ANSWER = 300.0
"""Seconds that reading a document may take."""
AGENT = "pelagos"
_MOST_REDIRECTS = 5
_MOST_PAUSES = 200
"""How often the server may ask for a pause during one request."""
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_BUSY, _BROKEN = frozenset({429, 503}), frozenset({408, 500, 502, 504})
_REPEATABLE = frozenset({"GET", "HEAD", "PUT", "DELETE"})
"""Idempotent methods of HTTP: repeating one has no further effect."""
_QUOTED = 300
_CUT = (httpcore.NetworkError, httpcore.TimeoutException, httpcore.ProtocolError)


class UnexpectedStatusError(RefusedError):
    """An unexpected status; ``quoted`` is the beginning of the answer, safe to show."""

    def __init__(self, status: int, url: str, quoted: str, field: str) -> None:
        words = f": {quoted}" if quoted else ""
        message = f"{shown_url(url)} answers with HTTP {status}{words}"
        super().__init__(*_meaning(status, message), field)
        self.status, self.quoted = status, quoted


def _meaning(status: int, message: str) -> tuple[Reason, str]:
    if status in {401, 403}:
        return Reason.SOURCE_ACCESS_DENIED, f"{message}; check the Secret in secretRef, and what it is allowed there"
    if status in {404, 410}:
        return Reason.SOURCE_NOT_FOUND, f"{message}; correct the address, or publish it there"
    return Reason.SOURCE_INVALID, message


@dataclass(frozen=True)
class Answer:
    """A whole answer. ``url`` is where it came from, after redirects; header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    content: bytes
    url: str


@dataclass(frozen=True)
class Asked:
    """A request. ``login`` goes only to the origin of ``url``. ``body`` is bytes, a `FileBody`, or a value to send as JSON.

    ``expect`` has the statuses that count as answers; if empty, all below 400 do.
    """

    url: str
    method: str = "GET"
    headers: Mapping[str, str] | None = None
    login: Credentials = NO_CREDENTIALS
    body: Any = None
    expect: Collection[int] = ()


class Client:
    """A client for the addresses that ``field`` of a spec names. Threads may share it."""

    def __init__(
        self, policy: Policy, field: str, patience: Patience | None = None, authority: str | None = None
    ) -> None:
        """Open no connection yet. ``authority`` is a file of certificate authorities, by default the environment's."""
        self.field = field
        self.deadline = Deadline(patience or Patience())
        self._policy = policy
        self._now = threading.local()
        given = os.environ.get(AUTHORITY, "") if authority is None else authority
        try:
            context = connecting.context(given)
        except OSError as error:
            raise RefusedError(
                Reason.SOURCE_NOT_ALLOWED, f"{AUTHORITY} {given} cannot be read: {error.strerror or error}"
            ) from None
        backend = connecting.JudgedBackend(self._addresses)
        self._pool = httpcore.ConnectionPool(ssl_context=context, max_connections=8, network_backend=backend)

    def __enter__(self) -> Client:
        """Return the client, whose connections are closed at the end of the block."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close all connections."""
        self._pool.close()

    def require_allowed(self, url: str) -> None:
        """Check an address that another client is going to use. Raises RefusedError: SOURCE_NOT_ALLOWED; and FetchError.

        That client resolves the name again, and it may lead elsewhere by then. With https, a server there would have no
        certificate for the name; http is allowed only for hosts that the platform names.
        """
        self._policy.addresses(self._policy.target(url, self.field), self.field)

    @property
    def patience(self) -> Patience:
        """The patience that the client was created with."""
        return self.deadline.patience

    def json(self, url: str, *, limit: int = LARGEST_ANSWER, **asked: Any) -> Any:
        """The JSON document at ``url``, parsed. ``params`` is the query; other arguments are those of `Asked`.

        Raises:
            RefusedError: SOURCE_NOT_ALLOWED, SOURCE_ACCESS_DENIED, SOURCE_NOT_FOUND; SOURCE_INVALID if it is not a JSON document.
            FetchError: the server is unavailable, or asks for a longer pause than there is time for.
        """
        return self.parsed(self.answer(url, limit=limit, **asked))

    def parsed(self, answer: Answer) -> Any:
        """Parse an answer as JSON. Raises RefusedError: SOURCE_INVALID."""
        try:
            return orjson.loads(answer.content)
        except ValueError:
            page = answer.content.lstrip()[:1] == b"<"
            what = "with a page for people, as those do that want a login" if page else "with what is no JSON"
            raise self.invalid(
                answer.url, f"answers {what}; check that it is the address of the service's API"
            ) from None

    def answer(
        self, url: str, *, params: Mapping[str, Any] | None = None, limit: int = LARGEST_ANSWER, **asked: Any
    ) -> Answer:
        """Like `json`, but returns the answer unparsed."""
        if params:
            url = f"{url}{'&' if '?' in url else '?'}{urlencode(params, doseq=True)}"

        def read(target: Target, response: httpcore.Response) -> Answer:
            headers = headers_of(response)
            content = b"" if response.status == 204 else self._content(target, response, headers, limit)
            return Answer(response.status, headers, content, target.url)

        return self.ask(Asked(url, **asked), read)

    def pages(
        self, url: str, next_of: Callable[[Any], str | None], *, most: int = MOST_PAGES, **asked: Any
    ) -> Iterator[Any]:
        """The documents of a paged list. ``next_of`` returns the next page's address, which must be on the same server.

        Raises as `json` does, and RefusedError: SOURCE_INVALID for more than ``most`` pages.
        """
        first = self._policy.target(url, self.field).origin
        for _ in range(most):
            document = self.json(url, **asked)
            yield document
            asked.pop("params", None)
            following = next_of(document)
            if not following:
                return
            if not isinstance(following, str):
                raise self.invalid(url, "names a next page that is no address")
            following = urljoin(url, following)
            if self._policy.target(following, self.field).origin != first:
                raise self.invalid(url, f"names a next page on another server, {shown_url(following)}")
            url = following
        raise self.invalid(url, f"has more than {most} pages")

    def poll(self, step: Callable[[], Made | None], doing: str, every: tuple[float, float] = (1.0, 15.0)) -> Made:
        """Call ``step`` until it returns a value; pauses grow from the first to the second of ``every``. Raises FetchError."""
        pause, longest = every
        while (found := step()) is None:
            self.deadline.pause(pause, doing)
            pause = min(pause * 1.5, longest)
        return found

    def ask(self, asked: Asked, use: Callable[[Target, httpcore.Response], Made]) -> Made:
        """The result of ``use``, which must read the whole answer. Retries where that can help. Raises as `json` does."""
        tried, pauses = 0, 0
        while True:
            doing = f"asking {shown_url(asked.url)}"
            self.deadline.require(doing)
            try:
                with self._sent(asked) as (target, response):
                    if response.status not in _BUSY | _BROKEN or response.status in asked.expect:
                        self._require_expected(asked, target, response)
                        return use(target, response)
                    told = f"{doing}: HTTP {response.status}"
                    pause = self.pause_of(response) if response.status in _BUSY else None
            except _CUT as error:
                # A request that may have reached the server must not be repeated, unless that has no further effect.
                if asked.method not in _REPEATABLE and not isinstance(
                    error, httpcore.ConnectError | httpcore.ConnectTimeout
                ):
                    raise FetchError(f"{doing}: {words(error)}") from None
                told, pause = f"{doing}: {words(error)}", None
            # A server that says how long to wait is working, so its pauses do not count as failed tries.
            tried, pauses = (tried, pauses + 1) if pause is not None else (tried + 1, pauses)
            if tried >= self.patience.tries or pauses > _MOST_PAUSES:
                raise FetchError(f"{told}, {tried + pauses} times")
            self.deadline.pause(self.deadline.back_off(tried) if pause is None else pause, told)

    def pause_of(self, response: httpcore.Response) -> float | None:
        """Seconds that a busy server asks us to wait, at most ``patience.longest``; None when it does not say."""
        headers = headers_of(response)
        asked = asked_pause(headers.get("retry-after"))
        if asked is None and (reset := headers.get("x-ratelimit-reset", "")).isdigit():
            asked = max(0.0, float(reset[:12]) - time.time())
        return None if asked is None else min(asked, self.patience.longest)

    def invalid(self, url: str, why: str) -> RefusedError:
        """The refusal, SOURCE_INVALID, of an answer from ``url``."""
        return RefusedError(Reason.SOURCE_INVALID, f"{shown_url(url)} {why}", self.field)

    @contextmanager
    def _sent(self, asked: Asked) -> Iterator[tuple[Target, httpcore.Response]]:
        """The answer after redirects. Each redirect's address is checked like the first one."""
        url, method, body = asked.url, asked.method, asked.body
        first = self._policy.target(url, self.field).origin
        for _ in range(_MOST_REDIRECTS + 1):
            target = self._policy.target(url, self.field)
            login = asked.login if target.origin == first else NO_CREDENTIALS
            self._now.target = target
            with self._pool.stream(**self._request(asked, target, method, body, login)) as response:
                place = headers_of(response).get("location", "")
                if response.status not in _REDIRECTS or response.status in asked.expect or not place:
                    yield target, response
                    return
                if response.status not in {307, 308} and method != "HEAD":
                    method, body = "GET", None
            url = urljoin(url, place.split("#", 1)[0])
        raise self.invalid(asked.url, f"leads on more than {_MOST_REDIRECTS} times")

    def _request(self, asked: Asked, target: Target, method: str, body: Any, login: Credentials) -> dict[str, Any]:
        """The arguments of httpcore's request."""
        query = urlencode(login.query)
        path = f"{target.path}{('&' if '?' in target.path else '?') + query if query else ''}"
        standard = target.port == (443 if target.scheme == "https" else 80)
        host = f"[{target.host}]" if ":" in target.host else target.host
        headers = {
            "Host": host if standard else f"{host}:{target.port}",
            "User-Agent": AGENT,
            "Accept": "*/*",
            "Accept-Encoding": "identity",
            **(asked.headers or {}),
            **login.headers,
        }
        if isinstance(body, FileBody):
            headers |= {"Content-Type": "application/octet-stream", "Content-Length": str(body.size)}
            body = body.pieces()
        elif body is not None and not isinstance(body, bytes):
            headers["Content-Type"], body = "application/json", orjson.dumps(body)
        if isinstance(body, bytes):
            headers["Content-Length"] = str(len(body))
        elif body is None and method in {"POST", "PUT"}:
            headers["Content-Length"] = "0"  # some servers require it
        patience = self.patience
        waits = {"connect": patience.connect, "read": patience.read, "write": patience.read, "pool": patience.read}
        url = httpcore.URL(scheme=target.scheme, host=target.host, port=target.port, target=path)
        return {"method": method, "url": url, "headers": headers, "content": body, "extensions": {"timeout": waits}}

    def _addresses(self, host: str, port: int) -> list[Address]:
        """The allowed addresses of a host. The pool calls this in the requesting thread, whose target is in ``_now``."""
        target: Target = self._now.target
        assert (target.host, target.port) == (host, port)
        return self._policy.addresses(target, self.field)

    def _require_expected(self, asked: Asked, target: Target, response: httpcore.Response) -> None:
        status = response.status
        if status in asked.expect if asked.expect else status < 400:
            return
        quoted = b"".join(_limited(response.iter_stream(), _QUOTED * 4))[: _QUOTED * 4] if status >= 400 else b""
        kind = headers_of(response).get("content-type", "")
        # The first lines of an HTML page say nothing useful.
        words = shown(quoted.decode("utf-8", "replace"))[:_QUOTED] if "html" not in kind else ""
        raise UnexpectedStatusError(status, target.url, words, self.field)

    def _content(self, target: Target, response: httpcore.Response, headers: Mapping[str, str], limit: int) -> bytes:
        too_large = self.invalid(target.url, f"answers with more than {limit // MEBIBYTE or limit} {_unit(limit)}")
        if int(number(headers.get("content-length")) or 0) > limit:
            raise too_large
        packing = headers.get("content-encoding", "identity").lower()
        if packing not in {"identity", "gzip", "x-gzip", ""}:
            raise self.invalid(target.url, f"packs its answer with {shown(packing)[:40]}, which nobody asked for")
        unpacker = zlib.decompressobj(31) if "gzip" in packing else None
        parts, size, end = list[bytes](), 0, self.deadline.clock() + LONGEST_ANSWER
        for chunk in response.iter_stream():
            part = unpacker.decompress(chunk, limit + 1) if unpacker is not None else chunk
            size += len(part)
            if size > limit:
                raise too_large
            if self.deadline.clock() > end:
                raise FetchError(f"{shown_url(target.url)}: the answer took more than {LONGEST_ANSWER:.0f} s")
            parts.append(part)
        return b"".join(parts)


def headers_of(response: httpcore.Response) -> dict[str, str]:
    """Headers by their names in lower case; of repeated ones, the last."""
    return {name.decode("ascii").lower(): value.decode("latin-1") for name, value in response.headers}


def number(text: str | None) -> int | None:
    """A header's value as a number of bytes; None if it is not one."""
    return int(text) if text and re.fullmatch(r"[0-9]{1,18}", text) else None


def words(error: Exception) -> str:
    """What went wrong with a connection, without quoting the request."""
    text = str(error)
    if "CERTIFICATE_VERIFY_FAILED" in text or "certificate" in text.lower():
        return f"its TLS certificate is not trusted; name its certificate authority in {AUTHORITY}"
    if isinstance(error, httpcore.ConnectError | httpcore.ConnectTimeout):
        return "no connection"
    if isinstance(error, httpcore.TimeoutException):
        return "no answer in time"
    return "the connection broke"


def _limited(chunks: Iterator[bytes], limit: int) -> Iterator[bytes]:
    size = 0
    for chunk in chunks:
        yield chunk
        size += len(chunk)
        if size >= limit:
            return


def _unit(limit: int) -> str:
    return "MiB" if limit >= MEBIBYTE else "bytes"
