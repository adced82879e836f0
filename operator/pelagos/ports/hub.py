"""The key with which the hub signs the Trials that it creates; see pelagos_contract.trial_signature."""

from __future__ import annotations

from typing import Protocol


class HubKey(Protocol):
    """The store of the key."""

    def read(self) -> bytes | None:
        """The key; None when there is none, and no signature counts. Raises RejectedError for an unusable key."""


class NoHubKey:
    """Implements HubKey where there is no hub."""

    def read(self) -> bytes | None:
        """Returns None: no signature counts."""
        return None
