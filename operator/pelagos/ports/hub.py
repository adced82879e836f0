"""The key by which the hub signs the Trials that it makes; see pelagos_contract.trial_signature."""

from __future__ import annotations

from typing import Protocol


class HubKey(Protocol):
    """Where the key is kept."""

    def read(self) -> bytes | None:
        """The key; None: there is none, and nothing is believed. Raises RejectedError for what cannot be used."""


class NoHubKey:
    """Implements HubKey where there is no hub."""

    def read(self) -> bytes | None:
        """None."""
        return None
