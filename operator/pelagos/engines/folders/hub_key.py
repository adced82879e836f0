"""The HubKey port on a file, which is a mounted Secret on a cluster and is read at every use. Chosen by wiring."""

from __future__ import annotations

from pathlib import Path

from pelagos.ports.errors import RejectedError
from pelagos_contract import trial_signature

SYSTEM = "hub"


class HubKeyFile:
    """Implements HubKey with a file."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def read(self) -> bytes | None:
        """The key in the file; see ports.hub.HubKey. Raises RejectedError when it cannot be read."""
        try:
            return trial_signature.read_key(self._file)
        except (OSError, ValueError) as error:
            raise RejectedError(SYSTEM, f"the hub's signatures cannot be checked: {error}") from error
