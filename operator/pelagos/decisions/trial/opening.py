"""Turns a place into an open endpoint: creates the Trial's own server, if it gets one, and issues the token."""

from __future__ import annotations

import hashlib
from typing import Any

from pelagos.api import kinds, reasons, trial
from pelagos.api.trial import TokenSecretRef, TrialEndpoints, TrialStatus, TriedService
from pelagos.decisions import durations
from pelagos.decisions.chains import Ended
from pelagos.decisions.effects import CreateOwned, IssueToken
from pelagos.decisions.moments import timestamp
from pelagos.decisions.trial import admission
from pelagos.decisions.trial.conditions import LONGEST_START, STARTING_POLL
from pelagos.decisions.trial.observed import Observed, Service
from pelagos.decisions.verdicts import READY, ConditionState, Verdict
from pelagos.ports.cluster import TOKEN_KEY, Key


def server_missing(seen: Observed) -> Ended | None:
    """Creates the Trial's own server, with the settings of the named ModelService, or from a registered model with defaults."""
    if seen.left is not None or not seen.spec.is_dedicated or seen.child is not None:
        return None
    if seen.spec.model_service_ref is not None and seen.named is None:
        message = (
            f"ModelService {seen.model}, after which its own server is modelled, no longer exists. Name one that exists"
        )
        return admission.refused(seen, reasons.MODEL_NOT_READY, message)
    key = Key(kinds.TRIAL.kind, seen.namespace, seen.name)
    effect = CreateOwned(key, seen.uid, kinds.MODEL_SERVICE, trial.service_name(seen.name), _server(seen))
    return Ended((_starting("its server is being created"),), (effect,), recheck_after=STARTING_POLL)


def server_impossible(seen: Observed) -> Ended | None:
    """Refuses if the Trial's own server cannot be started, or did not start within LONGEST_START."""
    child = seen.child
    if seen.left is not None or not seen.spec.is_dedicated or child is None or child.is_ready:
        return None
    is_late = seen.starting_for >= LONGEST_START
    if child.is_own and not child.is_leaving and not child.is_stalled and not is_late:
        return None
    minutes = round(LONGEST_START.total_seconds() / 60)
    late = f"its server did not answer correctly within {minutes} minutes: {child.message}"
    why = late if is_late else f"its server cannot be started: {child.message}"
    reason = reasons.CAPACITY_EXHAUSTED if child.lacks_room else reasons.MODEL_NOT_READY
    return admission.refused(seen, reason, f"{why}. Correct that, or have it corrected, then create another Trial")


def server_starting(seen: Observed) -> Ended | None:
    """Ends the chain until the Trial's own server is Ready. The Trial's time begins only then."""
    if seen.left is not None or not seen.spec.is_dedicated or seen.child is None or seen.child.is_ready:
        return None
    return Ended((_starting(f"its server is being started: {seen.child.message}"),), recheck_after=STARTING_POLL)


def opened(seen: Observed) -> Ended | None:
    """Opens the Trial: issues the token, and publishes the endpoints and when its time is over."""
    if seen.left is not None:
        return None
    service = seen.service
    if service is None or service.is_leaving:
        message = f"ModelService {seen.model} no longer exists. Name one that is served"
        return admission.refused(seen, reasons.MODEL_NOT_READY, message)
    if not service.is_behind_gateway:
        return admission.refused(seen, reasons.GATEWAY_NOT_SET_UP, admission.out_of_reach(service))
    until = seen.now.replace(microsecond=0) + durations.parse(seen.duration)
    digest, secret = seen.spec.token_sha256, None
    effects: tuple[IssueToken, ...] = ()
    if digest is None:
        digest = hashlib.sha256(seen.new_token.encode()).hexdigest()
        secret = trial.token_secret(seen.name, digest)
        effects = (IssueToken(Key(kinds.TRIAL.kind, seen.namespace, seen.name), seen.uid, secret, seen.new_token),)
    http = seen.gateway.http_of(seen.namespace, service.name)
    grpc = seen.gateway.grpc_of(seen.namespace) if service.has_grpc else None
    status = TrialStatus(
        phase="Open",
        url=http or (f"grpc://{grpc}" if grpc else None),
        endpoints=TrialEndpoints(http=http, grpc=grpc),
        token_sha256=digest,
        token_secret_ref=TokenSecretRef(name=secret, key=TOKEN_KEY) if secret else None,
        expires_at=timestamp(until),
        service=TriedService(name=service.name, namespace=seen.namespace),
        onnx_sha256=service.onnx_sha256,
    )
    # Another pass at once, because a clock that cannot be set measures the time only from when a pass first reads expiresAt.
    return Ended((), effects, status, recheck_after=0, ready=is_open(timestamp(until), secret))


def is_open(until: str, secret: str | None) -> Verdict:
    """The verdict on Ready of an open Trial; ``secret`` is the Secret with the token, if there is one."""
    where = f"; the token is in the Secret {secret}" if secret else ""
    return Verdict(READY, ConditionState.DONE, reasons.OPEN, f"open until {until}{where}")


def _starting(message: str) -> Verdict:
    return Verdict(READY, ConditionState.PROGRESSING, reasons.STARTING, message)


def _server(seen: Observed) -> dict[str, Any]:
    if seen.spec.registry is not None:
        return {"model": {"registry": seen.spec.registry.written()}, "deletionPolicy": "Delete"}
    assert seen.named is not None
    return _alike(seen.named)


def _alike(service: Service) -> dict[str, Any]:
    """The spec of a ModelService like ``service``, but with one replica, in no catalogue, and with deletionPolicy Delete."""
    kept = {"model", "runtime", "resources", "thresholds", "maxDetections"}
    return {name: part for name, part in service.spec.items() if name in kept} | {"deletionPolicy": "Delete"}
