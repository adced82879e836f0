"""What checks of ``pelagos doctor`` look at and find. Engines bring their own, by their descriptors; the doctor shows all."""

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
"""A name that nothing has."""
_TIMEOUT = aiohttp.ClientTimeout(total=8)


class State(Enum):
    """How bad a finding is."""

    OK = "ok"
    NOTE = "note"
    """Optional, and not there; or it may not be looked at."""
    WARNING = "warning"
    """Works, and will hurt."""
    FAILURE = "failure"
    """Pelagos cannot do its work."""


@dataclass(frozen=True)
class Finding:
    """``subject`` is what was looked at, ``message`` what was found, ``hint`` what to do about it."""

    subject: str
    state: State
    message: str
    hint: str = ""


def ok(subject: str, message: str) -> Finding:
    """As it should be."""
    return Finding(subject, State.OK, message)


def note(subject: str, message: str, hint: str = "") -> Finding:
    """For information."""
    return Finding(subject, State.NOTE, message, hint)


def warning(subject: str, message: str, hint: str) -> Finding:
    """Works, and will hurt."""
    return Finding(subject, State.WARNING, message, hint)


def failure(subject: str, message: str, hint: str) -> Finding:
    """Does not work."""
    return Finding(subject, State.FAILURE, message, hint)


@dataclass(frozen=True)
class DoctorContext:
    """The installation that is looked at. ``home`` is the operator's namespace; ``tenants`` those of resources."""

    settings: Settings
    api: KubernetesRest
    home: str
    tenants: tuple[str, ...] = ()


Check = Callable[[DoctorContext], Awaitable[Iterable[Finding]]]


def hidden(subject: str, answer: Answer) -> Finding:
    """An answer that says nothing about what was asked for, because we may not look, or the server cannot."""
    return note(
        subject,
        f"cannot be looked at: {answer.message}",
        "Run `pelagos doctor` as somebody who may read it, for example an administrator of the cluster.",
    )


def items(answer: Answer) -> list[dict[str, Any]]:
    """The objects of a list."""
    found = answer.body.get("items")
    return [item for item in found if isinstance(item, dict)] if isinstance(found, list) else []


@dataclass(frozen=True)
class Reply:
    """What a server said over HTTP."""

    status: int
    text: str


async def fetch(url: str, *, ca: Path | None = None, headers: Mapping[str, str] | None = None) -> Reply:
    """GET. Raises OutageError when nothing answers."""
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
    """Whether a program of this machine is there."""
    if os.access(path, os.X_OK):
        return ok(subject, f"on this machine, with {path}")
    return failure(subject, f"on this machine, and {path} is missing", "make install")


def first_line(text: str) -> str:
    """The beginning of what a server said."""
    lines = text.strip().splitlines()
    return lines[0][:120] if lines else "nothing"
