"""The hub's key, in memory. For tests of reconcilers."""

from __future__ import annotations

from pelagos.ports.errors import RejectedError


class HubKeyFake:
    """Implements HubKey over ``key``. A ``problem`` makes it unusable."""

    def __init__(self, key: bytes | None = b"k" * 32) -> None:
        self.key = key
        self.problem = ""

    def read(self) -> bytes | None:
        """The key. Raises RejectedError with ``problem``, if that is set."""
        if self.problem:
            raise RejectedError("hub", self.problem)
        return self.key
