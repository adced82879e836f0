"""Versions beyond spec.history.keep are removed from the history, and then from the store.

In two passes, so that nothing can begin to use a version being removed. The first one announces in status which versions leave;
from then on, no TrainingRun takes one of them. The next one checks again whether anything names one of them, and starts the run
that removes the others. A TrainingRun works the other way round: it announces the version that it takes, and reads the Dataset
again before its run begins. So whichever comes second sees the other's announcement, without relying on clocks.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from pelagos.api import kinds, reasons
from pelagos.api.dataset import DatasetStatus, DatasetVersion, Removals
from pelagos.api.versions import KEPT
from pelagos.decisions import attempts, digests, moments
from pelagos.decisions.chains import Ended, Passed
from pelagos.decisions.dataset import identity, preparation, published_versions, quality
from pelagos.decisions.dataset.conditions import PREPARED
from pelagos.decisions.dataset.observed import Observed
from pelagos.decisions.dataset.source import SOURCE_POLL
from pelagos.decisions.effects import Effect, PostEvent, SubmitRun
from pelagos.decisions.placing import place
from pelagos.decisions.verdicts import ConditionState, Verdict
from pelagos.ports.cluster import Key
from pelagos.ports.pipelines import FINISHED, RunName, RunRequest, RunResources
from pelagos_contract.collection import MOST_REMOVED, CollectionResult
from pelagos_contract.flows import PREPARATION
from pelagos_contract.tags import RESOURCE_TAG

MOST = 50
"""Most versions that status lists, even if more are in use."""
REMOVED = "VersionsRemoved"
"""Reason of the event."""
AT_ONCE, NEVER = 0.0, float("inf")
TIME_LIMIT = 24 * 3600
_NAMED = 3


@dataclass(frozen=True)
class Plan:
    """The versions to list, the new state of the removals, and in how many seconds to check again."""

    versions: Sequence[DatasetVersion]
    removals: Removals
    effects: tuple[Effect, ...] = ()
    pause: float = NEVER


def name_run(uid: str, removals: Removals) -> RunName | None:
    """Name of the run that removes versions, a different one each time. None when there is nothing to remove."""
    if not removals.removing:
        return None
    named = [each.version for each in removals.removing]
    return digests.run_name("dataset", uid, digests.digest({"remove": named, "after": removals.runs or 0}))


def keep(seen: Observed) -> int:
    """How many versions to keep."""
    given = seen.spec.history.keep if seen.spec.history is not None else None
    return given or KEPT


def in_the_way(seen: Observed) -> Ended | None:
    """Ends the chain if a preparation is due, or its version is among those being removed: the two runs would undo each other."""
    run = seen.removal_run
    if run is None or run.state in FINISHED:
        return None
    result = seen.report.result
    is_leaving = result is not None and any(each.version == result["version"] for each in seen.removals.removing or ())
    if preparation.outcome(seen).attempt is None and not is_leaving:
        return None
    message = (
        "versions beyond spec.history.keep are being removed from the store; the preparation starts when that is done"
    )
    waiting = Verdict(PREPARED, ConditionState.PROGRESSING, reasons.REMOVING_VERSIONS, message)
    return Ended((waiting,), recheck_after=attempts.POLL)


def published(seen: Observed) -> Passed:
    """Publishes the history and the state of the removals, and carries on with removing."""
    found = plan(seen)
    is_silent = found.removals == Removals()
    status = DatasetStatus(
        versions=published_versions.named(seen, quality.marked(seen, found.versions)),
        removals=None if is_silent else found.removals,
    )
    return Passed(effects=found.effects, status=status)


def pause(seen: Observed) -> float:
    """Seconds until the removal needs another pass."""
    return plan(seen).pause


def history(seen: Observed) -> list[DatasetVersion]:
    """All versions, newest first, before any is removed. A version that is made again moves to the front."""
    result = seen.result
    if seen.history and seen.history[0].version == result["version"]:
        return list(seen.history)
    entry = DatasetVersion(
        version=result["version"],
        created_at=_time(seen),
        images=result["images"],
        uri=result["uri"],
        task=seen.spec.task,
        reason=_why(seen) if seen.history or seen.removals.removing else "first version",
    )
    return [entry, *(old for old in seen.history if old.version != entry.version)]


def plan(seen: Observed) -> Plan:
    """What to do next about versions beyond spec.history.keep."""
    listed, removals = history(seen), seen.removals
    if not removals.removing:
        return _leaving(seen, listed) if seen.users is not None else Plan(listed[:MOST], removals, pause=SOURCE_POLL)
    judged = attempts.judge(
        PREPARED, seen.removal_run, seen.removal_report, retry_key=seen.retry, now=seen.now, looks_at_the_world=False
    )
    if judged.succeeded and seen.removal_report.result is not None:
        return _removed(seen, listed)
    is_still = seen.removal_run is None or seen.removal_run.state in FINISHED
    if is_still and any(each.version == listed[0].version for each in removals.removing):
        # It was made again, or found, since it was announced: it is the newest version now, and must stay.
        return _returned(listed, removals, {listed[0].version})
    if seen.removal_run is None and seen.removal_report.result is None:
        if seen.users is None:
            return Plan(listed[:MOST], removals, pause=SOURCE_POLL)
        if used := {each.version for each in removals.removing if each.version in seen.users}:
            return _returned(listed, removals, used)
    effects = (SubmitRun(_request(seen, judged.attempt)),) if judged.attempt is not None else ()
    message = f"{_count(removals.removing)}: {judged.verdict.message}"
    told = removals.model_copy(update={"message": message, "since": removals.since or _time(seen)})
    return Plan(listed[:MOST], told, effects, judged.recheck_after or NEVER)


def _leaving(seen: Observed, listed: list[DatasetVersion]) -> Plan:
    """Announces the removal of versions that nothing uses, at most MOST_REMOVED at once, the oldest first."""
    beyond = listed[keep(seen) :]
    here = [each for each in beyond if each.uri.startswith(f"{seen.store}/versions/")]
    leaving = [each for each in here if each.version not in (seen.users or {})][-MOST_REMOVED:]
    stay = [each for each in beyond if each not in leaving]
    message = _staying(seen, stay)
    since = _time(seen) if leaving else None
    removals = seen.removals.model_copy(update={"message": message, "removing": leaving or None, "since": since})
    left = [each for each in listed if each not in leaving]
    return Plan(left[:MOST], removals, pause=AT_ONCE if leaving else NEVER)


def _staying(seen: Observed, stay: Sequence[DatasetVersion]) -> str | None:
    if not stay:
        return None
    known = seen.users or {}
    users = sorted({known[each.version] for each in stay if each.version in known})
    named = ", ".join(users[:_NAMED]) + (f" and {len(users) - _NAMED} more" if len(users) > _NAMED else "")
    by = f"in use by {named}" if users else "in another store"
    return f"{_count(stay)} beyond spec.history.keep ({keep(seen)}) {'is' if len(stay) == 1 else 'are'} kept: {by}"


def _returned(listed: list[DatasetVersion], removals: Removals, back: set[str]) -> Plan:
    """Lists those versions again that are in ``back``, and no longer removes them."""
    removing = removals.removing or []
    known = {each.version for each in listed}
    returned = [each for each in removing if each.version in back and each.version not in known]
    older = sorted([*listed[1:], *returned], key=lambda each: each.created_at, reverse=True)
    left = [each for each in removing if each.version not in back]
    told = removals.model_copy(update={"removing": left or None, "since": removals.since if left else None})
    return Plan([listed[0], *older][:MOST], told, pause=AT_ONCE)


def _removed(seen: Observed, listed: list[DatasetVersion]) -> Plan:
    """The versions were removed: adds what that freed to the totals, and posts an event."""
    before, result = seen.removals, CollectionResult.model_validate(seen.removal_report.result)
    removals = Removals(
        runs=(before.runs or 0) + 1,
        versions=(before.versions or 0) + len(result.removed),
        images=(before.images or 0) + result.images,
        freed_bytes=(before.freed_bytes or 0) + result.freed_bytes,
        kept_versions=result.kept_versions,
        kept_images=result.kept_images,
        kept_bytes=result.kept_bytes,
    )
    message = (
        f"{_count(result.removed)} and {result.images} image files removed, {result.freed_bytes} bytes freed;"
        f" {_count(removals.kept_versions)} with {result.kept_bytes} bytes of images kept"
    )
    event = PostEvent(Key(kinds.DATASET.kind, seen.namespace, seen.name), seen.uid, REMOVED, message)
    return Plan(listed[:MOST], removals, (event,), pause=AT_ONCE)


def _count(some: Sequence[object] | int | None) -> str:
    number = len(some) if isinstance(some, Sequence) else some or 0
    return f"{number} version{'' if number == 1 else 's'}"


def _time(seen: Observed) -> str:
    return moments.timestamp(seen.time_of_day or seen.now)


def _why(seen: Observed) -> str:
    upgraded = identity.reason(seen.earlier, seen.inputs, seen.inputs)
    return upgraded or "the source or the recipe changed"


def _request(seen: Observed, attempt: int) -> RunRequest:
    name = name_run(seen.uid, seen.removals)
    assert name is not None
    named = [each.version for each in seen.removals.removing or ()]
    parameters = {
        "request": json.dumps({"remove": named}),
        "data_root": seen.data_root,
        "store": seen.store,
        "report": seen.removal_folder,
    }
    return RunRequest(
        name=name,
        flow=PREPARATION.name,
        parameters=parameters,
        attempt=attempt,
        retry_key=seen.retry,
        resources=RunResources(
            cpu=1,
            placement=place(seen.spec.resources, seen.tenant.queue),
            time_limit=TIME_LIMIT,
            priority=seen.spec.priority or seen.tenant.priority,
        ),
        namespace=seen.namespace,
        tenant=seen.tenant,
        labels={"pelagos.dev/uid": seen.uid, RESOURCE_TAG: f"dataset/{seen.namespace}/{seen.name}"},
    )
