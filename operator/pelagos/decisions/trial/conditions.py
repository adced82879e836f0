"""The conditions of a Trial, how often to check it, and how long it waits."""

from __future__ import annotations

from datetime import timedelta

ACCEPTED = "Accepted"
"""It has a place among the trials of its namespace; False: refused for good."""
EXPIRED = "Expired"
"""Its time is over."""

WATCH = 15.0
"""Most seconds between two checks of an open Trial. Timers stand still while the machine sleeps, and must not be late by more."""
STARTING_POLL = 2.0
"""Seconds between two checks of a server that is being started, in case the watch misses a change."""
PATIENCE = timedelta(seconds=30)
"""How long to wait for a ModelService that is about to be Ready, as after a restart of the operator, before a refusal."""
LONGEST_START = timedelta(minutes=15)
"""How long to wait for the Trial's own server, before giving up and freeing its place."""
