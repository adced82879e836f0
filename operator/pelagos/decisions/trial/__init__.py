"""Decides what to do next for a Trial. The chain below is the specification; each check is in the module that its name says."""

from __future__ import annotations

from pelagos.decisions import chains
from pelagos.decisions.trial import admission, course, opening
from pelagos.decisions.trial.conditions import ACCEPTED, EXPIRED
from pelagos.decisions.trial.observed import Observed
from pelagos.decisions.verdicts import Decision

CONDITIONS = (ACCEPTED, EXPIRED)

CHAIN: tuple[chains.Check[Observed], ...] = (
    # Is there anything left to decide?
    course.over,  # ends: as it ended; removes what was made for it
    course.altered,  # ends: SpecImmutable
    # Does it get a place? Decided once; each refusal is final.
    admission.spec_breaks_a_rule,  # ends: InvalidSpec
    admission.not_offered,  # ends: TrialsNotOffered
    admission.no_gateway,  # ends: GatewayNotSetUp
    admission.too_long,  # ends: DurationNotAllowed
    admission.not_entitled,  # ends: NotEntitled
    admission.token_taken,  # ends: TokenTaken
    admission.model_coming,  # ends: Pending, for half a minute at most; it has no place until then
    admission.model_not_ready,  # ends: ModelNotReady
    admission.not_behind_gateway,  # ends: GatewayNotSetUp
    admission.name_taken,  # ends: ModelNotReady
    admission.user_limit,  # ends: UserLimit
    admission.capacity_exhausted,  # ends: CapacityExhausted
    admission.admitted,  # Accepted: Admitted; ends: Starting, if something has to be created for it next
    # Does the service that it opens answer?
    opening.server_missing,  # ends: Starting; creates a server of its own
    opening.server_impossible,  # ends: ModelNotReady, CapacityExhausted; its place is free again
    opening.server_starting,  # ends: Starting
    opening.opened,  # ends: Open; issues the token, and the time begins
    # Is there time left?
    course.expired,  # ends: Expired
    course.service_gone,  # ends: ServiceRemoved
    course.service_not_ready,  # ends: ServiceNotReady
    course.still_open,  # ends: Open
)


def decide(seen: Observed) -> Decision:
    """Evaluate the chain. Pure."""
    return chains.evaluate(CHAIN, seen)
