"""The port HubKey in a file, which is a mounted Secret on a cluster: read at every use. Chosen by wiring."""

from __future__ import annotations

from pathlib import Path

from pelagos.ports.errors import RejectedError
from pelagos_contract import trial_signature

SYSTEM = "hub"


class HubKeyFile:
    """Implements HubKey."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def read(self) -> bytes | None:
        """See ports.hub.HubKey."""
        try:
            return trial_signature.read_key(self._file)
        except (OSError, ValueError) as error:
            raise RejectedError(SYSTEM, f"the hub's signatures cannot be looked at: {error}") from error
