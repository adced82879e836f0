"""What happens while a Trial is open, and after it has ended."""

from __future__ import annotations

from pelagos.api import kinds, reasons, trial
from pelagos.api.reasons import Reason
from pelagos.api.trial import Phase, TrialStatus
from pelagos.decisions import durations
from pelagos.decisions.chains import Ended
from pelagos.decisions.effects import DeleteResource, Effect, RemoveOwned, RevokeToken
from pelagos.decisions.moments import timestamp
from pelagos.decisions.trial import opening
from pelagos.decisions.trial.conditions import ACCEPTED, EXPIRED, STARTING_POLL, WATCH
from pelagos.decisions.trial.observed import Observed
from pelagos.decisions.verdicts import READY, ConditionState, Verdict, obstacle
from pelagos.ports.cluster import Key


def over(seen: Observed) -> Ended | None:
    """Ends the chain if the Trial has ended, and removes first the token, then the server and, after trialsKeep, the Trial."""
    if not seen.is_over:
        return None
    key, status = Key(kinds.TRIAL.kind, seen.namespace, seen.name), TrialStatus()
    effects: tuple[Effect, ...] = ()
    if seen.told.token_secret_ref is not None:
        effects += (RevokeToken(key, seen.uid, seen.told.token_secret_ref.name),)
        status = TrialStatus(token_secret_ref=None)
    child = seen.child
    if child is not None and child.is_own and not child.is_leaving:
        effects += (RemoveOwned(key, seen.uid, kinds.MODEL_SERVICE, child.name),)
    left = durations.seconds(seen.tenant.trials_keep) - seen.over_for.total_seconds()
    if not effects and left <= 0:
        why = f"it had been over for {seen.tenant.trials_keep} (trialsKeep)"
        effects = (DeleteResource(key, seen.uid, why),)
    pause = STARTING_POLL if effects else max(left, 0.0)
    verdicts, ready = _as_it_ended(seen)
    return Ended(verdicts, effects, status, pause, ready)


def altered(seen: Observed) -> Ended | None:
    """Stops a Trial whose spec was changed after the decision, which only API servers without CEL admit.

    A decision about one spec must not hold for another.
    """
    if not seen.is_decided or seen.told.spec_digest in {None, seen.spec_digest}:
        return None
    message = "spec of a Trial is immutable, and this one was changed after it was decided on. Create another Trial"
    return _ended(seen, "Stopped", reasons.SPEC_IMMUTABLE, message)


def expired(seen: Observed) -> Ended | None:
    """Ends an open Trial whose time is over, by a clock that cannot be set.

    Status reports it first, and the gateway acts on that. The Trial's objects are removed afterwards.
    """
    if seen.left is None or seen.left.total_seconds() > 0:
        return None
    return _ended(seen, "Expired", reasons.EXPIRED, f"its time ended at {seen.told.expires_at}")


def service_gone(seen: Observed) -> Ended | None:
    """Stops the Trial if its ModelService is being or was deleted. Another one with its name later is not the same."""
    service = seen.service
    if service is not None and not service.is_leaving and service.is_own == seen.spec.is_dedicated:
        return None
    return _ended(
        seen, "Stopped", reasons.SERVICE_REMOVED, f"ModelService {_name(seen)} no longer exists. Try another model"
    )


def service_not_ready(seen: Observed) -> Ended | None:
    """Reports that the ModelService is not Ready. The time keeps running, since the length of an outage is not known."""
    service = seen.service
    if service is None or service.is_ready:
        return None
    message = f"open until {seen.told.expires_at}, and ModelService {service.name} is not Ready now: {service.message}"
    return Ended(
        (Verdict(READY, ConditionState.FAILING, reasons.SERVICE_NOT_READY, message),), recheck_after=_pause(seen)
    )


def still_open(seen: Observed) -> Ended:
    """Ends the chain: the Trial is open, until its time is over."""
    assert seen.service is not None
    status = TrialStatus(onnx_sha256=seen.service.onnx_sha256)
    secret = seen.told.token_secret_ref
    ready = opening.is_open(str(seen.told.expires_at), secret.name if secret is not None else None)
    return Ended((), (), status, _pause(seen), ready)


def _pause(seen: Observed) -> float:
    assert seen.left is not None
    return min(seen.left.total_seconds(), WATCH)


def _ended(seen: Observed, phase: Phase, reason: Reason, message: str) -> Ended:
    status = TrialStatus(phase=phase, url=None, endpoints=None, token_sha256=None, ended_at=timestamp(seen.now))
    verdicts, ready = _ending(reason, message)
    # Another pass at once: its objects are removed once its end has been published.
    return Ended(verdicts, (), status, 0, ready)


def _ending(reason: Reason, message: str) -> tuple[tuple[Verdict, ...], Verdict | None]:
    if reason == reasons.EXPIRED:
        verdict = Verdict(EXPIRED, ConditionState.DONE, reason, message)
        return (verdict,), Verdict(READY, ConditionState.NOTED, reason, message)
    return (obstacle(READY, reason, message),), None


def _as_it_ended(seen: Observed) -> tuple[tuple[Verdict, ...], Verdict | None]:
    """The verdicts about its end, from status, as they were."""
    said = {condition.type: condition for condition in seen.told.conditions}
    if seen.told.phase == "Refused":
        found = said[ACCEPTED]
        return (obstacle(ACCEPTED, reasons.named(found.reason), found.message),), None
    accepted = Verdict(ACCEPTED, ConditionState.DONE, reasons.ADMITTED, said[ACCEPTED].message)
    verdicts, ready = _ending(reasons.named(said[READY].reason), said[READY].message)
    return (accepted, *verdicts), ready


def _name(seen: Observed) -> str:
    return trial.service_name(seen.name) if seen.spec.is_dedicated else seen.model
