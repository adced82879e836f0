"""Serves the hub on a port of this machine, for a browser that records forbidden actions of its pages."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import threading
from collections.abc import Iterator
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import uvicorn
from playwright.sync_api import Browser, Page, sync_playwright

from browser import CHROMIUM
from hub_sites import Site
from pelagos_hub.login.identity import Person

AXE = CHROMIUM.parents[1] / "oidc/node_modules/axe-core/axe.min.js"
PHONE, DESK = {"width": 360, "height": 740}, {"width": 1440, "height": 900}
PERSON = Person("a" * 16, "Alice Seashore")


@contextlib.contextmanager
def listening(site_of: Any) -> Iterator[str]:
    """Serve the hub that ``site_of(url)`` creates; yields its address."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        port = held.getsockname()[1]
        url = f"http://127.0.0.1:{port}"
        site: Site = site_of(url)
        server = uvicorn.Server(uvicorn.Config(site.app, log_config=None, server_header=False, proxy_headers=False))
        held.listen(128)
        thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[held])), daemon=True)
        thread.start()
        try:
            yield url
        finally:
            server.should_exit = True
            thread.join(10)


@contextlib.contextmanager
def chromium() -> Iterator[Browser]:
    """Debian's Chromium, which can reach only this machine."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=str(CHROMIUM),
            args=[
                "--no-sandbox",
                "--disable-dev-shm-usage",
                "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
            ],
        )
        try:
            yield browser
        finally:
            browser.close()


class Watched:
    """A page with its violations: other hosts that it contacted, reports of its content security policy, errors of scripts."""

    def __init__(self, browser: Browser, url: str, **options: Any) -> None:
        self.context = browser.new_context(**options)
        self.page: Page = self.context.new_page()
        self.url = url
        self.strangers: list[str] = []
        self.complaints: list[str] = []
        self.page.on("request", self._asked)
        self.page.on("console", lambda said: self.complaints.append(said.text) if said.type == "error" else None)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))

    def _asked(self, request: Any) -> None:
        parts = urlsplit(request.url)
        if parts.scheme in {"http", "https", "ws", "wss"} and f"{parts.scheme}://{parts.netloc}" != self.url:
            self.strangers.append(request.url)

    def open(self, path: str) -> Page:
        """Go to ``path``, and wait until no request is in progress."""
        self.page.goto(self.url + path, wait_until="networkidle")
        return self.page

    def picture(self, to: Path) -> None:
        """Take a screenshot of the whole page."""
        self.page.screenshot(path=to, full_page=True)


class AnsweringModel(BaseHTTPRequestHandler):
    """A model server that gives every image the same answer, as Triton does over HTTP."""

    def do_GET(self) -> None:
        """Report that the model is ready."""
        self._say(b"")

    def do_POST(self) -> None:
        """Answer with ``server.answer``."""
        self.rfile.read(int(self.headers["Content-Length"]))
        text = json.dumps(self.server.answer)  # type: ignore[attr-defined]  # set by answering
        output = {"name": "prediction", "datatype": "BYTES", "shape": [1, 1], "data": [text]}
        self._say(json.dumps({"outputs": [output]}).encode())

    def log_message(self, *_: object) -> None:
        """Write no log."""

    def _say(self, content: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


@contextlib.contextmanager
def answering(answer: object) -> Iterator[str]:
    """A model server with this answer; yields its address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), AnsweringModel)
    server.answer = answer  # type: ignore[attr-defined]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def attempted(
    site: Site, http: str, name: str = "try-plankton-1", *, seconds: float = 521.0, phase: str = "Open"
) -> str:
    """Begin a trial of reef/plankton for PERSON; returns the number of the session that has its token."""
    number, session = site.hub.sessions.begin(PERSON)
    expires = (site.clock.now() + timedelta(seconds=seconds)).isoformat().replace("+00:00", "Z")
    body = {
        "apiVersion": "pelagos.dev/v1alpha1",
        "kind": "Trial",
        "metadata": {
            "name": name,
            "namespace": "reef",
            "uid": f"uid-{name}",
            "creationTimestamp": site.clock.now().isoformat().replace("+00:00", "Z"),
        },
        "spec": {"modelServiceRef": {"name": "plankton"}, "user": PERSON.key, "duration": "10m"},
        "status": {
            "phase": phase,
            "attested": True,
            "duration": "10m",
            "endpoints": {"http": http, "grpc": "127.0.0.1:1"},
            "service": {"name": "plankton", "namespace": "reef"},
            "conditions": [{"type": "Accepted", "status": "True", "reason": "Admitted", "message": ""}],
            **({"expiresAt": expires} if phase in {"Open", "Expired"} else {}),
        },
    }
    site.cluster.put(body)
    session.keep_token("reef", name, f"uid-{name}", "pt_" + "x" * 43)
    return number


def barriers(page: Page) -> list[str]:
    """Violations that axe finds, with their elements."""
    # Evaluated outside of the page's policy, which is for pages and not for inspectors: as a browser's developer tools do it.
    page.evaluate(AXE.read_text(encoding="utf-8"))
    found = json.loads(page.evaluate("axe.run().then((done) => JSON.stringify(done.violations))"))
    return [f"{each['id']}: {node['html'][:200]}" for each in found for node in each["nodes"]]
