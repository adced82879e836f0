"""Tokens of trials: which service each opens, and until when. Decided by the monotonic clock, even while the operator is away.

Only a token's SHA-256 is known. It is valid from when its Trial is first seen Open, for at most the time that the Trial has left
by the wall clock, and for at most the duration it was created with. Later changes to the Trial never extend it.

A token belongs to one Trial. Anyone who can read a Trial can copy its digest into a Trial of their own, in any namespace. A copy
opens nothing, even after the original has ended or was deleted.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from pelagos_contract import durations

PREFIX = "pt_"
"""First characters of every trial token; 43 characters of base64url follow, which are 256 bits."""
LONGEST_SECONDS = 3600.0
_TOKEN = re.compile(r"pt_[A-Za-z0-9_-]{43}")
_DIGEST = re.compile(r"[0-9a-f]{64}")

Key = tuple[str, str]


@dataclass(frozen=True)
class Trial:
    """An open trial. ``service`` is ``namespace/name``; ``deadline`` is on the monotonic clock."""

    uid: str
    service: str
    digest: str
    deadline: float


class Trials:
    """The open trials, as last passed to ``take``."""

    def __init__(self) -> None:
        self._by_digest: dict[str, Trial] = {}
        self._first: dict[str, str] = {}
        """By digest, the uid of the Trial that had it first; kept while any Trial has that digest."""
        self._deadlines: dict[str, float] = {}

    def take(self, found: Mapping[Key, Mapping[str, Any]], now: datetime, monotonic: float) -> None:
        """Replace the known trials by those of the API server. ``now`` and ``monotonic`` are the same moment on both clocks.

        A trial that has ended stays ended as long as its resource exists.
        """
        first = _first(found.values(), self._first)
        by_digest: dict[str, Trial] = {}
        deadlines: dict[str, float] = {}
        for body in found.values():
            trial = _open(body, now, monotonic)
            uid = str((body.get("metadata") or {}).get("uid") or "")
            known = self._deadlines.get(uid)
            if trial is None:
                # Keep the deadline whatever the phase is now: if the Trial becomes Open again, it gets no additional time.
                if known is not None:
                    deadlines[uid] = known
                continue
            deadline = trial.deadline if known is None else min(known, trial.deadline)
            deadlines[uid] = deadline
            if first.get(trial.digest) == trial.uid:
                by_digest[trial.digest] = Trial(trial.uid, trial.service, trial.digest, deadline)
        self._by_digest, self._first, self._deadlines = by_digest, first, deadlines

    def opened(self, token: str, monotonic: float) -> Trial | None:
        """The trial that a token opens now; None when the token is unknown or its trial has ended."""
        if not _TOKEN.fullmatch(token):
            return None
        digest = hashlib.sha256(token.encode("ascii")).hexdigest()
        trial = self._by_digest.get(digest)
        if trial is None or not hmac.compare_digest(trial.digest, digest) or monotonic >= trial.deadline:
            return None
        return trial

    def open_at(self, monotonic: float) -> list[Trial]:
        """The trials whose deadline has not passed."""
        return [each for each in self._by_digest.values() if monotonic < each.deadline]


def _first(found: Iterable[Mapping[str, Any]], known: Mapping[str, str]) -> dict[str, str]:
    """By digest, the uid of the first Trial with it, whatever its phase: as known before, else by creation time.

    Refused Trials do not count: they never had the token, so their creator may try again with the same one.
    """
    claims: dict[str, tuple[str, str]] = {}
    for body in found:
        metadata, spec, status = (_part(body, name) for name in ("metadata", "spec", "status"))
        digest = spec.get("tokenSha256") or status.get("tokenSha256")
        if not isinstance(digest, str) or not _DIGEST.fullmatch(digest) or status.get("phase") == "Refused":
            continue
        # The API server formats all times alike, so their text sorts as the times do.
        claim = (str(metadata.get("creationTimestamp") or ""), str(metadata.get("uid") or ""))
        claims[digest] = min(claim, claims.get(digest, claim))
    return {digest: known.get(digest, claim[1]) for digest, claim in claims.items()}


def _part(body: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    part = body.get(name)
    return part if isinstance(part, Mapping) else {}


def _open(body: Mapping[str, Any], now: datetime, monotonic: float) -> Trial | None:
    """The trial that a resource opens; None when it is not Open, is being deleted, or its status is invalid."""
    try:
        metadata, spec, status = body["metadata"], body["spec"], body["status"]
        namespace, service, digest = str(metadata["namespace"]), status["service"], str(status["tokenSha256"])
        if status["phase"] != "Open" or metadata.get("deletionTimestamp") or not _DIGEST.fullmatch(digest):
            return None
        # A Trial opens only services of its own namespace, even if its status names another one.
        if str(service.get("namespace") or namespace) != namespace:
            return None
        ends = datetime.fromisoformat(str(status["expiresAt"]))
        asked = durations.parse(str(status.get("duration") or spec.get("duration") or "10m")).total_seconds()
        left = (ends.astimezone(UTC) - now).total_seconds()
        deadline = monotonic + min(left, asked, LONGEST_SECONDS)
        return Trial(str(metadata["uid"]), f"{namespace}/{service['name']}", digest, deadline)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
        return None
