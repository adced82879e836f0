"""Logins to endpoints by HTTP: read from a file, sent only where nobody can listen, and never in a message."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from pelagos.cli import endpoint_logins
from pelagos.cli.endpoint_logins import LoginError
from pelagos.cli.main import app
from pelagos.settings import Settings
from resource_servers import ApiServer, api

__all__ = ["api"]


def test_a_file_holds_user_and_password_or_a_token(tmp_path: Path) -> None:
    file = tmp_path / "login"
    file.write_text("p-1:very:secret\n")
    assert base64.b64decode(endpoint_logins.read(file).removeprefix("Basic ")) == b"p-1:very:secret"
    file.write_text("a.token\n")
    assert endpoint_logins.read(file) == "Bearer a.token"


@pytest.mark.parametrize("content", [b"", b"\n", b"very-secret\nsecond", b"very-secret\xff", b"s" * 20_000])
def test_what_is_no_login_is_said_without_what_is_in_it(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "login"
    file.write_bytes(content)
    with pytest.raises(LoginError) as caught:
        endpoint_logins.read(file)
    assert str(file) in str(caught.value)
    assert "very-secret" not in repr(caught.value)
    assert caught.value.__cause__ is None


def test_a_login_is_not_sent_where_it_could_be_read(
    api: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    (tmp_path / "login").write_text("very-secret")
    ready = {"type": "Ready", "status": "True", "reason": "Serving", "message": ""}
    url = "http://oscar.example/system/services/p-1/exposed"
    api.add("detector", {"url": url, "model": {"name": "detector"}, "conditions": [ready]})
    monkeypatch.setenv("PELAGOS_LOGIN_FILE", str(tmp_path / "login"))
    result = CliRunner().invoke(app, ["predict", "detector", str(tmp_path / "a.png")])
    assert result.exit_code == 1
    assert result.stderr == (
        f"Error: the endpoint {url} is not encrypted, so no login is sent to it; use TLS (https://)\n"
    )


def test_without_a_login_any_address_is_asked() -> None:
    assert endpoint_logins.endpoint("http://oscar.example", "", Settings()).authorization == ""
