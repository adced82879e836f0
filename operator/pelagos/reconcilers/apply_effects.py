"""Carries out effects: one port call each, idempotent by the name in the effect."""

from __future__ import annotations

from dataclasses import replace

from pelagos.decisions import effects
from pelagos.reconcilers import owned, sealed_runs
from pelagos.reconcilers.dependencies import Dependencies
from pelagos_contract.tags import SEAL_TAG


async def act(effect: effects.Effect, dependencies: Dependencies) -> None:  # noqa: C901, PLR0912  one case for each effect
    """Carry out one effect. Raises what the port raises."""
    match effect:
        case effects.SubmitRun(request):
            await dependencies.pipelines.submit(request)
        case effects.CancelRun(name):
            await dependencies.pipelines.cancel(name)
        case effects.CreateTrackedRun(want):
            await dependencies.tracking.create_run(want, sealed_runs.sealing(dependencies.authority, want))
        case effects.SealTrackedRun(run_id, seal):
            await dependencies.tracking.seal_run(run_id, seal)
        case effects.SetOutcome(run_id, outcome):
            await dependencies.tracking.set_outcome(run_id, outcome)
        case effects.RegisterModel(version):
            seal = sealed_runs.version_seal(dependencies.authority, version)
            sealed = replace(version, tags={**version.tags, SEAL_TAG: seal})
            await dependencies.registry.register(sealed, sealed_runs.ownership(dependencies.authority))
        case effects.ApplyService(service):
            await dependencies.serving.apply(service)
        case effects.RestartService(uid):
            await dependencies.serving.restart(uid)
        case effects.StopService(uid):
            await dependencies.serving.stop(uid)
            dependencies.probes.forget(uid)
        case effects.RetireService(uid):
            await dependencies.serving.retire(uid)
        case effects.DeleteResource():
            await _delete(effect, dependencies)
        case effects.PostEvent():
            await _post(effect, dependencies)
        case effects.CreateOwned() | effects.RemoveOwned():
            await owned.act(effect, dependencies)
        case effects.IssueToken() | effects.RevokeToken() | effects.PublishLogin():
            await owned.act(effect, dependencies)


async def _delete(effect: effects.DeleteResource, dependencies: Dependencies) -> None:
    known = dependencies.cache.get(effect.key)
    # The name may belong to a new resource by now, and someone who has just changed this one may want to keep it:
    # delete_resource refuses then.
    if known is None or known.uid != effect.uid or not await dependencies.cluster.delete_resource(known):
        return
    await dependencies.cluster.post_event(
        known, severity="Normal", reason="Expired", message=f"deleted, because {effect.why}"
    )


async def _post(effect: effects.PostEvent, dependencies: Dependencies) -> None:
    known = dependencies.cache.get(effect.key)
    if known is not None and known.uid == effect.uid:
        await dependencies.cluster.post_event(
            known, severity="Warning" if effect.warns else "Normal", reason=effect.reason, message=effect.message
        )
