"""Logins of people to an endpoint over HTTP. Used by ``pelagos predict``.

An endpoint of the engine ``oscar`` requires the token of its service. Users without a login to the OSCAR cluster get that token
from somebody who has one.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import aiohttp
import typer

from pelagos.api.service_logins import may_log_in
from pelagos.engines.triton.http_inference import Endpoint

if TYPE_CHECKING:
    from pelagos.settings import Settings

_LONGEST = 16_384

Option = Annotated[
    Path | None,
    typer.Option(
        help="File with the login for an endpoint that requires one: user:password in one line, or a token.",
        envvar="PELAGOS_LOGIN_FILE",
    ),
]


class LoginError(Exception):
    """The login is missing, or must not be sent; the message says what to do, in one line."""


def read(file: Path) -> str:
    """The Authorization header from a file's content, which never appears in a message. Raises LoginError."""
    try:
        with file.open(encoding="utf-8") as opened:
            content = opened.read(_LONGEST + 1).strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not text"
        raise LoginError(f"--login-file {file} cannot be read: {reason}") from None
    if not content or not content.isprintable() or len(content) > _LONGEST:
        raise LoginError(f"--login-file {file} must contain one line: user:password, or a token")
    user, colon, password = content.partition(":")
    return aiohttp.encode_basic_auth(user, password, "utf-8") if colon else f"Bearer {content}"


def endpoint(url: str, login: str, settings: Settings) -> Endpoint:
    """The endpoint with its login. Raises LoginError if the login would be sent unencrypted."""
    if login and not may_log_in(url):
        raise LoginError(f"the endpoint {url} is not encrypted, so no login is sent to it; use TLS (https://)")
    return Endpoint(url, login, settings.endpoint_ca_file)
