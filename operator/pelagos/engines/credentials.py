"""Mounted files by which the operator gets into other systems, and knows them again. Called by the clients of these systems.

They are read at every call, because they are rotated while the operator runs. What is in them appears in no error.
"""

from __future__ import annotations

import base64
import ssl
from pathlib import Path

from pelagos.ports.errors import RejectedError


def secret(system: str, file: Path, setting: str) -> str:
    """The content of a mounted Secret, in one line. ``setting`` named the file. Raises RejectedError."""
    try:
        content = file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or type(error).__name__
        raise RejectedError(system, f"{file} cannot be read: {reason}; correct {setting}") from None
    if not content or not content.isprintable():
        found = "is not one" if content else "is empty"
        raise RejectedError(system, f"{file} must hold one line and {found}; correct {setting}")
    return content


class Trusted:
    """Whose certificates are believed: of the authorities in ``file``, else of those that this machine trusts."""

    def __init__(self, system: str, file: Path | None, setting: str) -> None:
        self._system = system
        self._file = file
        self._setting = setting
        self._known: tuple[tuple[int, int], ssl.SSLContext] | None = None

    def tls(self) -> ssl.SSLContext | bool:
        """As aiohttp takes it, made anew when the file has changed. Raises RejectedError."""
        file = self._file
        if file is None:
            return True
        try:
            seen = file.stat()
            stamp = (seen.st_mtime_ns, seen.st_ino)
            if self._known is None or self._known[0] != stamp:
                self._known = (stamp, ssl.create_default_context(cafile=str(file)))
        except (OSError, ssl.SSLError) as error:
            reason = error.strerror or type(error).__name__
            message = f"the certificate authority {file} cannot be used: {reason}; correct {self._setting}"
            raise RejectedError(self._system, message) from error
        return self._known[1]


def scrubbed(content: bytes, authorization: str) -> bytes:
    """What a server said without the header that it was sent, and the password in that: some proxies quote it."""
    _, _, sent = authorization.partition(" ")
    hidden = [sent.encode()]
    if authorization.startswith("Basic "):
        hidden.append(base64.b64decode(sent).partition(b":")[2])
    for each in filter(None, hidden):
        content = content.replace(each, b"***")
    return content
