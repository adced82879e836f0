"""Decides what to do next for a ModelService. The chain below is the specification; each check is in the module of its name."""

from __future__ import annotations

from pelagos.decisions import chains
from pelagos.decisions.model_service import card, change, loading, model, probing, suspension, trying
from pelagos.decisions.model_service.conditions import MODEL_LOADED, MODEL_RESOLVED, PROBED
from pelagos.decisions.model_service.observed import Observed
from pelagos.decisions.verdicts import Decision

CONDITIONS = (MODEL_RESOLVED, MODEL_LOADED, PROBED)

CHAIN: tuple[chains.Check[Observed], ...] = (
    card.judged,  # CardComplete: CardFilledIn or CardIncomplete, if spec has a card or asks for a place in the catalogue
    trying.limits_published,  # status.trials
    # Which model is to be served?
    model.spec_breaks_a_rule,  # ends: InvalidSpec
    model.limits_exceeded_before_a_service,  # ends: GpuLimitExceeded; an existing service was allowed, and stays
    suspension.suspended,  # ends: Suspended; stops the servers
    model.unresolved,  # ends: TrainingRunNotReady, ModelVersionNotFound, ...; there is no earlier model to keep serving
    model.resolved,  # ModelResolved: Resolved
    model.last_one_kept,  # ModelResolved: TrainingRunNotFound, ...; the last model is still served
    # Does the endpoint match that model, and the settings in spec?
    change.addresses_published,  # status.url, endpoints
    change.limits_exceeded,  # ends: GpuLimitExceeded; the endpoint stays as it is
    change.around_right_servers,  # ends: Serving; servers that match stay Ready while other parts of the endpoint change
    change.starting,  # ends: Starting; starts or changes the servers
    # Has the server loaded it?
    loading.counts_published,  # status.restarts, replicas, selector
    loading.refused,  # ends: ModelLoadFailed
    loading.unfetched,  # ends: PackageNotFetched
    loading.unplaced,  # ends: WaitingForCluster
    loading.ended_in_order,  # ends: Starting; starts it again
    loading.timed_out,  # ends: LoadTimeout; restarts it
    loading.in_progress,  # ends: Loading
    loading.crashed,  # ends: ServerCrashed; starts it again, with growing pauses
    # Does it answer correctly?
    probing.model_published,  # status.model, servedGeneration: requests go to it from now on
    probing.idle_and_unproven,  # ends: NotVerified
    probing.idle,  # ends: ScaledToZero
    probing.loaded,  # ModelLoaded: Loaded
    probing.pending,  # ends: Probing
    probing.wrong,  # ends: ProbeFailed; restarts it after several in a row
    probing.right,  # ends: Serving
)


def decide(seen: Observed) -> Decision:
    """Evaluate the chain. Pure."""
    return chains.evaluate(CHAIN, seen)
