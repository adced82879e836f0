"""A proxy before a real HTTP server that can speak TLS, and that fails as services and networks do.

Only the standard library, so that tests of both planes share it. Without a fault, requests pass unchanged.
"""

from __future__ import annotations

import ssl
import subprocess
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Literal

_HOP = frozenset({"connection", "keep-alive", "transfer-encoding", "content-length"})

Kind = Literal["answer", "hang", "cut", "drop", "lose"]


@dataclass(frozen=True)
class Fault:
    """A fault of requests.

    ``answer``: status and S3 error code; ``hang``: nothing for ``seconds``; ``cut``: half of the body; ``drop``: the connection
    is closed before the request is passed on; ``lose``: after it.
    """

    kind: Kind
    status: int = 503
    code: str = "SlowDown"
    seconds: float = 5.0


@dataclass
class Proxy:
    """Passes requests on, or fails them as ``fault`` says for (method, path with query)."""

    target: str
    url: str = ""
    fault: Callable[[str, str], Fault | None] = lambda method, path: None
    authorization: str = ""
    """The required value of the header Authorization, unless empty; other requests get 401 with their own header quoted."""
    seen: list[tuple[str, str]] = field(default_factory=list)
    """Every request, in order."""

    def count(self, method: str, part: str = "") -> int:
        """Requests of a method whose path holds ``part``."""
        return sum(seen == method and part in path for seen, path in self.seen)

    def fail(self, fault: Fault, *, times: int = 10**9, method: str = "", part: str = "") -> None:
        """Fail the next ``times`` requests of this method whose path holds ``part``."""
        left = [times]

        def decide(seen: str, path: str) -> Fault | None:
            if left[0] <= 0 or (method and seen != method) or part not in path:
                return None
            left[0] -= 1
            return fault

        self.fault = decide


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, proxy: Proxy) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.proxy = proxy

    def handle_error(self, request: object, client_address: object) -> None:
        """Stay silent: a client that closes its connection early is part of the test."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 30
    server: _Server

    def handle_any(self) -> None:
        proxy = self.server.proxy
        proxy.seen.append((self.command, self.path))
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        fault = proxy.fault(self.command, self.path)
        if proxy.authorization and self.headers.get("Authorization") != proxy.authorization:
            fault = Fault("answer", 401, f"Unauthorized {self.headers.get('Authorization')}")
        if fault is None or fault.kind in {"cut", "lose"}:
            self._pass_on(body, fault)
        elif fault.kind == "answer":
            self._refuse(fault)
        else:
            time.sleep(fault.seconds if fault.kind == "hang" else 0)
            self.close_connection = True

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = do_PATCH = handle_any  # noqa: N815 - names of the base class

    def _pass_on(self, body: bytes, fault: Fault | None) -> None:
        address = urllib.parse.urlsplit(self.server.proxy.target)
        upstream = HTTPConnection(str(address.hostname), int(address.port or 80), timeout=60)
        upstream.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
        for name, value in self.headers.items():
            if name.lower() not in _HOP - {"content-length"}:
                upstream.putheader(name, value)
        upstream.endheaders(body)
        answer = upstream.getresponse()
        content = answer.read()
        upstream.close()
        if fault is not None and fault.kind == "lose":
            self.close_connection = True
            return
        self.send_response_only(answer.status)
        for name, value in answer.headers.items():
            if name.lower() not in _HOP:
                self.send_header(name, value)
        length = answer.headers.get("Content-Length") if self.command == "HEAD" else None
        self.send_header("Content-Length", length or str(len(content)))
        self.end_headers()
        if fault is not None:
            content = content[: len(content) // 2]
            self.close_connection = True
        self.wfile.write(content)

    def _refuse(self, fault: Fault) -> None:
        content = f"<?xml version='1.0'?><Error><Code>{fault.code}</Code><Message>no</Message></Error>".encode()
        self.send_response_only(fault.status)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        """Write no log."""


@contextmanager
def proxied(target: str, certificate: tuple[Path, Path] | None = None) -> Iterator[Proxy]:
    """A proxy before the server at ``target``; with certificate and key it speaks TLS."""
    proxy = Proxy(target)
    server = _Server(proxy)
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*certificate)
        # The handshake belongs to the connection's thread: a client that refuses the certificate must not block or end the accept
        # loop.
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    proxy.url = f"{'https' if certificate else 'http'}://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)


@dataclass(frozen=True)
class Authority:
    """A test's certificate authority: ``file`` is its certificate, ``server`` a certificate for 127.0.0.1 with its key."""

    file: Path
    server: tuple[Path, Path]


def make_authority(folder: Path, name: str = "test") -> Authority:
    """Make an authority with OpenSSL."""
    folder.mkdir(parents=True, exist_ok=True)
    ca, ca_key, cert, key = (str(folder / part) for part in ("ca.pem", "ca.key", "server.pem", "server.key"))
    new = ["req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-x509", "-days", "2"]
    usage = ["-addext", "keyUsage=critical,keyCertSign,digitalSignature"]
    _openssl(*new, "-keyout", ca_key, "-out", ca, "-subj", f"/CN={name} authority", *usage)
    names = ["-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost", "-addext", "basicConstraints=critical,CA:FALSE"]
    _openssl(*new, "-keyout", key, "-out", cert, "-subj", "/CN=127.0.0.1", *names, "-CA", ca, "-CAkey", ca_key)
    return Authority(Path(ca), (Path(cert), Path(key)))


def _openssl(*arguments: str) -> None:
    subprocess.run(["openssl", *arguments], check=True, capture_output=True, timeout=60)
