"""Carries out effects: one port call each, idempotent by the name it carries."""

from __future__ import annotations

from pelagos.decisions import effects
from pelagos.reconcilers.world import World


async def act(effect: effects.Effect, world: World) -> None:
    """Bring about one effect."""
    match effect:
        case effects.SubmitRun(request):
            await world.pipelines.submit(request)
        case effects.CancelRun(name):
            await world.pipelines.cancel(name)
        case effects.CreateTrackedRun(want):
            await world.tracking.create_run(want)
        case effects.SetOutcome(run_id, outcome):
            await world.tracking.set_outcome(run_id, outcome)
        case effects.RegisterModel(version):
            await world.registry.register(version)
        case effects.ApplyService(service):
            await world.serving.apply(service)
        case effects.RestartService(uid):
            await world.serving.restart(uid)
        case effects.RemoveService(uid):
            await world.serving.remove(uid)
            world.probes.forget(uid)
