"""The way to one server for programs of others: a proxy of this machine that leads to addresses that were judged.

They would resolve the name again, and a name that leads to a public address when it is judged may lead into the network of the
platform a moment later. Through this the program gets to that server, by whatever it calls it, and to no other.
"""

from __future__ import annotations

import contextlib
import socket
import socketserver
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from urllib.parse import urlsplit

from pelagos_contract.source_hosts import PORTS, Address
from pelagos_pipelines.fetching.policy import Target

_LONGEST_HEAD = 64 * 1024
_SECONDS = 20.0
"""For a connection to be made, and for the first lines of a program."""
_CONNECT = "CONNECT"
_HOPS = (b"connection:", b"proxy-connection:", b"keep-alive:")


@contextmanager
def leading_to(target: Target, addresses: Sequence[Address]) -> Iterator[str]:
    """The url of the proxy, for as long as it is open."""
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
        """To the first address that answers."""
        for address in self.addresses:
            with contextlib.suppress(OSError):
                return socket.create_connection((str(address), self.target.port), _SECONDS)
        return None


class _Handler(socketserver.StreamRequestHandler):
    rbufsize = 0  # what follows the head is for the server
    timeout = _SECONDS
    server: _Server

    def handle(self) -> None:
        """One connection; of plain http one request, after which the program makes another."""
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
    """Until one of them ends."""
    with contextlib.suppress(OSError):
        while content := source.recv(64 * 1024):
            target.sendall(content)
        target.shutdown(socket.SHUT_WR)
