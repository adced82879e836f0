"""Mounted credentials for other systems, and the certificate authorities to trust. Called by the clients of these systems.

The files are read at every call, because they are rotated while the operator runs. Their content never appears in an error.
"""

from __future__ import annotations

import base64
import ssl
from pathlib import Path

from pelagos.ports.errors import RejectedError


def secret(system: str, file: Path, setting: str) -> str:
    """The content of a mounted Secret, which must be one line. ``setting`` is the setting that names the file.

    Raises RejectedError.
    """
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
    """Which certificate authorities are trusted: those in ``file``, else those of this machine."""

    def __init__(self, system: str, file: Path | None, setting: str) -> None:
        self._system = system
        self._file = file
        self._setting = setting
        self._known: tuple[tuple[int, int], ssl.SSLContext] | None = None

    def tls(self) -> ssl.SSLContext | bool:
        """The value for aiohttp's ``ssl`` argument, rebuilt when the file has changed. Raises RejectedError."""
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
    """A server's answer with the credentials that we sent masked: some proxies quote the Authorization header."""
    _, _, sent = authorization.partition(" ")
    hidden = [sent.encode()]
    if authorization.startswith("Basic "):
        hidden.append(base64.b64decode(sent).partition(b":")[2])
    for each in filter(None, hidden):
        content = content.replace(each, b"***")
    return content
