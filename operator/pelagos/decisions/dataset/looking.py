"""When to check a fetched source again: its run is then started once more, under another retry key.

Only a step can ask the source's server, because the operator has no credentials for it. A step that finds nothing new brings
nothing. A run that failed because a register of names did not answer is started again in the same way, for any source.
"""

from __future__ import annotations

import re
from datetime import timedelta

from pelagos.decisions import durations, moments
from pelagos.decisions.dataset.observed import Observed
from pelagos.ports.pipelines import FINISHED
from pelagos_contract.failures import Reason

USUAL, USUAL_FETCHED = "10m", "24h"
SECRET_POLL = 60.0
"""Seconds after which a step checks again whether its Secret is complete, since only the step can read it."""
WAITING_POLL = 600.0
"""Seconds after which something missing is looked for again, such as a record that is not published yet."""
_WAITING = frozenset(reason.value for reason in Reason if reason.state == "waiting")
_KEY = re.compile(r"(?P<given>.*)@(?P<at>[0-9TZ:-]{20})", re.DOTALL)


def period(seen: Observed) -> float:
    """Seconds between two checks of a source without problems."""
    usual = USUAL_FETCHED if seen.spec.source.path is None else USUAL
    return durations.seconds(seen.spec.refresh or usual)


def key(seen: Observed) -> str:
    """The retry key: the one that a person gave and, for a source that is checked again, which check it is."""
    if seen.spec.source.path is not None and not _asks_a_register(seen):
        return seen.retry
    run = seen.run
    last = run.retry_key if run is not None else seen.report.retry_key
    if last is None or _given(last) != seen.retry:
        return seen.retry
    if run is None or run.state not in FINISHED or run.finished_at is None or not _passes(seen):
        return last
    is_due = seen.now - run.finished_at >= timedelta(seconds=_pause(seen))
    return f"{seen.retry}@{moments.timestamp(run.finished_at)}" if is_due else last


def _given(key: str) -> str:
    found = _KEY.fullmatch(key)
    return found["given"] if found else key


def _passes(seen: Observed) -> bool:
    """Whether another check may find something else.

    For pinned content only if the last one failed. For content on the data volume, whose changes are noticed anyway, only if a
    register of names did not answer.
    """
    if seen.spec.source.path is not None:
        return (seen.report.failure or {}).get("reason") == Reason.TAXONOMY_UNAVAILABLE
    return seen.spec.source.is_looked_at_again or seen.report.result is None


def _asks_a_register(seen: Observed) -> bool:
    taxonomy = seen.spec.labels.taxonomy if seen.spec.labels is not None else None
    return taxonomy is not None and taxonomy.table is None


def _pause(seen: Observed) -> float:
    usual, failed = max(period(seen), SECRET_POLL), (seen.report.failure or {}).get("reason")
    if failed == Reason.SOURCE_SECRET_INCOMPLETE:
        return SECRET_POLL
    return min(usual, WAITING_POLL) if failed in _WAITING else usual
