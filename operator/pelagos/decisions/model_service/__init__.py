"""What must hold next for a ModelService. The chain below is the specification; each check is where its name says."""

from __future__ import annotations

from pelagos.decisions import chains
from pelagos.decisions.model_service import card, change, loading, model, probing, suspension
from pelagos.decisions.model_service.conditions import MODEL_LOADED, MODEL_RESOLVED, PROBED
from pelagos.decisions.model_service.observed import Observed
from pelagos.decisions.verdicts import Decision

CONDITIONS = (MODEL_RESOLVED, MODEL_LOADED, PROBED)

CHAIN: tuple[chains.Check[Observed], ...] = (
    card.judged,  # CardComplete: CardFilledIn or CardIncomplete, where a card or a place in the catalogue is asked for
    # Which model is to be served?
    model.spec_breaks_a_rule,  # ends: InvalidSpec
    model.limits_exceeded_before_a_service,  # ends: GpuLimitExceeded; what serves was allowed, and stays
    suspension.suspended,  # ends: Suspended; what serves is stopped
    model.unresolved,  # ends: TrainingRunNotReady, ModelVersionNotFound, ...; nothing serves that could go on
    model.resolved,  # ModelResolved: Resolved
    model.last_one_kept,  # ModelResolved: TrainingRunNotFound, ...; what is served stays served
    # Is what serves made of it, and of the settings in spec?
    change.addresses_published,  # status.url, endpoints
    change.limits_exceeded,  # ends: GpuLimitExceeded; what serves stays as it is
    change.around_right_servers,  # ends: Serving; servers that are as wanted stay Ready while what is around them changes
    change.starting,  # ends: Starting; starts or changes the servers
    # Has the server loaded it?
    loading.counts_published,  # status.restarts, replicas, selector
    loading.refused,  # ends: ModelLoadFailed
    loading.unfetched,  # ends: PackageNotFetched
    loading.unplaced,  # ends: WaitingForCluster
    loading.ended_in_order,  # ends: Starting; starts it again
    loading.timed_out,  # ends: LoadTimeout; starts it anew
    loading.in_progress,  # ends: Loading
    loading.crashed,  # ends: ServerCrashed; starts it again, with growing pauses
    # Does it answer right?
    probing.model_published,  # status.model, servedGeneration: from here on requests go to it
    probing.idle_and_unproven,  # ends: NotVerified
    probing.idle,  # ends: ScaledToZero
    probing.loaded,  # ModelLoaded: Loaded
    probing.pending,  # ends: Probing
    probing.wrong,  # ends: ProbeFailed; starts it anew after several in a row
    probing.right,  # ends: Serving
)


def decide(seen: Observed) -> Decision:
    """Name what must hold next; touch nothing."""
    return chains.evaluate(CHAIN, seen)
