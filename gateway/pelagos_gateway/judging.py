"""Who may call what: one decision per request, before its body is read. Independent of the HTTP server and of Envoy.

Accepted are the token of a trial, a token of the issuer, and no token where the gateway is open to callers on loopback. A refusal
says what the caller can do. Only callers with permission learn whether a service exists.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Protocol

from pelagos_contract import entitlements
from pelagos_gateway.callers import Callers, Exceeded
from pelagos_gateway.table import AUTHENTICATED, ENTITLED, NOBODY, Table
from pelagos_gateway.trials import PREFIX, Trials

_NAME = r"[a-z0-9](?:[-a-z0-9.]{0,251}[a-z0-9])?"
_PATH = re.compile(rf"/({_NAME}/{_NAME})/v2(?:[/?].*)?", re.DOTALL)
_SERVICE = re.compile(rf"{_NAME}/{_NAME}")
_BEARER = re.compile(r"(?i:bearer) +([!-~]+) *")
_PAUSES = (0.005, 0.02, 0.1)
TOO_MUCH = "Too much"
"""First words of a refusal after which the caller may try again later; ``streaming`` recognizes it by them."""
LONGEST_TOKEN = 12_288
"""Longest token in characters; Envoy accepts 16 KiB of headers in all."""
_GRPC = {401: 16, 403: 7, 404: 5, 405: 12, 429: 8, 503: 14}
"""gRPC codes by HTTP status: UNAUTHENTICATED, PERMISSION_DENIED, NOT_FOUND, UNIMPLEMENTED, RESOURCE_EXHAUSTED, UNAVAILABLE."""
_WHERE = "Name a service: paths begin with /<namespace>/<service>/v2"
_WHERE_GRPC = "Name a service by the metadata pelagos-service: <namespace>/<service>"
_SIGN_IN = "Send 'Authorization: Bearer <token>', with the token of a trial or of your login"


class UnknownCallerError(Exception):
    """The token is not valid. The message is for the caller."""


class IssuerAwayError(Exception):
    """The token cannot be checked now, because the issuer does not answer usefully. The message is for the caller."""


class Identity(Protocol):
    """A caller whom the issuer knows."""

    @property
    def key(self) -> str:
        """The key under which the caller's requests are counted."""

    async def entitlements(self) -> tuple[str, ...]:
        """The caller's entitlements. Raises IssuerAwayError."""


class Identities(Protocol):
    """Checks tokens of the issuer."""

    async def identify(self, token: str) -> Identity:
        """The caller to whom the token belongs. Raises UnknownCallerError or IssuerAwayError."""


@dataclass(frozen=True)
class Asked:
    """One request. ``path`` is as Envoy will route it, ``call`` is its id; ``service`` and ``authorization`` are client headers.

    ``is_upload``: its body takes one of Envoy's places for long bodies.
    """

    is_grpc: bool
    path: str
    call: str
    service: str | None = None
    authorization: str | None = None
    is_upload: bool = False


@dataclass(frozen=True)
class Allowed:
    """The request passes. ``access`` names the right by which it does: open, trial or login."""

    service: str
    access: str


@dataclass(frozen=True)
class Refused:
    """The request does not pass. ``status`` is for HTTP clients, ``grpc`` for gRPC clients."""

    status: int
    message: str
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def grpc(self) -> int:
        """The gRPC status code for ``status``."""
        return _GRPC[self.status]


@dataclass(frozen=True)
class _Caller:
    key: str
    """The key under which requests are counted; empty for a caller without limits."""
    access: str
    service: str = ""
    """The only service that a trial opens; empty otherwise."""
    identity: Identity | None = None


class Judge:
    """Decides about requests by the current ``table`` and trials. ``is_known``: the table has been read from the API server."""

    def __init__(
        self,
        callers: Callers,
        trials: Trials,
        clock: Callable[[], float],
        identities: Identities | None,
        *,
        is_open: bool,
    ) -> None:
        self.table = Table()
        self.is_known = False
        self._callers = callers
        self._trials = trials
        self._clock = clock
        self._identities = identities
        self._is_open = is_open

    async def judge(self, asked: Asked) -> Allowed | Refused:
        """Decide whether a request passes, and to which service."""
        if not self.is_known:
            return _away("the gateway does not know yet what is served")
        caller = await self._caller(asked.authorization)
        if isinstance(caller, Refused):
            return caller
        service = _service(asked, caller)
        if isinstance(service, Refused):
            return service
        # Permission before existence, so that callers without permission cannot probe which services exist.
        refused = await self._permitted(service, caller)
        if refused is not None:
            return refused
        served = self.table.services.get(service)
        if served is None:
            return _not_served(service, is_closed=service in self.table.closed)
        if asked.is_grpc and not served.grpc:
            return Refused(405, f"{service} answers only over HTTP: send requests to /{service}/v2 of the gateway")
        if not caller.key:
            return Allowed(service, caller.access)
        exceeded = await self._begun(caller.key, asked)
        if exceeded is not None:
            return Refused(429, f"{TOO_MUCH}: {exceeded.message}", {"Retry-After": str(exceeded.retry_after)})
        return Allowed(service, caller.access)

    async def _begun(self, key: str, asked: Asked) -> Exceeded | None:
        exceeded = self._callers.begin(key, asked.call, self._clock(), is_upload=asked.is_upload)
        for pause in _PAUSES:
            if exceeded is None or exceeded.retry_after > 1:
                break
            # A caller that has just received an answer may call again before Envoy has reported the end of that call.
            await asyncio.sleep(pause)
            exceeded = self._callers.begin(key, asked.call, self._clock(), is_upload=asked.is_upload)
        return exceeded

    async def _caller(self, authorization: str | None) -> _Caller | Refused:
        if authorization is None:
            return _Caller("", "open") if self._is_open else _unknown(f"The request has no credentials. {_SIGN_IN}")
        found = _BEARER.fullmatch(authorization)
        if found is None or len(found[1]) > LONGEST_TOKEN:
            return _unknown(f"The header Authorization cannot be used. {_SIGN_IN}", "invalid_request")
        token = found[1]
        if token.startswith(PREFIX):
            trial = self._trials.opened(token, self._clock())
            if trial is None:
                again = "start another one, or send the token exactly as you received it"
                return _unknown(f"This trial has ended, or its token is a different one: {again}", "invalid_token")
            return _Caller(f"trial {trial.digest}", "trial", trial.service)
        if self._identities is None:
            return _unknown(f"Only tokens of trials are accepted here, which begin with {PREFIX}", "invalid_token")
        try:
            identity = await self._identities.identify(token)
        except UnknownCallerError as error:
            return _unknown(f"{error}", "invalid_token")
        except IssuerAwayError as error:
            return _away(f"{error}")
        return _Caller(identity.key, "login", identity=identity)

    async def _permitted(self, service: str, caller: _Caller) -> Refused | None:
        """The refusal by the namespace's policy, if any. The policy does not apply to trials."""
        if caller.identity is None:
            return None
        namespace, policy = service.partition("/")[0], self.table.policy(service)
        if policy.access == AUTHENTICATED:
            return None
        if policy.access == ENTITLED:
            try:
                told = await caller.identity.entitlements()
            except IssuerAwayError as error:
                return _away(f"{error}")
            if entitlements.satisfied(policy.entitlements, told):
                return None
            asked = ", ".join(policy.entitlements) or "one that the platform has yet to name"
            return Refused(
                403,
                f"Models of {namespace} are only for callers with the entitlement ({asked}), which you lack: ask for it",
            )
        assert policy.access == NOBODY
        ask = "start a trial, or ask the platform's administrator to set gatewayAccess of this namespace"
        return Refused(403, f"Models of {namespace} are not open to callers with a login: {ask}")


def _service(asked: Asked, caller: _Caller) -> str | Refused:
    if asked.is_grpc:
        named = asked.service
        if named is not None and not _SERVICE.fullmatch(named):
            return Refused(404, _WHERE_GRPC)
        if named is None and caller.service:
            return caller.service
    else:
        found = _PATH.fullmatch(asked.path)
        named = found[1] if found else None
    if named is None:
        return Refused(404, _WHERE_GRPC if asked.is_grpc else _WHERE)
    if caller.access == "trial" and named != caller.service:
        return Refused(403, f"This trial is for {caller.service}, and opens nothing else: not {named}")
    return named


def _not_served(service: str, *, is_closed: bool) -> Refused:
    if is_closed:
        why = "its server asks for a login that the gateway was not given"
        return Refused(
            404, f"{service} cannot be reached from here: {why}. The platform's administrator can change that"
        )
    return Refused(404, f"{service} is not served: check its name, and `kubectl get modelservices`")


def _unknown(message: str, error: str = "") -> Refused:
    told = f'Bearer realm="pelagos"{f", error={chr(34)}{error}{chr(34)}" if error else ""}'
    return Refused(HTTPStatus.UNAUTHORIZED, message, {"WWW-Authenticate": told})


def _away(message: str) -> Refused:
    return Refused(HTTPStatus.SERVICE_UNAVAILABLE, f"Try again in a few seconds: {message}", {"Retry-After": "5"})
