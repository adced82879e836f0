"""What a check returns, and how checks are run: all at once, each in bounded time, and none able to spoil the others."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum

from pelagos import engine_registry
from pelagos.engines.kubernetes.rest import Answer, KubernetesRest
from pelagos.ports.errors import OutageError, RejectedError
from pelagos.settings import Settings

PATIENCE = 20.0
"""Seconds for one check with all its requests."""


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

    @property
    def on_cluster(self) -> bool:
        """Whether anything runs elsewhere than on this machine."""
        return engine_registry.is_on_cluster(self.settings)


Check = Callable[[DoctorContext], Awaitable[Iterable[Finding]]]


@dataclass(frozen=True)
class Section:
    """Checks that belong together."""

    title: str
    checks: Sequence[tuple[str, Check]]


async def examine(section: Section, context: DoctorContext) -> list[Finding]:
    """All findings of a section, in the order of its checks."""
    found = await asyncio.gather(*(_bounded(subject, check, context) for subject, check in section.checks))
    return [finding for findings in found for finding in findings]


async def _bounded(subject: str, check: Check, context: DoctorContext) -> list[Finding]:
    try:
        return list(await asyncio.wait_for(check(context), PATIENCE))
    except TimeoutError:
        return [failure(subject, f"no answer within {PATIENCE:.0f} s", "See whether it can be reached from here.")]
    except (OutageError, RejectedError) as error:
        return [failure(subject, str(error), "Follow the message.")]
    except Exception as error:
        return [failure(subject, f"{type(error).__name__}: {error}", "Report this as a fault of `pelagos doctor`.")]


def hidden(subject: str, answer: Answer) -> Finding:
    """An answer that says nothing about what was asked for, because we may not look, or the server cannot."""
    return note(
        subject,
        f"cannot be looked at: {answer.message}",
        "Run `pelagos doctor` as somebody who may read it, for example an administrator of the cluster.",
    )


def items(answer: Answer) -> list[dict[str, object]]:
    """The objects of a list."""
    found = answer.body.get("items")
    return [item for item in found if isinstance(item, dict)] if isinstance(found, list) else []
