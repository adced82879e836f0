"""Login on the machine itself without a provider, by a one-time link in a file that only its owner can read."""

from __future__ import annotations

import getpass
import hmac
import logging
import os
import secrets
from typing import TYPE_CHECKING

from pelagos_contract import disk
from pelagos_hub.login.identity import Person, pseudonym

if TYPE_CHECKING:
    from pelagos_hub.settings import Settings

_LOG = logging.getLogger("pelagos.hub")
PATH = "/login/local"


class Link:
    """The one-time link; each use replaces it."""

    def __init__(self, settings: Settings) -> None:
        self._file = settings.login_link_file
        self._origin = settings.origin
        self._token = ""
        self._is_told = False

    def renew(self) -> None:
        """Write a new link; the previous one becomes invalid."""
        if self._file is None:
            return
        self._token = secrets.token_urlsafe(32)
        try:
            disk.write_atomically(self._file, f"{self._origin}{PATH}?token={self._token}\n", mode=disk.PRIVATE)
        except OSError as error:
            self._token = ""
            if not self._is_told:
                _LOG.error("no link to log in: %s cannot be written: %s", self._file, error)
        self._is_told = not self._token

    def use(self, token: str) -> Person | None:
        """The user that the hub runs as, when the token is correct, which then becomes invalid; None otherwise."""
        if not self._token:
            # The current link could not be written, perhaps because the disk was full: this visitor has an old one.
            self.renew()
            return None
        if not hmac.compare_digest(token.encode(), self._token.encode()):
            return None
        self.renew()
        return Person(pseudonym("local", str(os.geteuid())), _account())


def _account() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"user {os.geteuid()}"
