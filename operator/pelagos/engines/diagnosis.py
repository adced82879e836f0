"""Inputs and findings of the checks of ``pelagos doctor``. Engines bring their own through their descriptors."""

from __future__ import annotations

import os
import ssl
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp

from pelagos.ports.errors import OutageError

if TYPE_CHECKING:
    from pelagos.engines.kubernetes.rest import Answer, KubernetesRest
    from pelagos.settings import Settings

NOBODY = "pelagos-doctor"
"""A name that no object has, for requests that test rights and reachability only."""
_TIMEOUT = aiohttp.ClientTimeout(total=8)


class State(Enum):
    """How bad a finding is."""

    OK = "ok"
    NOTE = "note"
    """Optional and missing, or not readable with our rights."""
    WARNING = "warning"
    """Works now, but will cause trouble."""
    FAILURE = "failure"
    """Pelagos cannot work."""


@dataclass(frozen=True)
class Finding:
    """``subject`` is the object that was checked, ``message`` the result, ``hint`` the advice to the user."""

    subject: str
    state: State
    message: str
    hint: str = ""


def ok(subject: str, message: str) -> Finding:
    """A finding that needs no action."""
    return Finding(subject, State.OK, message)


def note(subject: str, message: str, hint: str = "") -> Finding:
    """A finding for information: something optional is missing, or could not be checked."""
    return Finding(subject, State.NOTE, message, hint)


def warning(subject: str, message: str, hint: str) -> Finding:
    """A finding about something that works now but will cause trouble."""
    return Finding(subject, State.WARNING, message, hint)


def failure(subject: str, message: str, hint: str) -> Finding:
    """A finding about something that does not work."""
    return Finding(subject, State.FAILURE, message, hint)


@dataclass(frozen=True)
class DoctorContext:
    """The installation that is checked. ``home`` is the operator's namespace; ``tenants`` are the namespaces of resources."""

    settings: Settings
    api: KubernetesRest
    home: str
    tenants: tuple[str, ...] = ()


Check = Callable[[DoctorContext], Awaitable[Iterable[Finding]]]


def hidden(subject: str, answer: Answer) -> Finding:
    """A note that something could not be checked, because we lack the right, or the server could not answer."""
    return note(
        subject,
        f"cannot be read: {answer.message}",
        "Run `pelagos doctor` as somebody who may read it, for example an administrator of the cluster.",
    )


def items(answer: Answer) -> list[dict[str, Any]]:
    """The objects in the answer to a list request; empty when the answer is not a list."""
    found = answer.body.get("items")
    return [item for item in found if isinstance(item, dict)] if isinstance(found, list) else []


@dataclass(frozen=True)
class Reply:
    """A server's HTTP answer; ``text`` is cut to 2000 characters."""

    status: int
    text: str


async def fetch(url: str, *, ca: Path | None = None, headers: Mapping[str, str] | None = None) -> Reply:
    """GET ``url`` without following redirects. Raises OutageError when nothing answers within 8 seconds."""
    tls: ssl.SSLContext | bool = ssl.create_default_context(cafile=str(ca)) if ca else True
    try:
        async with (
            aiohttp.ClientSession(timeout=_TIMEOUT) as session,
            session.get(url, ssl=tls, headers=headers, allow_redirects=False) as answer,
        ):
            return Reply(answer.status, (await answer.text(errors="replace"))[:2000])
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        raise OutageError(url, f"no answer: {error or type(error).__name__}") from error


def program(subject: str, path: Path) -> Finding:
    """Whether an executable exists on this machine."""
    if os.access(path, os.X_OK):
        return ok(subject, f"on this machine, with {path}")
    return failure(subject, f"on this machine, and {path} is missing", "make install")


def first_line(text: str) -> str:
    """The first line of ``text``, at most 120 characters; "nothing" when it is empty."""
    lines = text.strip().splitlines()
    return lines[0][:120] if lines else "nothing"
