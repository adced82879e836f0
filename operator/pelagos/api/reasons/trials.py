"""Reasons of Trials."""

from __future__ import annotations

import functools

from pelagos.api.reasons.tables import tabled

_trial = functools.partial(tabled, "Trial")

ADMITTED = _trial(
    "Admitted", "done", "The Trial is within what the namespace allows, and has its place there until it is over."
)
OPEN = _trial("Open", "done", "The token opens the model until status.expiresAt.")
EXPIRED = _trial(
    "Expired", "for information", "The time is over, and the token opens nothing any more. Another Trial may be made."
)
TRIALS_NOT_OFFERED = _trial(
    "TrialsNotOffered",
    "action required",
    "The platform lets nobody try models in the namespace (trialsEnabled).",
    "Ask whoever runs the platform, or try the model elsewhere.",
)
GATEWAY_NOT_SET_UP = _trial(
    "GatewayNotSetUp",
    "action required",
    "Trials go through the gateway, and the operator is not told of any (PELAGOS_GATEWAY_HTTP, PELAGOS_GATEWAY_GRPC).",
    "Have the gateway set up as docs/trials.md says, then make another Trial.",
)
DURATION_NOT_ALLOWED = _trial(
    "DurationNotAllowed",
    "action required",
    "spec.duration is longer than the platform allows in the namespace (trialsLongest).",
    "Make another Trial that is no longer than the message says.",
)
NOT_ENTITLED = _trial(
    "NotEntitled",
    "action required",
    "The namespace lets only users try models who have certain entitlements (trialsEntitlements), and none of these is attested.",
    "Sign in at the hub with an account that has one of the entitlements in the message, and try the model there.",
)
MODEL_NOT_READY = _trial(
    "ModelNotReady",
    "action required",
    "There is no such ModelService, it does not answer right, or no server could be started for the Trial.",
    "Follow the message; when the model is served, make another Trial.",
)
TOKEN_TAKEN = _trial(
    "TokenTaken",
    "action required",
    "spec.tokenSha256 is of a token that opens an earlier Trial: a token is of one Trial only.",
    "Make another Trial with a new token, or without spec.tokenSha256, so that the operator makes one.",
)
USER_LIMIT = _trial(
    "UserLimit",
    "action required",
    "The user has as many trials as one user may have at once in the namespace (trialsPerUser).",
    "Stop one of those in the message, or wait until one is over, then make another Trial.",
)
CAPACITY_EXHAUSTED = _trial(
    "CapacityExhausted",
    "action required",
    "The namespace has as many trials as it may have at once (trialsAtOnce), or the cluster has no room for the server.",
    "Make another Trial when the message says that one is over, or have the limit raised.",
)
SERVICE_REMOVED = _trial(
    "ServiceRemoved",
    "action required",
    "The ModelService that was tried is gone, so that the Trial is over before its time.",
    "Make another Trial of a model that is served.",
)
SERVICE_NOT_READY = _trial(
    "ServiceNotReady",
    "recovering",
    "The Trial is open, and the model behind it does not answer right at the moment. The time goes on.",
)
