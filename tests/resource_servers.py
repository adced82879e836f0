"""A fake server for the API server that lists resources, for commands of the command line, and the fixture ``api`` with one."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest
import yaml

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class ApiServer:
    """Answers the one request that commands make, with the resources of one kind by namespace."""

    def __init__(self) -> None:
        self.resources: dict[str, list[dict[str, Any]]] = {}
        self.status = 200
        world = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                prefix = "/apis/pelagos.dev/v1alpha1/namespaces/"
                namespace, _, plural = self.path.removeprefix(prefix).partition("/")
                assert self.path == f"{prefix}{namespace}/{plural}"
                assert plural in {"datasets", "modelservices"}
                body = json.dumps({"items": world.resources.get(namespace, [])}).encode()
                self.send_response(world.status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Quiet."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def add(self, name: str, status: dict[str, Any], namespace: str = "default") -> None:
        self.resources.setdefault(namespace, []).append({"metadata": {"name": name}, "status": status})


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
    thread = threading.Thread(target=api.server.serve_forever)
    thread.start()
    kubeconfig(tmp_path / "kubeconfig", api.url)
    monkeypatch.setenv("PELAGOS_HOME", str(tmp_path))
    monkeypatch.delenv("KUBECONFIG", raising=False)
    yield api
    api.server.shutdown()
    thread.join()
    api.server.server_close()
