"""Tokens of trials: which service each opens, and until when. Decided here, by a clock that nobody sets, whoever else is away.

A token is known by its SHA-256 alone. It is good from when its Trial was first seen Open, for no longer than the Trial has left
by the clock of the day and for no longer than it was made for; what is written into the Trial later makes that no longer.

A token is of one Trial. Whoever reads a Trial can copy the digest into one of theirs, in any namespace: a copy opens nothing,
also when the Trial that came first is over or gone.
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
"""Of every token of a trial; 43 characters of base64url follow, which are 256 bits."""
LONGEST_SECONDS = 3600.0
_TOKEN = re.compile(r"pt_[A-Za-z0-9_-]{43}")
_DIGEST = re.compile(r"[0-9a-f]{64}")

Key = tuple[str, str]


@dataclass(frozen=True)
class Trial:
    """One that is open. ``service`` is ``namespace/name``; ``deadline`` is of the clock that counts from the machine's start."""

    uid: str
    service: str
    digest: str
    deadline: float


class Trials:
    """Those that are open. ``take`` tells what the API server says, and the times of now by both clocks."""

    def __init__(self) -> None:
        self._by_digest: dict[str, Trial] = {}
        self._first: dict[str, str] = {}
        """By digest, the uid of the Trial that came first; kept while any Trial has that digest."""
        self._deadlines: dict[str, float] = {}

    def take(self, found: Mapping[Key, Mapping[str, Any]], now: datetime, monotonic: float) -> None:
        """Replace what is known; what ended stays ended, as long as its Trial is there."""
        first = _first(found.values(), self._first)
        by_digest: dict[str, Trial] = {}
        deadlines: dict[str, float] = {}
        for body in found.values():
            trial = _open(body, now, monotonic)
            uid = str((body.get("metadata") or {}).get("uid") or "")
            known = self._deadlines.get(uid)
            if trial is None:
                # Whatever it is now: should it be Open again, it has no more time than before.
                if known is not None:
                    deadlines[uid] = known
                continue
            deadline = trial.deadline if known is None else min(known, trial.deadline)
            deadlines[uid] = deadline
            if first.get(trial.digest) == trial.uid:
                by_digest[trial.digest] = Trial(trial.uid, trial.service, trial.digest, deadline)
        self._by_digest, self._first, self._deadlines = by_digest, first, deadlines

    def opened(self, token: str, monotonic: float) -> Trial | None:
        """The trial that a token opens now; None when it is nobody's, or its time is over."""
        if not _TOKEN.fullmatch(token):
            return None
        digest = hashlib.sha256(token.encode("ascii")).hexdigest()
        trial = self._by_digest.get(digest)
        if trial is None or not hmac.compare_digest(trial.digest, digest) or monotonic >= trial.deadline:
            return None
        return trial

    def open_at(self, monotonic: float) -> list[Trial]:
        """Those whose time is not over."""
        return [each for each in self._by_digest.values() if monotonic < each.deadline]


def _first(found: Iterable[Mapping[str, Any]], known: Mapping[str, str]) -> dict[str, str]:
    """By digest, the uid of the Trial that came first, whatever became of it: as is known, or else as the API server dates it.

    One that was refused never had the token, so that whoever made it may ask again with the same.
    """
    claims: dict[str, tuple[str, str]] = {}
    for body in found:
        metadata, spec, status = (_part(body, name) for name in ("metadata", "spec", "status"))
        digest = spec.get("tokenSha256") or status.get("tokenSha256")
        if not isinstance(digest, str) or not _DIGEST.fullmatch(digest) or status.get("phase") == "Refused":
            continue
        # The times of the API server are all of one form, which sorts as they do.
        claim = (str(metadata.get("creationTimestamp") or ""), str(metadata.get("uid") or ""))
        claims[digest] = min(claim, claims.get(digest, claim))
    return {digest: known.get(digest, claim[1]) for digest, claim in claims.items()}


def _part(body: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    part = body.get(name)
    return part if isinstance(part, Mapping) else {}


def _open(body: Mapping[str, Any], now: datetime, monotonic: float) -> Trial | None:
    """What a Trial opens; None when it is not Open, is being deleted, or says what cannot be believed."""
    try:
        metadata, spec, status = body["metadata"], body["spec"], body["status"]
        namespace, service, digest = str(metadata["namespace"]), status["service"], str(status["tokenSha256"])
        if status["phase"] != "Open" or metadata.get("deletionTimestamp") or not _DIGEST.fullmatch(digest):
            return None
        # A Trial opens what is in its own namespace, whatever its status says.
        if str(service.get("namespace") or namespace) != namespace:
            return None
        ends = datetime.fromisoformat(str(status["expiresAt"]))
        asked = durations.parse(str(status.get("duration") or spec.get("duration") or "10m")).total_seconds()
        left = (ends.astimezone(UTC) - now).total_seconds()
        deadline = monotonic + min(left, asked, LONGEST_SECONDS)
        return Trial(str(metadata["uid"]), f"{namespace}/{service['name']}", digest, deadline)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
        return None
