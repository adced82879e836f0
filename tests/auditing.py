"""Invariants of everything that the operator writes, checked in every test that uses the simulation."""

from __future__ import annotations

import logging
import re
import traceback
from collections.abc import Mapping, Sequence
from typing import Any

import kstatus
from pelagos.api import reasons
from pelagos.decisions.model_service.conditions import CARD_COMPLETE
from pelagos.ports.cluster import Key, Resource

CAMEL_CASE = re.compile(r"[A-Z][A-Za-z0-9]*")
WHERE_ASKED_FOR = (CARD_COMPLETE,)
"""Conditions that exist only where the spec asks for their subject."""


class Auditor:
    """Checks every written status against the promises of all kinds; ``owned`` are the operator's conditions by kind."""

    def __init__(self, owned: Mapping[str, Sequence[str]]) -> None:
        self._owned = owned
        self.seen: dict[Key, list[Resource]] = {}
        self.problems: list[str] = []
        """Collected here and not raised: an exception would be raised inside the operator, which would treat it as its own."""

    def reasons(self, key: Key) -> list[str]:
        """Reasons of Ready in the order in which they appeared, without consecutive repetitions."""
        found = [ready_condition(resource)["reason"] for resource in self.seen[key] if resource.status]
        return [reason for number, reason in enumerate(found) if number == 0 or found[number - 1] != reason]

    def look(self, resource: Resource) -> None:
        """Check ``resource``, which was just written."""
        history = self.seen.setdefault(resource.key, [])
        before = history[-1] if history and history[-1].uid == resource.uid else None
        try:
            if resource.status:
                self._check(resource, before)
        except (AssertionError, ValueError) as problem:
            where = "".join(traceback.format_tb(problem.__traceback__)[-1:])
            self.problems.append(f"{resource.key}: {problem}\n{where}{resource.status}")
        history.append(resource)

    def forget(self, _key: Key, _uid: str) -> None:
        """Called when a resource was deleted. Its history is kept."""

    def _check(self, resource: Resource, before: Resource | None) -> None:
        status = resource.kind.status.model_validate(resource.status)
        held = {condition.type: condition for condition in status.conditions}
        assert len(held) == len(status.conditions), "two conditions of one type"
        owned = self._owned[resource.kind.kind]
        at_times = {"Ready", "Reconciling", "Stalled", "Waiting", *WHERE_ASKED_FOR}
        assert {"Ready", *owned} <= held.keys() <= {*at_times, *owned}
        assert status.observed_generation is not None
        for condition in status.conditions:
            assert CAMEL_CASE.fullmatch(condition.reason), condition
            assert condition.message, condition
            assert condition.observed_generation == status.observed_generation
        assert all(held[name].status == "True" for name in ("Reconciling", "Stalled", "Waiting") if name in held)
        assert not {"Reconciling", "Stalled"} <= held.keys()
        assert ("Waiting" in held) == (reasons.named(held["Ready"].reason).state == "waiting"), (
            "waiting is what the table says"
        )
        self._check_kstatus(resource, held["Ready"].status, held.keys())
        self._check_transitions(before, resource)

    def _check_kstatus(self, resource: Resource, ready: str, held: Any) -> None:
        found = kstatus.read(resource)
        if found is kstatus.Kstatus.FAILED:
            assert ready == "False"
        if found is kstatus.Kstatus.CURRENT:
            assert (ready, "Reconciling" in held, "Stalled" in held) == ("True", False, False)
        if ready == "Unknown":
            assert "Reconciling" in held

    def _check_transitions(self, before: Resource | None, after: Resource) -> None:
        known = {condition["type"]: condition for condition in (before.status.get("conditions", ()) if before else ())}
        for condition in after.status["conditions"]:
            old = known.get(condition["type"])
            if old is not None and old["status"] == condition["status"]:
                assert old["lastTransitionTime"] == condition["lastTransitionTime"], condition


class Tracebacks(logging.Handler):
    """Collects log records of the operator that carry a traceback: each one is a bug."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info:
            self.found.append(self.format(record))


def ready_condition(resource: Resource) -> dict[str, Any]:
    """The condition Ready, which every status has."""
    return next(dict(condition) for condition in resource.status["conditions"] if condition["type"] == "Ready")
