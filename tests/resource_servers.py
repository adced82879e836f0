"""A fake API server that lists resources, for commands of the command line, and the fixture ``api`` with one."""

from __future__ import annotations

import base64
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

import pytest
import yaml

from pelagos.api.kinds import KINDS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

BREAK = b"the connection breaks off"


class ApiServer:
    """Answers the requests of commands: resources of a kind in a namespace, pods with labels, the log of a container.

    ``logs`` are keyed by pod, container and whether the previous process is meant. A log whose last piece is not None grows, and
    ends once the last piece is None; at BREAK the connection breaks. ``status`` is that of all answers, ``refused`` of those for
    a path that contains that text.
    """

    def __init__(self) -> None:
        self.resources: dict[str, list[dict[str, Any]]] = {}
        self.pods: list[dict[str, Any]] = []
        self.config_maps: dict[str, dict[str, Any]] = {}
        self.secrets: dict[str, dict[str, str]] = {}
        self.logs: dict[tuple[str, str, bool], list[bytes | None]] = {}
        self.asked: list[str] = []
        self.status = 200
        self.refused: dict[str, tuple[int, str]] = {}
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"world": self}))
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def add(self, name: str, status: dict[str, Any], namespace: str = "default", **fields: Any) -> dict[str, Any]:
        """Add a resource and return it; one with a ``kind`` is listed only with resources of that kind."""
        metadata = {"name": name, "namespace": namespace}
        body: dict[str, Any] = {"metadata": metadata, "spec": {}, "status": status, **fields}
        self.resources.setdefault(namespace, []).append(body)
        return body


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    world: ApiServer

    def do_GET(self) -> None:
        self.world.asked.append(self.path)
        url = urlsplit(self.path)
        query = dict(parse_qsl(url.query))
        refusal = next((said for part, said in self.world.refused.items() if part in self.path), None)
        if refusal is not None:
            self._answer({"kind": "Status", "code": refusal[0], "message": refusal[1]}, refusal[0])
        elif url.path.startswith("/apis/pelagos.dev/"):
            _, namespace, plural = url.path.rsplit("/", 2)
            kind = next(known.kind for known in KINDS if known.plural == plural)
            found = self.world.resources.get(namespace, [])
            self._answer({"items": [body for body in found if body.get("kind", kind) == kind]}, self.world.status)
        elif url.path.endswith("/log"):
            self._log(url.path.split("/")[6], query)
        elif "/configmaps/" in url.path:
            body = self.world.config_maps.get(url.path.rpartition("/")[2])
            self._answer(body or {"kind": "Status", "code": 404, "message": "not found"}, 200 if body else 404)
        elif "/secrets/" in url.path:
            held = self.world.secrets.get(url.path.rpartition("/")[2])
            data = {key: base64.b64encode(value.encode()).decode() for key, value in (held or {}).items()}
            absent = {"kind": "Status", "code": 404, "message": "not found"}
            self._answer(absent if held is None else {"kind": "Secret", "data": data}, 404 if held is None else 200)
        else:
            assert url.path.endswith("/pods"), url.path
            self._answer({"items": list(filter(lambda pod: _carries(pod, query), self.world.pods))}, self.world.status)

    def _answer(self, body: dict[str, Any], status: int) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _log(self, pod: str, query: dict[str, str]) -> None:
        pieces = self.world.logs.get((pod, query["container"], query.get("previous", "").lower() == "true"))
        if pieces is None:
            message = f'previous terminated container "{query["container"]}" in pod "{pod}" not found'
            self._answer({"kind": "Status", "code": 400, "message": message}, 400)
            return
        self.send_response(200)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        if query.get("follow", "").lower() == "true":
            sent = len(pieces) if query.get("tailLines") == "0" else 0
            while sent == 0 or pieces[sent - 1] is not None:
                for piece in pieces[sent:]:
                    sent += 1
                    if piece == BREAK:
                        self.close_connection = True
                        return
                    self._chunk(piece or b"")
                time.sleep(0.01)
        else:
            there = b"".join(filter(None, pieces)).splitlines(keepends=True)
            self._chunk(b"".join(there[-int(query.get("tailLines", len(there))) :]))
        self.wfile.write(b"0\r\n\r\n")

    def _chunk(self, piece: bytes) -> None:
        if piece:
            self.wfile.write(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")

    def log_message(self, *_: object) -> None:
        """Write no log."""


def _carries(pod: dict[str, Any], query: dict[str, str]) -> bool:
    wanted = dict(each.split("=") for each in query.get("labelSelector", "").split(",") if each)
    labels: dict[str, str] = pod["metadata"]["labels"]
    return wanted.items() <= labels.items()


def kubeconfig(path: Path, server: str) -> None:
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": {"server": server}}],
        "users": [{"name": "u", "user": {"token": "t"}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }
    path.write_text(yaml.safe_dump(config))


@pytest.fixture
def api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ApiServer]:
    api = ApiServer()
    thread = threading.Thread(target=api.server.serve_forever, args=(0.01,))
    thread.start()
    kubeconfig(tmp_path / "kubeconfig", api.url)
    monkeypatch.setenv("PELAGOS_HOME", str(tmp_path))
    monkeypatch.delenv("KUBECONFIG", raising=False)
    yield api
    api.server.shutdown()
    thread.join()
    api.server.server_close()
