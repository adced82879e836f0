"""The error that the embedded mode reports to its user."""

from __future__ import annotations


class StartError(Exception):
    """Pelagos cannot run here at present; the message says why, and what to do next."""
