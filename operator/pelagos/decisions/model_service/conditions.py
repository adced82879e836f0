"""The conditions of a ModelService, in the order in which they become True, and the intervals of their checks."""

from __future__ import annotations

MODEL_RESOLVED = "ModelResolved"
"""It is determined which model to serve."""
MODEL_LOADED = "ModelLoaded"
"""The server has loaded it."""
PROBED = "Probed"
"""A real inference gave the same answer as the training framework."""
CARD_COMPLETE = "CardComplete"
"""The card says what strangers need. Only if spec has a card, or asks for a place in the catalogue."""

WATCH = 5.0
"""Seconds between two checks of a running endpoint."""
MODEL_POLL = 10.0
"""Seconds between two checks for something that another resource, the registry or the platform has to bring."""
