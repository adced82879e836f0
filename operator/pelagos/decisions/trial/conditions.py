"""The conditions of a Trial; and how often it is looked at, and for how long what for."""

from __future__ import annotations

from datetime import timedelta

ACCEPTED = "Accepted"
"""It has a place among the trials of its namespace; False: refused for good."""
EXPIRED = "Expired"
"""Its time is over."""

WATCH = 15.0
"""Most seconds between two looks at one that is open: after the machine has slept, timers are late by that time."""
STARTING_POLL = 2.0
"""Seconds between two looks at a server that is being started, should the watch miss what becomes of it."""
PATIENCE = timedelta(seconds=30)
"""For a ModelService that is about to be Ready, as after a restart of the operator; then the Trial is refused."""
LONGEST_START = timedelta(minutes=15)
"""For a server of its own; what takes longer is given up, and its place is free again."""
