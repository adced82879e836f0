"""Runs checks: all at once, each with a time limit, and none able to disturb the others."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from pelagos.engines.diagnosis import Check, DoctorContext, Finding, failure
from pelagos.ports.errors import OutageError, RejectedError

PATIENCE = 20.0
"""Time limit, in seconds, of a check with all its requests."""


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
        return [failure(subject, f"no answer within {PATIENCE:.0f} s", "Check whether it can be reached from here.")]
    except (OutageError, RejectedError) as error:
        return [failure(subject, str(error), "Follow the message.")]
    except Exception as error:
        return [failure(subject, f"{type(error).__name__}: {error}", "Report this as a bug in `pelagos doctor`.")]
