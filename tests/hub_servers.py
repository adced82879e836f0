"""The hub on a port of this machine, for browsers, and a browser that notes what it was not to do."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import uvicorn
from playwright.sync_api import Browser, Page, sync_playwright

from browser import CHROMIUM
from hub_sites import Site


@contextlib.contextmanager
def listening(site_of: Any) -> Iterator[str]:
    """Serve the hub that ``site_of(url)`` makes; yields its address."""
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
    """Debian's Chromium, which reaches nothing but this machine."""
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
    """A page, and what it did that no page of ours may do: hosts it asked, reports of its policy, errors of scripts."""

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
        """Go there, and wait until nothing is loaded any more."""
        self.page.goto(self.url + path, wait_until="networkidle")
        return self.page

    def picture(self, to: Path) -> None:
        """Of the whole page."""
        self.page.screenshot(path=to, full_page=True)
