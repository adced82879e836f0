"""The conditions of a ModelService, in the order in which they come about; and how often it is looked at what they wait for."""

from __future__ import annotations

MODEL_RESOLVED = "ModelResolved"
"""It is clear which model is served."""
MODEL_LOADED = "ModelLoaded"
"""The server has loaded it."""
PROBED = "Probed"
"""A real inference gave the answer of the training framework."""
CARD_COMPLETE = "CardComplete"
"""The card says what strangers need. Only where spec has a card, or asks for a place in the catalogue."""

WATCH = 5.0
"""Seconds between two looks at a running endpoint."""
MODEL_POLL = 10.0
"""Seconds between two looks at what another resource, the registry or the platform must bring."""
