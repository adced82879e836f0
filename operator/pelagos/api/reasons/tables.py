"""The type of reasons, and the tables of all; each kind's reasons are in a module beside this one."""

from __future__ import annotations

from typing import Literal

from pelagos_contract import failures

State = Literal[
    "done", "in progress", "waiting", "recovering", "action required", "unknown", "paused", "for information"
]


class Reason(str):
    """The name of a reason, with the state of the resource, the meaning, and a hint.

    A reason that is not documented here, such as one of a newer data plane, has the state action required.
    """

    state: State
    meaning: str
    hint: str

    def __new__(cls, name: str, state: State = "action required", meaning: str = "", hint: str = "") -> Reason:
        """Create a reason with this name."""
        reason = super().__new__(cls, name)
        reason.state, reason.meaning, reason.hint = state, meaning, hint
        return reason


TABLES: dict[str, list[Reason]] = {"All kinds": [], "Dataset": [], "TrainingRun": [], "ModelService": [], "Trial": []}
"""All reasons by the kind that mainly uses them, in the order of docs/reasons.md."""


def tabled(table: str, name: str, state: State, meaning: str, hint: str = "") -> Reason:
    """Create a reason, and add it to the table."""
    reason = Reason(name, state, meaning, hint)
    TABLES[table].append(reason)
    return reason


def of_steps(table: str, reason: failures.Reason) -> Reason:
    """Add a reason with which pipeline steps refuse input, as the contract describes it."""
    return tabled(table, reason.value, reason.state, reason.meaning, reason.hint)
