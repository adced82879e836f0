"""Whether the source can be prepared. A missing or refused source is checked again, so a correction needs no other action."""

from __future__ import annotations

from pelagos.api import reasons
from pelagos.decisions import rules
from pelagos.decisions.chains import Ended, Passed
from pelagos.decisions.dataset.conditions import SOURCE_RESOLVED
from pelagos.decisions.dataset.observed import Observed
from pelagos.decisions.verdicts import ConditionState, Verdict, obstacle

SOURCE_POLL = 10.0
"""Seconds between two checks of a source that is missing or refused."""


def spec_breaks_a_rule(seen: Observed) -> Ended | None:
    """Ends the chain if a rule across fields is broken, which only API servers without CEL admit."""
    broken = rules.violation(seen.spec)
    return _ended(Verdict(SOURCE_RESOLVED, ConditionState.REFUSED, reasons.INVALID_SPEC, broken)) if broken else None


def rejected(seen: Observed) -> Ended | None:
    """Ends the chain if the source leads out of the data volume, or has more files than are read."""
    if seen.source_error is None:
        return None
    return _ended(Verdict(SOURCE_RESOLVED, ConditionState.REFUSED, reasons.SOURCE_REJECTED, seen.source_error))


def missing(seen: Observed) -> Ended | None:
    """Ends the chain if the source does not exist yet: images may be uploaded after the Dataset is applied."""
    if seen.fingerprint is not None:
        return None
    source = seen.spec.source
    message = (
        f'{source.field}: "{source.path}" does not exist yet on the data volume ({seen.data_root}). '
        "Put the images there, or correct the path; this is checked again every few seconds"
    )
    return _ended(obstacle(SOURCE_RESOLVED, reasons.SOURCE_NOT_FOUND, message))


def empty(seen: Observed) -> Ended | None:
    """Ends the chain if the source is an empty folder, as when an upload has just begun."""
    if seen.content.files:
        return None
    source = seen.spec.source
    message = f'{source.field}: "{source.path}" holds no files yet ({seen.data_root}). Put the images there'
    return _ended(obstacle(SOURCE_RESOLVED, reasons.SOURCE_EMPTY, message))


def found(seen: Observed) -> Passed:
    """SourceResolved: the source exists and has content."""
    source = seen.spec.source
    origin = (seen.report.result or {}).get("origin") or {}
    told = " of ".join(str(origin[name]) for name in ("version", "url") if origin.get(name))
    elsewhere = f"fetched: {told}" if told else f"as {source.field} says"
    message = f"{seen.content.files} files at {source.path}" if source.path else elsewhere
    return Passed((Verdict(SOURCE_RESOLVED, ConditionState.DONE, reasons.FOUND, message),))


def _ended(verdict: Verdict) -> Ended:
    return Ended((verdict,), recheck_after=SOURCE_POLL)
