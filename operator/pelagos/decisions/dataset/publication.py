"""Puts the version that spec.publish asks for into its repository, by a run of the data plane, which alone gets the token.

A Dataset has one such run, which is started again for each version and whenever the request changes: two runs would work on the
same draft. Nothing else depends on its outcome, and trainings need no publication. Published versions stay published.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta

from pelagos.api import kinds, reasons
from pelagos.api.dataset import DatasetSpec, DatasetStatus, Publication
from pelagos.decisions import attempts, digests, moments
from pelagos.decisions.attempts import Outcome
from pelagos.decisions.chains import Passed
from pelagos.decisions.dataset import fair, published_versions, quality, removal
from pelagos.decisions.dataset.conditions import PUBLISHED
from pelagos.decisions.dataset.observed import Observed
from pelagos.decisions.effects import CancelRun, Effect, PostEvent, SubmitRun
from pelagos.decisions.placing import place
from pelagos.decisions.verdicts import ConditionState, Verdict
from pelagos.ports.cluster import Key
from pelagos.ports.pipelines import FINISHED, RunName, RunRequest, RunResources, SourceSecret
from pelagos.ports.tenants import Tenant
from pelagos_contract.failures import Reason
from pelagos_contract.flows import PREPARATION
from pelagos_contract.metadata import Metadata
from pelagos_contract.publication import DRAFT, TOKEN, Publish
from pelagos_contract.tags import RESOURCE_TAG

TIME_LIMIT = 24 * 3600
NEVER = float("inf")
PAUSES: Mapping[str, float] = {Reason.REPOSITORY_SECRET_INCOMPLETE: 60.0, Reason.REPOSITORY_AWAY: 600.0}
"""Seconds until a publication is tried again that failed for one of these reasons, which may resolve themselves."""
PAUSE = 3600.0
"""The same for any other reason: a token may have been replaced, or a draft finished, without our knowing."""
LONGEST_PAUSE = 24 * 3600.0
"""Pauses grow with the time for which a publication is stuck, up to this."""
STUCK = "PublicationStuck"
"""Reason of the event."""
_NEEDED = ("title", "creators")
_KEY = re.compile(r"(?P<given>.*)@(?P<at>[0-9TZ:-]{20})", re.DOTALL)


@dataclass(frozen=True)
class _Version:
    digest: str
    uri: str
    made: str
    task: str
    blocked: str | None = None


@dataclass(frozen=True)
class Whose:
    """A Dataset, its tenant and its folders: what a run needs in addition to its request."""

    spec: DatasetSpec
    namespace: str
    name: str
    uid: str
    tenant: Tenant
    data_root: str
    store: str


def name_run(uid: str) -> RunName:
    """Name of the run that publishes versions of the Dataset with this uid."""
    return digests.run_name("dataset", uid, digests.digest({"publish": uid}))


def name_discard(uid: str) -> RunName:
    """Name of the run that discards the draft of a deleted Dataset."""
    return digests.run_name("dataset", uid, digests.digest({"discard": uid}))


def judged(seen: Observed) -> Passed:
    """The Published condition, status.publication, and the effects that come next."""
    verdict, effects = _verdict_and_effects(seen)
    told, known = published_versions.current(seen), seen.publishing.known
    stuck = _stuck_since(seen, verdict)
    event = _event(seen, told, verdict, stuck)
    run = seen.publishing.run.name if seen.publishing.run is not None and seen.spec.publish is not None else None
    status = (told or Publication()).model_copy(update={"run": run, "stuck_since": stuck})
    is_silent = status == Publication() and known is None
    return Passed(
        (replace(verdict, is_aside=True),),
        (*effects, *([event] if event is not None else [])),
        DatasetStatus(publication=None if is_silent or status == Publication() else status),
    )


def pause(seen: Observed) -> float:
    """Seconds until the publication needs another pass."""
    asked = seen.spec.publish
    if asked is None or _gate(seen, asked) is not None or _is_out(seen, asked):
        return NEVER
    soon = _outcome(seen).recheck_after
    return min(NEVER if soon is None else soon, _left(seen))


def discard_request(whose: Whose, owners: Sequence[str], folder: str) -> RunRequest:
    """The run that discards the draft of a deleted Dataset."""
    asked = whose.spec.publish
    assert asked is not None
    document = {
        "discard": {"url": asked.url, "key": asked.zenodo.secret_ref.key or TOKEN},
        "dataset": f"{whose.namespace}/{whose.name}",
        "owners": list(owners),
    }
    return _run_request(whose, name_discard(whose.uid), document, folder)


def _request(seen: Observed, asked: Publish, version: _Version, number: int, retry: str) -> RunRequest:
    said = _said(seen)
    target = {
        "url": asked.url,
        "state": asked.state,
        "view": asked.view(version.task),
        "documents": asked.chosen(said),
        "key": asked.zenodo.secret_ref.key or TOKEN,
        **({"community": asked.zenodo.community} if asked.zenodo.community else {}),
    }
    document = {
        "publish": target,
        "version": version.digest,
        "uri": version.uri,
        "dataset": f"{seen.namespace}/{seen.name}",
        "owners": list(seen.publishing.owners or (seen.uid,)),
        "metadata": said.written(),
        "made": version.made,
        "retry": retry,
    }
    whose = Whose(seen.spec, seen.namespace, seen.name, seen.uid, seen.tenant, seen.data_root, seen.store)
    made = _run_request(whose, name_run(seen.uid), document, seen.publishing.folder)
    return replace(made, attempt=number, retry_key=retry)


def _run_request(whose: Whose, name: RunName, document: object, folder: str) -> RunRequest:
    """A run of the data plane whose step gets the token. The request only names the Secret; its content is never in it."""
    spec, tenant = whose.spec, whose.tenant
    assert spec.publish is not None
    reference = spec.publish.zenodo.secret_ref
    parameters = {
        "request": json.dumps(document, sort_keys=True),
        "data_root": whose.data_root,
        "store": whose.store,
        "report": folder,
    }
    return RunRequest(
        name=name,
        flow=PREPARATION.name,
        parameters=parameters,
        secret=SourceSecret(reference.name, ((reference.key or TOKEN,),)),
        resources=RunResources(
            cpu=1,
            placement=place(spec.resources, tenant.queue),
            time_limit=TIME_LIMIT,
            priority=spec.priority or tenant.priority,
        ),
        namespace=whose.namespace,
        tenant=tenant,
        labels={"pelagos.dev/uid": whose.uid, RESOURCE_TAG: f"dataset/{whose.namespace}/{whose.name}"},
    )


def _verdict_and_effects(seen: Observed) -> tuple[Verdict, list[Effect]]:
    asked, run = seen.spec.publish, seen.publishing.run
    is_running = run is not None and run.state not in FINISHED
    ending: list[Effect] = [CancelRun(run.name)] if run is not None and is_running else []
    if asked is None:
        message = "spec.publish is not set: nothing is published"
        return Verdict(PUBLISHED, ConditionState.NOTED, reasons.NOT_ASKED_FOR, message), ending
    gate = _gate(seen, asked)
    if gate is not None:
        return gate, ending
    if _is_out(seen, asked):
        return _there(seen), ending
    judged = _outcome(seen)
    if judged.succeeded:
        return _there(seen), []
    # A run for an earlier request must not continue: it might publish what nobody wants to be published any more.
    if run is not None and is_running and _given(run.retry_key) != _base(seen, asked):
        return judged.verdict, ending
    effects: list[Effect] = []
    if judged.attempt is not None:
        version = _version(seen, asked)
        assert version is not None
        effects = [SubmitRun(_request(seen, asked, version, judged.attempt, _key(seen, asked)), aside=PUBLISHED)]
    if judged.withdraw:
        effects += ending
    return judged.verdict, effects


def _is_out(seen: Observed, asked: Publish) -> bool:
    version = _version(seen, asked)
    return version is not None and published_versions.is_out(
        published_versions.current(seen), version.digest, asked.url
    )


def _outcome(seen: Observed) -> Outcome:
    asked, publishing = seen.spec.publish, seen.publishing
    assert asked is not None
    key, told = _key(seen, asked), published_versions.result(seen)
    report = publishing.report
    if told is not None:
        # There is one report for all requests. It counts only if it is about the present one.
        report = replace(report, retry_key=told.retry) if told.retry == key else replace(report, result=None)
    return attempts.judge(
        PUBLISHED, publishing.run, report, retry_key=key, now=publishing.now or seen.now, looks_at_the_world=True
    )


def _gate(seen: Observed, asked: Publish) -> Verdict | None:
    """The condition that must be met before publishing begins, if one is not; else None."""
    version = _version(seen, asked)
    if version is None:
        return _refused(
            reasons.VERSION_NOT_LISTED,
            f"spec.publish.version: {asked.version} is not among status.versions; name one of those, or none for the newest",
        )
    if version.blocked:
        return _refused(reasons.QUALITY_FAILED, f"{version.digest} is not published: {version.blocked}")
    if not fair.is_enough(seen):
        least = seen.spec.fair.min_score if seen.spec.fair is not None else 0
        return Verdict(
            PUBLISHED,
            ConditionState.NOTED,
            reasons.FAIR_SCORE_TOO_LOW,
            f"not published, because spec.fair.minScore is {least}; the condition FairPassed says what would help",
        )
    said = _said(seen)
    if lacks := [name for name in _NEEDED if not getattr(said, name)]:
        fields = " and ".join(f"spec.metadata.{name}" for name in lacks)
        return _refused(reasons.METADATA_INCOMPLETE, f"not published without {fields}; set them in the Dataset")
    return None


def _refused(reason: reasons.Reason, message: str) -> Verdict:
    return Verdict(PUBLISHED, ConditionState.REFUSED, reason, message)


def _version(seen: Observed, asked: Publish) -> _Version | None:
    """The version that spec.publish asks for; None when it is not listed."""
    result = seen.result
    listed = removal.history(seen)
    entry = next((each for each in listed if each.version == (asked.version or result["version"])), None)
    if entry is None:
        return None
    if entry.version == result["version"]:
        verdict = quality.judge(seen.spec, result)
        blocked = verdict.message if verdict.state is ConditionState.REFUSED else None
    else:
        blocked = entry.blocked
    return _Version(entry.version, entry.uri, entry.created_at[:10], entry.task, blocked)


def _said(seen: Observed) -> Metadata:
    """The Dataset's metadata, with the DOI of the source that the version is derived from, which is known of the newest only."""
    asked, said = seen.spec.publish, seen.spec.metadata or Metadata()
    is_newest = asked is None or asked.version in {None, seen.result["version"]}
    return said.derived((seen.result.get("origin") or {}).get("doi")) if is_newest else said


def _base(seen: Observed, asked: Publish) -> str:
    """A digest of the request. When it changes, publishing begins again."""
    version = _version(seen, asked)
    told = {
        "version": version.digest if version is not None else None,
        "publish": asked.written(),
        "metadata": _said(seen).written(),
        "retry": seen.retry,
    }
    return digests.digest(told).removeprefix("sha256:")[:24]


def _key(seen: Observed, asked: Publish) -> str:
    """The retry key: the digest of the request and, if it failed and the pause is over, which try it is."""
    base, run = _base(seen, asked), seen.publishing.run
    if run is None or _given(run.retry_key) != base:
        return base
    return f"{base}@{moments.timestamp(run.finished_at)}" if run.finished_at and _left(seen) <= 0 else run.retry_key


def _given(key: str) -> str:
    found = _KEY.fullmatch(key)
    return found["given"] if found else key


def _left(seen: Observed) -> float:
    """Seconds until a failed publication is tried again; NEVER while it is in progress or if it did not fail."""
    run, report = seen.publishing.run, seen.publishing.report
    if run is None or run.state not in FINISHED or run.finished_at is None or report.result is not None:
        return NEVER
    is_given_up = report.failure is not None or run.attempts_with_key >= attempts.MAX_FAILURES
    if not is_given_up:
        return NEVER
    wait = max(PAUSES.get(str((report.failure or {}).get("reason")), PAUSE), min(_stuck_for(seen) / 24, LONGEST_PAUSE))
    return (run.finished_at + timedelta(seconds=wait) - (seen.publishing.now or seen.now)).total_seconds()


def _stuck_for(seen: Observed) -> float:
    """Seconds for which the publication has been stuck. The longer that is, the less often it is tried again."""
    known = seen.publishing.known
    since = moments.parse(known.stuck_since) if known is not None else None
    return ((seen.time_of_day or seen.now) - since).total_seconds() if since is not None else 0.0


def _there(seen: Observed) -> Verdict:
    known = published_versions.current(seen)
    assert known is not None
    where = " ".join(filter(None, (f"doi:{known.doi}" if known.doi else None, known.url)))
    note = f"; {known.note}" if known.note else ""
    if known.state == DRAFT:
        message = f"a draft is at {where}{note}; set spec.publish.zenodo.state to Published to publish it"
        return Verdict(PUBLISHED, ConditionState.NOTED, reasons.DRAFT_MADE, message)
    return Verdict(PUBLISHED, ConditionState.DONE, reasons.PUBLISHED, f"{known.version} is published: {where}{note}")


def _stuck_since(seen: Observed, verdict: Verdict) -> str | None:
    """Since when somebody has to act; None when nobody has to. A new try that is in progress does not reset it."""
    since = seen.publishing.known.stuck_since if seen.publishing.known is not None else None
    if verdict.state in {ConditionState.PROGRESSING, ConditionState.FAILING, ConditionState.UNKNOWN}:
        return since
    return since or moments.timestamp(seen.time_of_day or seen.now) if verdict.is_stuck else None


def _event(seen: Observed, told: Publication | None, verdict: Verdict, stuck: str | None) -> PostEvent | None:
    known = seen.publishing.known
    key = Key(kinds.DATASET.kind, seen.namespace, seen.name)
    if told is not None and told != published_versions.recorded(known) and published_versions.result(seen) is not None:
        reason = reasons.DRAFT_MADE if told.state == DRAFT else reasons.PUBLISHED
        where = " ".join(filter(None, (told.doi, told.url)))
        message = f"{told.version} of {seen.name}: {where}"
        return PostEvent(key, seen.uid, reason, message)
    if stuck is not None and (known is None or known.stuck_since is None):
        return PostEvent(key, seen.uid, STUCK, f"{verdict.reason}: {verdict.message}", warns=True)
    return None
