"""A picture of a page, made by this machine's browser; or why there is none."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from browser import CHROMIUM
from pelagos.cli import browsing


class _Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        content = b"<body style='background:#005f86'>Models"
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Write no log."""


@pytest.fixture
def address() -> Iterator[str]:
    """The address of a page of one colour."""
    server = http.server.HTTPServer(("127.0.0.1", 0), _Page)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()


def test_a_page_is_pictured(address: str, tmp_path: Path) -> None:
    browsing.take(address, tmp_path / "page.png", CHROMIUM.parents[1], (640, 480))

    with Image.open(tmp_path / "page.png") as picture:
        assert picture.size == (640, 480)
        assert picture.convert("RGB").getpixel((600, 400)) == (0, 95, 134)


def test_without_a_browser_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(browsing.NoPictureError, match="apt-get install chromium"):
        browsing.take("http://127.0.0.1:9/", tmp_path / "page.png", tmp_path)


def test_a_browser_that_fails_is_named_with_its_words(tmp_path: Path) -> None:
    program = tmp_path / "chromium/chromium"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\necho no display >&2\nexit 7\n")
    program.chmod(0o700)

    with pytest.raises(browsing.NoPictureError, match=r"chromium ended with 7: no display"):
        browsing.take("http://127.0.0.1:9/", tmp_path / "page.png", tmp_path)
