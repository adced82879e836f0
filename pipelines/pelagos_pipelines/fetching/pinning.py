"""A local proxy through which third-party programs reach one server, at addresses that were checked.

Such a program resolves the name again, and a name with a public address when it is checked may lead into the platform's network a
moment later. Through this proxy the program reaches only that one server, at the checked addresses.
"""

from __future__ import annotations

import contextlib
import socket
import socketserver
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from urllib.parse import urlsplit

from typing_extensions import override

from pelagos_contract.source_hosts import PORTS, Address
from pelagos_pipelines.fetching.policy import Target

_LONGEST_HEAD = 64 * 1024
_SECONDS = 20.0
"""Timeout for connecting to the server, and for reading the head of a program's request."""
_CONNECT = "CONNECT"
_HOPS = (b"connection:", b"proxy-connection:", b"keep-alive:")


@contextmanager
def leading_to(target: Target, addresses: Sequence[Address]) -> Iterator[str]:
    """Run a proxy to ``target`` during the block, which receives its url."""
    with _Server(target, addresses) as server:
        thread = threading.Thread(target=server.serve_forever, name="pinned", daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads, block_on_close = True, False

    def __init__(self, target: Target, addresses: Sequence[Address]) -> None:
        self.target, self.addresses = target, tuple(addresses)
        super().__init__(("127.0.0.1", 0), _Handler)

    def connected(self) -> socket.socket | None:
        """A connection to the first address that accepts, or None."""
        for address in self.addresses:
            with contextlib.suppress(OSError):
                return socket.create_connection((str(address), self.target.port), _SECONDS)
        return None


class _Handler(socketserver.StreamRequestHandler):
    rbufsize = 0  # unbuffered, because what follows the head is for the server
    timeout = _SECONDS
    server: _Server

    @override
    def handle(self) -> None:
        """Serve one connection. With plain http it carries one request; the program opens another for the next."""
        with contextlib.suppress(OSError):
            lines = self._head()
            words = lines[0].decode("latin-1").split() if lines else []
            if len(words) != len(("method", "where", "version")) or not self._is_meant(words[0], words[1]):
                self._refuse(403)
            elif (there := self.server.connected()) is None:
                self._refuse(502)
            else:
                with there:
                    self._pass_on(there, words, lines[1:])

    def _head(self) -> list[bytes]:
        lines, size = list[bytes](), 0
        while size < _LONGEST_HEAD:
            line = self.rfile.readline(_LONGEST_HEAD)
            size += len(line)
            if not line.strip():
                return lines
            lines.append(line)
        return []

    def _is_meant(self, method: str, where: str) -> bool:
        target = self.server.target
        try:
            place = urlsplit(f"//{where}" if method == _CONNECT else where)
            port = place.port or PORTS.get(place.scheme, 0)
        except ValueError:
            return False
        scheme = "https" if method == _CONNECT else place.scheme
        return (scheme, place.hostname, port) == target.origin

    def _refuse(self, status: int) -> None:
        self.connection.sendall(f"HTTP/1.1 {status} Not the server that was judged\r\n\r\n".encode())

    def _pass_on(self, there: socket.socket, words: Sequence[str], headers: Sequence[bytes]) -> None:
        if words[0] == _CONNECT:
            self.connection.sendall(b"HTTP/1.1 200 Connected\r\n\r\n")
        else:
            place = urlsplit(words[1])
            path = f"{place.path or '/'}{f'?{place.query}' if place.query else ''}"
            kept = [line for line in headers if not line.lower().startswith(_HOPS)]
            first = f"{words[0]} {path} HTTP/1.1\r\n".encode("latin-1")
            there.sendall(b"".join((first, *kept, b"Connection: close\r\n\r\n")))
        for one in (there, self.connection):
            one.settimeout(None)
        thread = threading.Thread(target=_copy, args=(self.connection, there), daemon=True)
        thread.start()
        _copy(there, self.connection)


def _copy(source: socket.socket, target: socket.socket) -> None:
    """Copy bytes until the source ends or a connection fails, then end the target's input."""
    with contextlib.suppress(OSError):
        while content := source.recv(64 * 1024):
            target.sendall(content)
        target.shutdown(socket.SHUT_WR)
