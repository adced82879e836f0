"""How Flux and kubectl's kstatus library read a status; the rules of cli-utils' generic.go, in their order."""

from __future__ import annotations

from enum import Enum

from pelagos.ports.cluster import Resource


class Kstatus(Enum):
    """What kstatus makes of a resource."""

    CURRENT = "Current"
    IN_PROGRESS = "InProgress"
    FAILED = "Failed"
    TERMINATING = "Terminating"


def read(resource: Resource) -> Kstatus:
    """What kstatus makes of ``resource``."""
    if resource.deleting:
        return Kstatus.TERMINATING
    if resource.status.get("observedGeneration", resource.generation) != resource.generation:
        return Kstatus.IN_PROGRESS
    held = {condition["type"]: condition["status"] for condition in resource.status.get("conditions", ())}
    if held.get("Reconciling") == "True":
        return Kstatus.IN_PROGRESS
    if held.get("Stalled") == "True":
        return Kstatus.FAILED
    if "Ready" in held and held["Ready"] != "True":
        return Kstatus.IN_PROGRESS
    return Kstatus.CURRENT
