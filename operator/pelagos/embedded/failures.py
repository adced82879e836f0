"""The failure that the embedded mode explains to its user."""

from __future__ import annotations


class StartError(Exception):
    """Pelagos cannot run here as things are; the message says why and what to do next."""
