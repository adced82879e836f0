"""Flux, and every other reader of kstatus, understands every status that the operator writes."""

from __future__ import annotations

from typing import Any

import pytest

import kstatus
from kstatus import Kstatus
from pelagos.api import kinds, meta

Body = dict[str, Any]


def made(generation: int = 2, observed: int | None = 2, deleting: bool = False, **conditions: str) -> Body:
    metadata: Body = {"generation": generation} | ({"deletionTimestamp": "now"} if deleting else {})
    listed = [{"type": name, "status": status} for name, status in conditions.items()]
    status: Body = {"conditions": listed} | ({} if observed is None else {"observedGeneration": observed})
    return {"apiVersion": meta.API_VERSION, "kind": "Dataset", "metadata": metadata, "status": status}


@pytest.mark.parametrize(
    ("body", "want"),
    [
        (None, Kstatus.NOT_FOUND),
        (made(deleting=True, Ready="True"), Kstatus.TERMINATING),
        (made(observed=1, Ready="True"), Kstatus.IN_PROGRESS),
        (made(observed=1, Stalled="True", Ready="False"), Kstatus.IN_PROGRESS),
        (made(observed=None, Ready="False"), Kstatus.IN_PROGRESS),
        (made(observed=None), Kstatus.CURRENT),
        (made() | {"status": {}}, Kstatus.CURRENT),
        (made(Ready="True"), Kstatus.CURRENT),
        (made(Ready="False"), Kstatus.IN_PROGRESS),
        (made(Ready="Unknown"), Kstatus.IN_PROGRESS),
        (made(Ready="True", Reconciling="True"), Kstatus.IN_PROGRESS),
        (made(Ready="False", Stalled="True"), Kstatus.FAILED),
        (made(Ready="False", Stalled="False"), Kstatus.IN_PROGRESS),
        (made(Reconciling="True", Stalled="True"), Kstatus.IN_PROGRESS),
        (made(Stalled="True", Reconciling="True"), Kstatus.FAILED),
        (made(Other="False"), Kstatus.CURRENT),
    ],
)
def test_the_rules_of_kstatus(body: Body | None, want: Kstatus) -> None:
    assert kstatus.read_body(body) is want


def test_every_status_is_read_as_it_is_meant(bodies: list[Body]) -> None:
    assert [problem for body in bodies if (problem := kstatus.contradiction(body))] == []


def test_all_that_can_be_read_was_seen(bodies: list[Body]) -> None:
    seen = {(body["kind"], kstatus.read_body(body)) for body in bodies if body["status"]}

    # No repository holds Trials, which are deleted after their end.
    states = (Kstatus.CURRENT, Kstatus.IN_PROGRESS, Kstatus.FAILED)
    assert seen >= {(kind.kind, state) for kind in kinds.KINDS if kind is not kinds.TRIAL for state in states}
    assert len(bodies) > 25


def test_what_kstatus_cannot_read_is_not_guessed() -> None:
    with pytest.raises(ValueError, match="conditions"):
        kstatus.read_body(made() | {"status": {"conditions": "many"}})


def test_a_contradiction_is_found() -> None:
    assert kstatus.contradiction(made(Ready="True", Reconciling="True"))
