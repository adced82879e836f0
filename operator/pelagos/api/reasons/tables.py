"""What a reason is, and the tables of all; a module beside this one for those of each kind."""

from __future__ import annotations

from typing import Literal

from pelagos_contract import failures

State = Literal[
    "done", "in progress", "waiting", "recovering", "action required", "unknown", "paused", "for information"
]


class Reason(str):
    """The name of a reason; with it, in which state it leaves the resource, what it means, and what to do about it.

    One that is not documented here, as that of a newer data plane, needs a person.
    """

    state: State
    meaning: str
    hint: str

    def __new__(cls, name: str, state: State = "action required", meaning: str = "", hint: str = "") -> Reason:
        """A reason of this name."""
        reason = super().__new__(cls, name)
        reason.state, reason.meaning, reason.hint = state, meaning, hint
        return reason


TABLES: dict[str, list[Reason]] = {"All kinds": [], "Dataset": [], "TrainingRun": [], "ModelService": [], "Trial": []}
"""All reasons, by the kind whose resources carry them first of all, in the order of docs/reasons.md."""


def tabled(table: str, name: str, state: State, meaning: str, hint: str = "") -> Reason:
    """A reason of the table."""
    reason = Reason(name, state, meaning, hint)
    TABLES[table].append(reason)
    return reason


def of_steps(table: str, reason: failures.Reason) -> Reason:
    """A reason that steps of pipelines refuse with, described in the contract."""
    return tabled(table, reason.value, reason.state, reason.meaning, reason.hint)
