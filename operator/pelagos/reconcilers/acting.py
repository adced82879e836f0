"""Carries out effects: one port call each, idempotent by the name it carries."""

from __future__ import annotations

from dataclasses import replace

from pelagos.decisions import effects
from pelagos.ports import registry
from pelagos.reconcilers import sealed_runs
from pelagos.reconcilers.world import World


async def act(effect: effects.Effect, world: World) -> None:
    """Bring about one effect."""
    match effect:
        case effects.SubmitRun(request):
            await world.pipelines.submit(request)
        case effects.CancelRun(name):
            await world.pipelines.cancel(name)
        case effects.CreateTrackedRun(want):
            await world.tracking.create_run(want, sealed_runs.sealing(world.authority, want))
        case effects.SealTrackedRun(run_id, seal):
            await world.tracking.seal_run(run_id, seal)
        case effects.SetOutcome(run_id, outcome):
            await world.tracking.set_outcome(run_id, outcome)
        case effects.RegisterModel(version):
            seal = sealed_runs.version_seal(world.authority, version)
            sealed = replace(version, tags={**version.tags, registry.SEAL_TAG: seal})
            await world.registry.register(sealed, sealed_runs.ownership(world.authority))
        case effects.ApplyService(service):
            await world.serving.apply(service)
        case effects.RestartService(uid):
            await world.serving.restart(uid)
        case effects.RemoveService(uid):
            await world.serving.remove(uid)
            world.probes.forget(uid)
