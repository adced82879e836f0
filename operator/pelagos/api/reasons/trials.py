"""Reasons of Trials."""

from __future__ import annotations

import functools

from pelagos.api.reasons.tables import tabled

_trial = functools.partial(tabled, "Trial")

ADMITTED = _trial(
    "Admitted", "done", "The Trial is within the limits of the namespace, and keeps its place there until it is over."
)
OPEN = _trial("Open", "done", "The token opens the model until status.expiresAt.")
EXPIRED = _trial(
    "Expired",
    "for information",
    "The time is over, and the token no longer opens anything. Another Trial may be created.",
)
TRIALS_NOT_OFFERED = _trial(
    "TrialsNotOffered",
    "action required",
    "The platform does not let anyone try models in the namespace (trialsEnabled).",
    "Ask the people who run the platform, or try the model elsewhere.",
)
GATEWAY_NOT_SET_UP = _trial(
    "GatewayNotSetUp",
    "action required",
    "Trials go through the gateway, and the operator has no gateway configured (PELAGOS_GATEWAY_HTTP, "
    "PELAGOS_GATEWAY_GRPC), or the gateway cannot reach the servers of this model.",
    "Have the gateway set up as docs/trials.md says, then create another Trial.",
)
DURATION_NOT_ALLOWED = _trial(
    "DurationNotAllowed",
    "action required",
    "spec.duration is longer than the platform allows in the namespace (trialsLongest).",
    "Create another Trial that is no longer than the message says.",
)
NOT_ENTITLED = _trial(
    "NotEntitled",
    "action required",
    "Only users with certain entitlements may try models in the namespace (trialsEntitlements), and none of these is "
    "attested.",
    "Sign in at the hub with an account that has one of the entitlements in the message, and try the model there.",
)
MODEL_NOT_READY = _trial(
    "ModelNotReady",
    "action required",
    "The ModelService does not exist or does not answer correctly, or no server could be started for the Trial.",
    "Follow the message; when the model is served, create another Trial.",
)
TOKEN_TAKEN = _trial(
    "TokenTaken",
    "action required",
    "spec.tokenSha256 belongs to a token that opens an earlier Trial: a token is for one Trial only.",
    "Create another Trial with a new token, or without spec.tokenSha256, so that the operator creates one.",
)
USER_LIMIT = _trial(
    "UserLimit",
    "action required",
    "The user already has as many trials as one user may have at once in the namespace (trialsPerUser).",
    "Stop one of those in the message, or wait until one is over, then create another Trial.",
)
CAPACITY_EXHAUSTED = _trial(
    "CapacityExhausted",
    "action required",
    "The namespace already has as many trials as it may have at once (trialsAtOnce), or the cluster has no room for the "
    "server.",
    "Create another Trial when the message says that one is over, or have the limit raised.",
)
SERVICE_REMOVED = _trial(
    "ServiceRemoved",
    "action required",
    "The ModelService that was tried was deleted, so the Trial is over before its time.",
    "Create another Trial of a model that is served.",
)
SERVICE_NOT_READY = _trial(
    "ServiceNotReady",
    "recovering",
    "The Trial is open, but the model behind it does not answer correctly at the moment. The time continues to run.",
)
