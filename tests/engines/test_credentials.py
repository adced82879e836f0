"""Mounted secrets and certificate authorities: messages say what is wrong with a file, and never quote its content."""

from __future__ import annotations

import ssl
from pathlib import Path

import aiohttp
import pytest

from pelagos.engines.credentials import Trusted, scrubbed, secret
from pelagos.engines.mlflow import rest
from pelagos.ports.errors import RejectedError


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "must hold one line and is empty"),
        (b" \n", "must hold one line and is empty"),
        (b"CANARY\nCANARY", "must hold one line and is not one"),
        (b"CANARY\x00", "must hold one line and is not one"),
        (b"CANARY\xff", "cannot be read: UnicodeDecodeError"),
    ],
)
def test_a_secret_that_is_no_line_is_named_and_not_shown(tmp_path: Path, content: bytes, said: str) -> None:
    file = tmp_path / "token"
    file.write_bytes(content)
    with pytest.raises(RejectedError, match=f"Another: .*token {said}; correct THE_SETTING") as caught:
        secret("Another", file, "THE_SETTING")
    assert "CANARY" not in repr(caught.value)


def test_what_a_proxy_quotes_of_us_is_hidden_however_long_it_is() -> None:
    token = "CANARY" * 200
    said = rest._said(f"you sent Bearer {token}, and that is not good".encode(), f"Bearer {token}")
    assert said == "you sent Bearer ***, and that is not good"
    basic = aiohttp.encode_basic_auth("user", "the password", "utf-8")
    assert scrubbed(f"{basic} is user:the password".encode(), basic) == b"Basic *** is user:***"
    assert scrubbed(b"nothing was sent", "") == b"nothing was sent"


def test_an_authority_is_read_anew_when_its_file_is_another_one(tmp_path: Path) -> None:
    assert Trusted("Another", None, "THE_SETTING").tls() is True
    file = tmp_path / "ca.pem"
    trusted = Trusted("Another", file, "THE_SETTING")
    with pytest.raises(RejectedError, match=r"ca\.pem cannot be used: No such file.*; correct THE_SETTING"):
        trusted.tls()
    system = Path(ssl.get_default_verify_paths().cafile or "/etc/ssl/certs/ca-certificates.crt")
    first = system.read_bytes().partition(b"-----END CERTIFICATE-----\n")
    file.write_bytes(first[0] + first[1])
    context = trusted.tls()
    assert trusted.tls() is context
    file.unlink()
    file.write_bytes(first[0] + first[1] + b"\n")
    assert trusted.tls() is not context
