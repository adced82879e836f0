"""The first sync of the shipped GitOps tenant: whatever comes late, Argo CD and Flux see progress and never a failure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import pytest

import kstatus
import rendering
import simulation
from argo_cd import HEALTH, run
from kstatus import Kstatus
from pelagos.api import kinds
from pelagos.ports.cluster import Key
from simulation import Simulation

TENANT = "marine-lab"
FOLDER = rendering.MANIFESTS / "samples/gitops/tenants" / TENANT
IMAGES = "phytoplankton/2026"
ALERTED = 15 * 60.0
"""Seconds after which PelagosResourceStalled fires."""


@pytest.fixture
def world() -> Iterator[Simulation]:
    with simulation.simulation() as made:
        yield made


def sync(world: Simulation, bodies: Sequence[rendering.Body]) -> None:
    """Apply everything at once, in any order, as Argo CD and Flux do."""
    known = {kind.kind: kind for kind in kinds.KINDS}
    for each in bodies:
        world.cluster.create(known[each["kind"]], each["metadata"]["name"], each["spec"], namespace=TENANT)


def health(world: Simulation) -> set[tuple[str, str]]:
    """How kstatus and Argo CD read every state that ever appeared."""
    shown = [
        kstatus.body_of(resource) for history in world.auditor.seen.values() for resource in history if resource.status
    ]
    return {(kstatus.read_body(each).value, run(HEALTH, each)["status"]) for each in shown}


@pytest.mark.parametrize("order", [list, lambda bodies: list(reversed(bodies))], ids=["as built", "reversed"])
def test_a_tenant_is_never_degraded_while_it_waits_and_is_healthy_in_the_end(
    world: Simulation, order: Callable[[Sequence[rendering.Body]], Sequence[rendering.Body]]
) -> None:
    world.tenants.unbound.add(TENANT)
    world.keys.known, kept = (), world.keys.known
    world.start()
    sync(world, order(rendering.kustomize(FOLDER)))
    service = Key("ModelService", TENANT, "phytoplankton")

    world.run(ALERTED)  # the platform has not made it a tenant
    assert world.ready(service)["reason"] == "NamespaceNotAdmitted"
    world.tenants.unbound.clear()
    world.run(ALERTED)  # the operator's key is being restored
    world.keys.known = kept
    world.run(ALERTED)  # there are no images
    assert world.ready(Key("Dataset", TENANT, "phytoplankton"))["reason"] == "SourceNotFound"
    assert "TrainingRun phytoplankton-1, which registers it" in world.ready(service)["message"]
    world.data_plane.halted = True
    world.volumes.put(f"{IMAGES}/1.png", "an image")
    world.run(ALERTED)  # no node has room
    world.data_plane.halted = False
    world.run_until(world.all_current)

    assert health(world) == {(Kstatus.IN_PROGRESS.value, "Progressing"), (Kstatus.CURRENT.value, "Healthy")}
    warnings = [event.message for event in world.cluster.events if event.severity == "Warning"]
    assert all("Waited for since" in message for message in warnings), "only that something takes long"


def test_what_is_there_and_cannot_be_used_is_degraded(world: Simulation) -> None:
    world.data_plane.failures = [{"reason": "CorruptImages", "message": "1.png is cut off"}]
    world.volumes.put(f"{IMAGES}/1.png", "half an image")
    world.start()
    sync(world, rendering.kustomize(FOLDER))
    world.run(30)

    assert (Kstatus.FAILED.value, "Degraded") in health(world)
