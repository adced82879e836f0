"""Gathers all observations of a Trial, has Trials decided on one at a time, and cleans up after them."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import logging
from datetime import datetime, timedelta
from typing import Any
from weakref import WeakValueDictionary

from pelagos.api import kinds, reasons, trial
from pelagos.api.trial import ENDED, TrialSpec
from pelagos.decisions import digests, durations
from pelagos.decisions import trial as decisions
from pelagos.decisions.moments import parse
from pelagos.decisions.trial.observed import Observed, Other, Service
from pelagos.decisions.verdicts import Decision
from pelagos.ports.cluster import Key, Resource
from pelagos.ports.errors import UnboundError
from pelagos.reconcilers import owned, reporting
from pelagos.reconcilers.dependencies import Dependencies
from pelagos.reconcilers.recalled import Recalled
from pelagos_contract import trial_signature

logger = logging.getLogger("pelagos.reconcile")

_TOKEN = "trial-token"  # noqa: S105  the purpose of the seal that the token is derived from
_NO_ROOM = frozenset({reasons.WAITING_FOR_CLUSTER, reasons.GPU_LIMIT_EXCEEDED})
"""Reasons why a model server is not running although nothing is wrong with its model."""


class TrialReconciler:
    """Implements driver.Reconciler for Trials."""

    kind = kinds.TRIAL
    conditions = decisions.CONDITIONS

    def __init__(self) -> None:
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        """By namespace. Weak, so that a lock disappears when no pass holds it or waits for it."""

    def turn(self, resource: Resource) -> contextlib.AbstractAsyncContextManager[object]:
        """The lock of the namespace, or none for a Trial that is decided already.

        Undecided Trials of a namespace are processed one at a time, from counting those that are open until the decision is in
        status. Two that counted at the same time could both take the last place.
        """
        if Recalled(resource).is_decided_trial:
            return contextlib.nullcontext()
        lock = self._turns.get(resource.namespace)
        if lock is None:
            lock = self._turns[resource.namespace] = asyncio.Lock()
        return lock

    async def gather(self, resource: Resource, spec: TrialSpec, dependencies: Dependencies) -> Observed:
        """Count the other Trials while this one is undecided, and observe the ModelService that it opens."""
        told, others, fresh, first = Recalled(resource).trial, [], False, ""
        if not Recalled(resource).is_decided_trial:
            # From the API server and not from the cache, which may not have the decision of the pass just before, or one of the
            # operator's predecessor. It may even lack the decision about this Trial, if the reply to that write was lost.
            fresh = True
            for known in await dependencies.cluster.list(kinds.TRIAL, resource.namespace):
                if known.uid == resource.uid:
                    told = Recalled(known).trial
                    continue
                if (other := _other(known, dependencies)) is not None:
                    others.append(other)
                if _has_token_before(known, resource):
                    first = known.name
        named = spec.model_service_ref.name if spec.model_service_ref is not None else None
        child = trial.service_name(resource.name) if spec.is_dedicated else None
        return Observed(
            spec=spec,
            namespace=resource.namespace,
            name=resource.name,
            uid=resource.uid,
            spec_digest=digests.digest(dict(resource.spec)),
            attested=_attested(resource, dependencies),
            told=told,
            tenant=await dependencies.tenants.find(resource.namespace),
            gateway=dependencies.gateway,
            others=tuple(others),
            token_is_of=first,
            named=await _service(resource, named, dependencies, fresh=fresh),
            child=await _service(resource, child, dependencies, fresh=fresh),
            new_token=_token(resource.uid, dependencies)
            if spec.token_sha256 is None and told.expires_at is None
            else "",
            now=dependencies.clock.now(),
            left=_left(resource.uid, told.expires_at, told.duration, dependencies),
            waited=dependencies.clock.age((resource.uid, "made"), resource.created_at, once=True)
            if resource.created_at is not None
            else timedelta(),
            starting_for=_since(resource.uid, "accepted", told.accepted_at, dependencies),
            over_for=_since(resource.uid, "ended", told.ended_at, dependencies),
        )

    def decide(self, seen: Observed) -> Decision:
        """See decisions.trial."""
        return decisions.decide(seen)

    async def clean_up(self, resource: Resource, dependencies: Dependencies) -> None:
        """Revoke the token, then remove the server. The gateway has admitted nobody since the deletion began."""
        try:
            if resource.spec.get("tokenSha256") is None:
                digest = hashlib.sha256(_token(resource.uid, dependencies).encode()).hexdigest()
                await dependencies.cluster.revoke_token(resource, trial.token_secret(resource.name, digest))
            name = trial.service_name(resource.name)
            await owned.remove(resource, kinds.MODEL_SERVICE, name, dependencies)
        except UnboundError as error:
            # The namespace is being deleted, or is no longer a tenant's. The Trial owns both the Secret and the ModelService, so
            # the cluster removes them after it.
            logger.warning("left for the cluster to remove with Trial %s: %s", resource.name, error)


def _token(uid: str, dependencies: Dependencies) -> str:
    """The token of a Trial whose spec brings none. Derived from its uid, so that a restarted operator arrives at the same one."""
    seal = dependencies.authority.seal(_TOKEN, {"uid": uid}).rpartition(":")[2]
    return "pt_" + base64.urlsafe_b64encode(bytes.fromhex(seal)).decode().rstrip("=")


def _attested(resource: Resource, dependencies: Dependencies) -> bool:
    """Whether the hub made this Trial, and its spec is unchanged since."""
    signature = resource.annotations.get(trial_signature.ANNOTATION)
    key = dependencies.hub_key.read() if signature is not None else None
    if key is None or resource.created_at is None:
        return False
    return trial_signature.holds(
        key,
        signature,
        namespace=resource.namespace,
        name=resource.name,
        spec=resource.spec,
        created=resource.created_at,
    )


def _other(known: Resource, dependencies: Dependencies) -> Other | None:
    """What counts of another Trial; None when it takes no place: undecided, over, or being deleted and so closed to everyone."""
    status = known.status
    if known.deleting or not status.get("acceptedAt") or status.get("phase") in ENDED:
        return None
    left = _left(known.uid, status.get("expiresAt"), status.get("duration"), dependencies)
    if left is not None and left <= timedelta():
        return None  # It is over, and its own pass has yet to report that.
    user = str(known.spec.get("user") or "") if status.get("attested") is True else None
    return Other(known.name, user, left)


def _has_token_before(known: Resource, resource: Resource) -> bool:
    """Whether another Trial had the same token first, even if it is over by now. One that was refused never had it."""
    digest = resource.spec.get("tokenSha256")
    if digest is None or digest != (known.spec.get("tokenSha256") or known.status.get("tokenSha256")):
        return False
    if known.status.get("phase") == "Refused":
        return False
    return bool(known.status.get("acceptedAt")) or _came(known) < _came(resource)


def _came(found: Resource) -> tuple[bool, float, str]:
    """A sort key by creation time, then uid: the API server states times in whole seconds."""
    at = found.created_at
    return at is None, at.timestamp() if at is not None else 0.0, found.uid


def _left(uid: str, expires_at: str | None, duration: str | None, dependencies: Dependencies) -> timedelta | None:
    """The time until a Trial is over; None if it is not open. Never more than its duration, even if clocks are set back."""
    until = parse(expires_at)
    if until is None or duration is None:
        return None
    lasts = durations.parse(duration)
    return lasts - dependencies.clock.age((uid, "open"), until - lasts, once=True)


def _since(uid: str, what: str, moment: str | None, dependencies: Dependencies) -> timedelta:
    at: datetime | None = parse(moment)
    return dependencies.clock.age((uid, what), at, once=True) if at is not None else timedelta()


async def _service(resource: Resource, name: str | None, dependencies: Dependencies, *, fresh: bool) -> Service | None:
    """A ModelService in the Trial's namespace; None when there is none.

    With ``fresh``, as the API server has it now. Otherwise from the cache, and from the API server only if it is not there.
    """
    if name is None:
        return None
    found = dependencies.cache.get(Key(kinds.MODEL_SERVICE.kind, resource.namespace, name)) if not fresh else None
    found = found or await dependencies.cluster.read(kinds.MODEL_SERVICE, resource.namespace, name)
    return _seen(found, resource.uid) if found is not None else None


def _seen(found: Resource, uid: str) -> Service:
    ready = reporting.ready_condition(found.status)
    types = {
        condition.get("type") for condition in found.status.get("conditions") or () if condition.get("status") == "True"
    }
    model: Any = found.status.get("model") or {}
    endpoints: Any = found.status.get("endpoints") or {}
    return Service(
        name=found.name,
        is_ready=ready.get("status") == "True",
        is_coming=ready.get("status", "Unknown") == "Unknown" and "Waiting" not in types,
        is_stalled="Stalled" in types,
        lacks_room=ready.get("reason") in _NO_ROOM,
        message=str(ready.get("message") or "it has no status yet"),
        onnx_sha256=model.get("onnxSha256"),
        spec=found.spec,
        is_own=uid in found.owners,
        is_leaving=found.deleting,
        has_grpc=bool(endpoints.get("grpc")) or not endpoints.get("http"),
        is_behind_gateway=bool(endpoints.get("grpc") or endpoints.get("gatewayHttp")) or not endpoints.get("http"),
    )
