"""A Trial as pages show it: pure functions of objects in memory and the time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from pelagos_contract import durations
from pelagos_contract.text import shown

Body = Mapping[str, Any]
ENDED = frozenset({"Expired", "Refused", "Stopped"})
_LIVE = ("Pending", "Starting", "Open")
_LONGEST_TEXT = 1000


@dataclass(frozen=True)
class Step:
    """A step on the way to an open trial. ``state``: Done, Current, Waiting or Failed."""

    name: str
    state: str


@dataclass(frozen=True)
class View:
    """Everything that pages show of one Trial."""

    namespace: str
    name: str
    uid: str
    user: str
    service: str
    """Name of the ModelService that the person tries."""
    behind: str
    """The ModelService that the token opens: a different one when the trial has its own server."""
    phase: str
    """The phase that the operator reports; Stopping while the Trial is being deleted."""
    reason: str
    message: str
    steps: tuple[Step, ...]
    seconds_left: float | None
    """Seconds until it expires; None while it is not open."""
    seconds: float | None
    """Seconds of its whole duration; None when unknown."""
    expires_at: str
    http: str
    """URL that precedes ``/v2``; empty while there is none."""
    grpc: str
    model: str
    """The model's name on the server."""
    onnx_sha256: str
    made_at: str

    @property
    def path(self) -> str:
        """The URL path of the trial's page."""
        return f"/trials/{self.namespace}/{self.name}"

    @property
    def is_open(self) -> bool:
        """Whether the model answers images now."""
        return self.phase == "Open"

    @property
    def is_live(self) -> bool:
        """Whether it is open or may become so, and therefore counts against the limits."""
        return self.phase in _LIVE

    @property
    def time_left(self) -> str:
        """The remaining time as minutes and seconds, ``08:41``."""
        minutes, seconds = divmod(int(self.seconds_left or 0), 60)
        return f"{minutes:02}:{seconds:02}"


def view(trial: Body, services: Mapping[tuple[str, str], Body], now: datetime) -> View:
    """The View of a Trial; ``services`` are those in memory. Fields that do not match the API count as absent."""
    metadata, spec, status = trial["metadata"], at(trial, "spec"), at(trial, "status")
    namespace = str(metadata["namespace"])
    ready, accepted = _condition(trial, "Ready"), _condition(trial, "Accepted")
    endpoints = at(status, "endpoints")
    seconds = _seconds(status.get("duration")) or _seconds(spec.get("duration"))
    expires = moment(status.get("expiresAt"))
    phase = _text(status, "phase") or "Pending"
    left = None
    if phase == "Open" and expires is not None:
        left = (expires - now).total_seconds()
        # A clock that was set back must not extend the trial.
        left = max(0.0, min(left, seconds) if seconds is not None else left)
        # The gateway has already closed it; the operator will report it shortly.
        phase = "Expired" if left == 0 else phase
    if metadata.get("deletionTimestamp") and phase not in ENDED:
        phase = "Stopping"
    service = _text(at(spec, "modelServiceRef"), "name")
    opened = _text(at(status, "service"), "name") or service
    behind = services.get((namespace, opened))
    told = accepted if phase == "Refused" and accepted else ready or accepted or {}
    return View(
        namespace=namespace,
        name=str(metadata["name"]),
        uid=str(metadata.get("uid", "")),
        user=_text(spec, "user"),
        service=service,
        behind=opened,
        phase=phase,
        reason=_text(told, "reason"),
        message=shown(_text(told, "message")),
        steps=_steps(phase, expires is not None, accepted, behind),
        seconds_left=left if phase == "Open" else None,
        seconds=seconds,
        expires_at=_text(status, "expiresAt"),
        http=_address(endpoints.get("http")),
        grpc=_text(endpoints, "grpc"),
        model=_text(at(behind or {}, "status", "model"), "name"),
        onnx_sha256=_text(status, "onnxSha256"),
        made_at=_text(metadata, "creationTimestamp"),
    )


def newest_first(trials: Iterable[Body], services: Mapping[tuple[str, str], Body], now: datetime) -> list[View]:
    """The Views of several Trials, newest first."""
    found = [view(trial, services, now) for trial in trials]
    return sorted(found, key=lambda each: (each.made_at, each.name), reverse=True)


def _steps(phase: str, was_open: bool, accepted: Body | None, behind: Body | None) -> tuple[Step, ...]:
    has_room = was_open or (accepted or {}).get("status") == "True"
    loaded = _condition(behind or {}, "ModelLoaded") or {}
    done = (True, has_room, was_open or (has_room and loaded.get("status") == "True"), was_open)
    names = ("Requested", "Room found", "Model loaded", "Answered correctly")
    steps, is_next = [], True
    for name, is_done in zip(names, done, strict=True):
        if is_done:
            steps.append(Step(name, "Done"))
            continue
        pending = "Failed" if phase in ENDED or phase == "Stopping" else "Current"
        steps.append(Step(name, pending if is_next else "Waiting"))
        is_next = False
    return tuple(steps)


def _condition(body: Body, kind: str) -> Body | None:
    for each in at(body, "status").get("conditions") or ():
        if isinstance(each, Mapping) and each.get("type") == kind:
            return each
    return None


def at(body: object, *path: str) -> Body:
    """The object at a path of keys; empty where it does not match the API."""
    for step in path:
        body = body.get(step) if isinstance(body, Mapping) else None
    return body if isinstance(body, Mapping) else {}


def _text(body: Body, field: str) -> str:
    value = body.get(field)
    return value[:_LONGEST_TEXT] if isinstance(value, str) else ""


def _address(value: object) -> str:
    is_address = isinstance(value, str) and value.startswith(("http://", "https://")) and len(value) <= _LONGEST_TEXT
    return value if is_address and isinstance(value, str) else ""


def _seconds(value: object) -> float | None:
    try:
        return durations.parse(value).total_seconds() if isinstance(value, str) else None
    except ValueError:
        return None


def moment(value: object) -> datetime | None:
    """A time from a field; None when the value is not a time."""
    try:
        found = datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        return None
    return found.astimezone(UTC) if found is not None and found.tzinfo is not None else None
