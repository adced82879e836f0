"""A test's own server, over HTTP or HTTPS, that answers as a function says and fails as services and networks do.

For sources that are fetched, and tools that are pushed to: each fake service is a handler. It serves both planes and so uses only
the standard library.
"""

from __future__ import annotations

import json
import ssl
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pelagos_contract import source_hosts

if TYPE_CHECKING:
    from pelagos_pipelines.fetching import Client, Patience


@dataclass(frozen=True)
class Request:
    """A client's request. Header names are in lower case; of a repeated parameter ``query`` has the last value, ``lists`` all."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes
    lists: Mapping[str, list[str]] = field(default_factory=dict)

    @property
    def document(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


@dataclass(frozen=True)
class Reply:
    """An answer.

    ``body``: bytes, or an object that becomes JSON. ``etag``: of a file, which clients may request in parts and conditionally, as
    they may one with the header Last-Modified.
    """

    body: Any = b""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    etag: str = ""

    @property
    def content(self) -> bytes:
        """The bytes that are sent."""
        return self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()


Handler = Callable[[Request], Reply]
Kind = Literal["answer", "cut", "drop", "lose", "broken", "slow", "redirect", "ignore_range"]


@dataclass(frozen=True)
class Fault:
    """A fault of requests.

    ``answer``: that status; ``cut``: half of the body; ``drop``: the connection is closed before the request is carried out,
    ``lose``: after it; ``broken``: that status, after it was carried out; ``slow``: nothing for ``seconds``, then all;
    ``redirect``: to ``to``; ``ignore_range``: the whole file.
    """

    kind: Kind
    status: int = 503
    retry_after: str = ""
    seconds: float = 0.5
    to: str = ""


@dataclass
class Server:
    """A running server. ``seen`` has every request, in order."""

    handler: Handler
    url: str = ""
    authority: str = ""
    seen: list[Request] = field(default_factory=list)
    _faults: list[tuple[Fault, list[int], str, str]] = field(default_factory=list)

    def fail(self, fault: Fault, *, times: int = 10**9, method: str = "", part: str = "") -> None:
        """Fail the next ``times`` requests of this method whose path holds ``part``."""
        self._faults.append((fault, [times], method, part))

    def heal(self) -> None:
        """Remove all faults."""
        self._faults.clear()

    def fault(self, request: Request) -> Fault | None:
        """The fault of this request, if any."""
        for fault, left, method, part in self._faults:
            if left[0] > 0 and method in {"", request.method} and part in request.path:
                left[0] -= 1
                return fault
        return None

    def count(self, method: str, part: str = "") -> int:
        """Requests of a method whose path holds ``part``."""
        return sum(each.method == method and part in each.path for each in self.seen)

    @property
    def variables(self) -> dict[str, str]:
        """The setting by which a platform allows this server."""
        return {source_hosts.VARIABLE: self.url}

    def client(self, source: str = "source.http.url", patience: Patience | None = None) -> Client:
        """A client of the data plane that may contact this server, and that does not wait long."""
        from pelagos_pipelines.fetching import Client, Policy

        return Client(Policy.read(self.variables), source, patience or quick(), authority=self.authority)


def quick() -> Patience:
    """The short waiting times of tests."""
    from pelagos_pipelines.fetching import Patience

    return Patience(connect=2, read=1, total=20, tries=4, first_pause=0.01, longest_pause=0.02, longest=0.05)


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, server: Server) -> None:
        super().__init__(("127.0.0.1", 0), _Requests)
        self.described = server

    def handle_error(self, request: object, client_address: object) -> None:
        """Stay silent: a client that closes its connection early is part of the test."""


class _Requests(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 30
    disable_nagle_algorithm = True  # head and body are two writes: the second would wait for an acknowledgement
    server: _Server

    def handle_any(self) -> None:
        parts = urllib.parse.urlsplit(self.path)
        headers = {name.lower(): value for name, value in self.headers.items()}
        body = self.rfile.read(int(headers.get("content-length") or 0))
        query = dict(urllib.parse.parse_qsl(parts.query, keep_blank_values=True))
        lists = urllib.parse.parse_qs(parts.query, keep_blank_values=True)
        request = Request(self.command, urllib.parse.unquote(parts.path), query, headers, body, lists)
        server = self.server.described
        server.seen.append(request)
        fault = server.fault(request)
        if fault is not None and fault.kind in {"answer", "redirect"}:
            told = {"Retry-After": fault.retry_after} if fault.retry_after else {}
            is_led = fault.kind == "redirect"
            self._send(Reply(b"no", 302 if is_led else fault.status, {"Location": fault.to} if is_led else told))
            return
        if fault is not None and fault.kind == "drop":
            self.close_connection = True
            return
        if fault is not None and fault.kind == "slow":
            time.sleep(fault.seconds)
        reply = server.handler(request)
        dated = reply.headers.get("Last-Modified", "")
        if (reply.etag and headers.get("if-none-match") == reply.etag) or (
            dated and headers.get("if-modified-since") == dated
        ):
            reply = Reply(b"", 304)
        if fault is not None and fault.kind == "lose":
            self.close_connection = True
            return
        if fault is not None and fault.kind == "broken":
            reply = Reply(b"no", fault.status)
        if reply.etag and reply.status == 200:
            reply = _part(reply, request if fault is None or fault.kind != "ignore_range" else None)
        self._send(reply, is_cut=fault is not None and fault.kind == "cut")

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = do_PATCH = handle_any  # noqa: N815 - names of the base class

    def _send(self, reply: Reply, *, is_cut: bool = False) -> None:
        content = reply.content
        self.send_response_only(reply.status)
        kind = "application/octet-stream" if isinstance(reply.body, bytes) else "application/json"
        for name, value in ({"Content-Type": kind} | dict(reply.headers)).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if is_cut:
            content = content[: len(content) // 2]
            self.close_connection = True
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        """Write no log."""


def _part(reply: Reply, request: Request | None) -> Reply:
    """The requested part of a file; all of it if the file has changed since."""
    headers = dict(reply.headers) | {"ETag": reply.etag}
    asked = request.headers.get("range", "") if request is not None else ""
    same = request is not None and request.headers.get("if-range", reply.etag) == reply.etag
    if not asked or not same:
        return Reply(reply.content, 200, headers)
    start, _, end = asked.removeprefix("bytes=").partition("-")
    whole = len(reply.content)
    if int(start) >= whole:
        return Reply(b"", 416, headers | {"Content-Range": f"bytes */{whole}"})
    content = reply.content[int(start) : int(end) + 1 if end else whole]
    told = f"bytes {start}-{int(start) + len(content) - 1}/{whole}"
    return Reply(content, 206, headers | {"Content-Range": told})


@contextmanager
def serving(handler: Handler, certificate: tuple[Path, Path] | None = None) -> Iterator[Server]:
    """A server on 127.0.0.1; with certificate and key (faulty_proxy.make_authority) it speaks TLS."""
    described = Server(handler)
    server = _Server(described)
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    described.url = f"{'https' if certificate else 'http'}://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield described
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)
