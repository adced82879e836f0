"""How Flux and kubectl read a status by kstatus: the rules of cli-utils for kinds that it does not know, in their order."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Any

from pelagos.api import meta
from pelagos.ports.cluster import Resource


class Kstatus(Enum):
    """What kstatus makes of a resource."""

    CURRENT = "Current"
    IN_PROGRESS = "InProgress"
    FAILED = "Failed"
    TERMINATING = "Terminating"
    NOT_FOUND = "NotFound"


def read(resource: Resource) -> Kstatus:
    """What kstatus makes of ``resource``."""
    return _read(deleting=resource.deleting, generation=resource.generation, status=resource.status)


def read_body(body: Mapping[str, Any] | None) -> Kstatus:
    """What kstatus makes of a resource as the API server shows it; None: it is gone."""
    if body is None:
        return Kstatus.NOT_FOUND
    metadata = body["metadata"]
    return _read(
        deleting="deletionTimestamp" in metadata,
        generation=metadata.get("generation"),
        status=body.get("status") or {},
    )


def body_of(resource: Resource) -> dict[str, Any]:
    """A resource as the API server would show it."""
    metadata: dict[str, Any] = {
        "name": resource.name,
        "namespace": resource.namespace,
        "uid": resource.uid,
        "generation": resource.generation,
    }
    if resource.annotations:
        metadata["annotations"] = dict(resource.annotations)
    if resource.deleting:
        metadata["deletionTimestamp"] = "2026-03-01T12:00:00Z"
    return {
        "apiVersion": meta.API_VERSION,
        "kind": resource.kind.kind,
        "metadata": metadata,
        "spec": dict(resource.spec),
        "status": dict(resource.status),
    }


def _read(*, deleting: bool, generation: int | None, status: Mapping[str, Any]) -> Kstatus:
    if deleting:
        return Kstatus.TERMINATING
    observed = status.get("observedGeneration")
    # Only when both are there: a resource without a status counts as current, which Flux users know from young resources.
    if observed is not None and generation is not None and observed != generation:
        return Kstatus.IN_PROGRESS
    conditions = status.get("conditions") or ()
    # In the order in which they stand: the first of the two that is True decides.
    for condition in conditions:
        if condition["type"] == "Reconciling" and condition["status"] == "True":
            return Kstatus.IN_PROGRESS
        if condition["type"] == "Stalled" and condition["status"] == "True":
            return Kstatus.FAILED
    for condition in conditions:
        if condition["type"] == "Ready":
            return Kstatus.CURRENT if condition["status"] == "True" else Kstatus.IN_PROGRESS
    return Kstatus.CURRENT


def contradiction(body: Mapping[str, Any]) -> str:
    """What kstatus would make of ``body`` that our own conditions do not say; empty: it is read as it is meant."""
    status = body.get("status") or {}
    held = {condition["type"]: condition["status"] for condition in status.get("conditions") or ()}
    found = read_body(body)
    if not held or found is Kstatus.TERMINATING or status.get("observedGeneration") != body["metadata"]["generation"]:
        return ""
    meant = {"True": Kstatus.CURRENT}.get(held["Ready"], Kstatus.IN_PROGRESS)
    if held.get("Stalled") == "True":
        meant = Kstatus.FAILED
    return "" if found is meant else f"kstatus reads {found.value}, and {meant.value} is meant: {held}"
