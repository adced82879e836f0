"""Whether a Trial gets a place. Decided once, with one Trial of a namespace at a time; a refusal is final."""

from __future__ import annotations

from pelagos.api import reasons
from pelagos.api.reasons import Reason
from pelagos.api.trial import TrialStatus
from pelagos.decisions import rules
from pelagos.decisions.chains import Ended, Passed
from pelagos.decisions.moments import timestamp
from pelagos.decisions.trial.conditions import ACCEPTED, PATIENCE
from pelagos.decisions.trial.observed import Observed, Other, Service, is_longer
from pelagos.decisions.verdicts import ConditionState, Verdict


def refused(seen: Observed, reason: Reason, message: str) -> Ended:
    """Refuses the Trial for good. The resource stays for trialsKeep, so that people can read why."""
    verdict = Verdict(ACCEPTED, ConditionState.REFUSED, reason, message)
    status = TrialStatus(
        phase="Refused",
        model=seen.model,
        attested=seen.attested,
        ended_at=timestamp(seen.now),
        spec_digest=seen.spec_digest,
    )
    return Ended((verdict,), status=status, recheck_after=0)


def spec_breaks_a_rule(seen: Observed) -> Ended | None:
    """Refuses a spec that breaks a rule across fields, which only API servers without CEL admit."""
    broken = None if seen.is_decided else rules.violation(seen.spec)
    if broken is None:
        return None
    verdict = Verdict(ACCEPTED, ConditionState.REFUSED, reasons.INVALID_SPEC, broken)
    status = TrialStatus(phase="Refused", ended_at=timestamp(seen.now), spec_digest=seen.spec_digest)
    return Ended((verdict,), status=status, recheck_after=0)


def not_offered(seen: Observed) -> Ended | None:
    """Refuses if the platform does not offer trials in the namespace."""
    if seen.is_decided or seen.tenant.trials_enabled:
        return None
    message = (
        f"models of namespace {seen.namespace} cannot be tried (trialsEnabled is false, which the platform sets). Ask the "
        "platform's administrator"
    )
    return refused(seen, reasons.TRIALS_NOT_OFFERED, message)


def no_gateway(seen: Observed) -> Ended | None:
    """Refuses if there is no gateway, since only the gateway checks tokens."""
    if seen.is_decided or seen.gateway.is_there:
        return None
    message = (
        "trials go through the gateway, and the operator has none configured. The platform's administrator sets one up "
        "(docs/trials.md), and sets PELAGOS_GATEWAY_HTTP and PELAGOS_GATEWAY_GRPC to the addresses where people reach it"
    )
    return refused(seen, reasons.GATEWAY_NOT_SET_UP, message)


def too_long(seen: Observed) -> Ended | None:
    """Refuses a longer duration than the platform allows."""
    longest = seen.tenant.trials_longest
    if seen.is_decided or not is_longer(seen.duration, longest):
        return None
    message = (
        f"spec.duration is {seen.duration}, and the namespace allows at most {longest} (trialsLongest, which the platform sets). "
        "Create another Trial with a shorter spec.duration"
    )
    return refused(seen, reasons.DURATION_NOT_ALLOWED, message)


def not_entitled(seen: Observed) -> Ended | None:
    """Refuses a user without a required entitlement. Only the hub attests entitlements, so Trials made elsewhere have none."""
    wanted = seen.tenant.trials_entitlements
    if seen.is_decided or not wanted or (seen.attested and set(wanted) & set(seen.spec.entitlements or ())):
        return None
    who = (
        "the hub attests none of these for the user. Sign in with an account that has one"
        if seen.attested
        else "the hub, which attests them, did not make this Trial (or its signature does not hold). Try the model there"
    )
    message = f"to try models of this namespace, users need one of the entitlements {', '.join(wanted)}, and {who}"
    return refused(seen, reasons.NOT_ENTITLED, message)


def token_taken(seen: Observed) -> Ended | None:
    """Refuses a token that another Trial had first.

    Anyone who can read a Trial knows its token's digest, and could otherwise make that token open their own service.
    """
    if seen.is_decided or not seen.token_is_of:
        return None
    message = (
        f"spec.tokenSha256 belongs to the token of Trial {seen.token_is_of}, and a token opens one Trial only. Create another "
        "Trial with a new token, or without spec.tokenSha256: the operator then creates one"
    )
    return refused(seen, reasons.TOKEN_TAKEN, message)


def model_coming(seen: Observed) -> Ended | None:
    """Waits, up to PATIENCE, for a ModelService that is not Ready yet.

    After a restart of the operator, all of them are probed again, and nobody must be refused for good because of that.
    """
    service = seen.named
    if seen.is_decided or seen.spec.is_dedicated or service is None or service.is_leaving or not service.is_coming:
        return None
    if seen.waited >= PATIENCE:
        return None
    message = f"ModelService {service.name} is not Ready yet: {service.message}"
    waiting = Verdict(ACCEPTED, ConditionState.PROGRESSING, reasons.PENDING, message)
    return Ended((waiting,), status=TrialStatus(phase="Pending", model=seen.model), recheck_after=1)


def model_not_ready(seen: Observed) -> Ended | None:
    """Refuses if the named ModelService is missing or, if it is to be shared, not Ready."""
    reference = seen.spec.model_service_ref
    if seen.is_decided or reference is None:
        return None
    lead = "spec.modelServiceRef.name:"
    if seen.named is None or seen.named.is_leaving:
        message = (
            f'{lead} there is no ModelService "{reference.name}" in namespace {seen.namespace}. Name one that is served'
        )
        return refused(seen, reasons.MODEL_NOT_READY, message)
    if seen.spec.is_dedicated or seen.named.is_ready:
        return None
    message = (
        f"{lead} ModelService {reference.name} is not Ready: {seen.named.message}. Create another Trial when it is, or ask for "
        "a dedicated server (spec.isolation: Dedicated)"
    )
    return refused(seen, reasons.MODEL_NOT_READY, message)


def not_behind_gateway(seen: Observed) -> Ended | None:
    """Refuses a model whose servers the gateway cannot reach: its token would open nothing."""
    if seen.is_decided or seen.named is None or seen.spec.is_dedicated or seen.named.is_behind_gateway:
        return None
    return refused(seen, reasons.GATEWAY_NOT_SET_UP, out_of_reach(seen.named))


def out_of_reach(service: Service) -> str:
    """The message about a ModelService whose servers the gateway cannot reach."""
    return (
        f"the servers of ModelService {service.name} answer over HTTP alone, and only with a login that the gateway was not "
        "given. Whoever runs the platform sets PELAGOS_GATEWAY_HTTP, and to serve by OSCAR an https address (docs/oscar.md)"
    )


def name_taken(seen: Observed) -> Ended | None:
    """Refuses if the name for the Trial's own server belongs to somebody else's ModelService."""
    if seen.is_decided or not seen.spec.is_dedicated or seen.child is None or seen.child.is_own:
        return None
    message = (
        f"the server for this Trial would be the ModelService {seen.child.name}, and one that was not created for it exists. "
        "Create another Trial under another name"
    )
    return refused(seen, reasons.MODEL_NOT_READY, message)


def user_limit(seen: Observed) -> Ended | None:
    """Refuses a user who has too many trials. Counts only Trials that the hub attests: anyone can write any name to spec.user."""
    if seen.is_decided or not seen.attested:
        return None
    mine = [other for other in seen.others if other.user is not None and other.user == (seen.spec.user or "")]
    most = seen.tenant.trials_per_user
    if len(mine) < most:
        return None
    names = ", ".join(other.name for other in mine[:10])
    todo = f"Stop one of {names}, or wait: {_next(mine)}" if mine else "Ask the platform's administrator"
    message = f"{len(mine)} of {most} trials of this user are in use (trialsPerUser). {todo}"
    return refused(seen, reasons.USER_LIMIT, message)


def capacity_exhausted(seen: Observed) -> Ended | None:
    """Refuses if all places of the namespace are taken, no matter by whom."""
    most = seen.tenant.trials_at_once
    if seen.is_decided or len(seen.others) < most:
        return None
    todo = f"Try again later: {_next(seen.others)}" if seen.others else "Ask the platform's administrator"
    message = (
        f"no room: {len(seen.others)} of {most} trials of namespace {seen.namespace} are in use (trialsAtOnce). {todo}"
    )
    return refused(seen, reasons.CAPACITY_EXHAUSTED, message)


def admitted(seen: Observed) -> Passed | None:
    """Admits the Trial. It has its place once this is in status, so anything that it needs is created in the next pass."""
    if seen.told.accepted_at is not None:
        return Passed((_ADMITTED,))
    status = TrialStatus(
        phase="Starting",
        model=seen.model,
        attested=seen.attested,
        duration=seen.duration,
        accepted_at=timestamp(seen.now),
        spec_digest=seen.spec_digest,
    )
    if not (seen.spec.is_dedicated or seen.own_token):
        return Passed((_ADMITTED,), status=status)
    begun = Verdict("Ready", ConditionState.PROGRESSING, reasons.STARTING, "accepted; what it needs is being created")
    return Ended((_ADMITTED, begun), status=status, recheck_after=0)


_ADMITTED = Verdict(ACCEPTED, ConditionState.DONE, reasons.ADMITTED, "has a place until it is over")


def _next(others: list[Other] | tuple[Other, ...]) -> str:
    """A message that says when the first of these Trials is over."""
    open_ones = [other.left for other in others if other.left is not None]
    if not open_ones:
        return "they are being started"
    return f"the next one is over in {max(round(min(open_ones).total_seconds()), 1)} s"
