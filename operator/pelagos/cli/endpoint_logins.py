"""How people log in to an endpoint that is reached by HTTP. Used by ``pelagos predict``.

An endpoint of the engine ``oscar`` asks for the token of its service. Whoever has no login to the cluster of OSCAR is given that
token by somebody who has one.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import aiohttp
import typer

from pelagos.engines.triton.http_inference import Endpoint, may_log_in

if TYPE_CHECKING:
    from pelagos.settings import Settings

_LONGEST = 16_384

Option = Annotated[
    Path | None,
    typer.Option(
        help="File with the login of an endpoint that asks for one: user:password in one line, or a token.",
        envvar="PELAGOS_LOGIN_FILE",
    ),
]


class LoginError(Exception):
    """There is no login, or it must not be sent; the message says what to do, in one line."""


def read(file: Path) -> str:
    """The header that the content of a file makes. What is in the file appears in no message. Raises LoginError."""
    try:
        with file.open(encoding="utf-8") as opened:
            content = opened.read(_LONGEST + 1).strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not text"
        raise LoginError(f"--login-file {file} cannot be read: {reason}") from None
    if not content or not content.isprintable() or len(content) > _LONGEST:
        raise LoginError(f"--login-file {file} must hold one line: user:password, or a token")
    user, colon, password = content.partition(":")
    return aiohttp.encode_basic_auth(user, password, "utf-8") if colon else f"Bearer {content}"


def endpoint(url: str, login: str, settings: Settings) -> Endpoint:
    """Where to ask. Raises LoginError for a login that somebody on the way could read."""
    if login and not may_log_in(url):
        raise LoginError(f"the endpoint {url} is not encrypted: no login is sent there; give it TLS (https://)")
    return Endpoint(url, login, settings.endpoint_ca_file)
