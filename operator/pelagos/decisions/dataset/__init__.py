"""What must hold next for a Dataset."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from pelagos.api import reasons
from pelagos.decisions import attempts, bounds, durations, gates, limits, rules
from pelagos.decisions.dataset.identity import inputs_digest, name_run, recipe
from pelagos.decisions.dataset.observed import Observed
from pelagos.decisions.effects import CancelRun, Effect, KeepRecord, SubmitRun
from pelagos.decisions.placing import place
from pelagos.decisions.verdicts import ConditionState, Decision, Verdict, obstacle
from pelagos.ports.pipelines import FINISHED, RunRequest, RunResources
from pelagos.ports.volumes import Fingerprint

SOURCE_RESOLVED = "SourceResolved"
PREPARED = "Prepared"
CONDITIONS = (SOURCE_RESOLVED, PREPARED)

KEPT_VERSIONS = 10
SOURCE_POLL = 10.0
"""Seconds between two looks at a source that is missing or refused: whoever corrects it need not tell us."""
TIME_LIMIT = 24 * 3600
"""Seconds after which a cluster ends a preparation by itself."""
SHORTEST_REFRESH = 1.0
"""Seconds between two looks at a source that is well, whatever spec.refresh says."""


def decide(seen: Observed) -> Decision:
    """Name what must hold next; touch nothing."""
    stale: tuple[Effect, ...] = tuple(CancelRun(old.name) for old in seen.superseded)
    broken = rules.violation(seen.spec)
    if broken:
        return _refuse(Verdict(SOURCE_RESOLVED, ConditionState.REFUSED, reasons.INVALID_SPEC, broken), stale)
    if seen.spec.suspend:
        return _suspend(seen, stale)
    if seen.source_error is not None:
        return _refuse(
            Verdict(SOURCE_RESOLVED, ConditionState.REFUSED, reasons.SOURCE_REJECTED, seen.source_error), stale
        )
    if seen.fingerprint is None:
        return _refuse(_source_missing(seen), stale)
    if seen.fingerprint.files == 0:
        path = seen.spec.source.volume.path
        message = f'spec.source.volume.path: "{path}" holds no files yet ({seen.data_root}). Put the images there'
        return _refuse(obstacle(SOURCE_RESOLVED, reasons.SOURCE_EMPTY, message), stale)
    return _prepare(seen, seen.fingerprint, stale)


def _prepare(seen: Observed, fingerprint: Fingerprint, stale: tuple[Effect, ...]) -> Decision:
    digest = inputs_digest(seen.spec, fingerprint)
    resolved = Verdict(
        SOURCE_RESOLVED,
        ConditionState.DONE,
        reasons.FOUND,
        f"{fingerprint.files} files at {seen.spec.source.volume.path}",
    )
    outcome = attempts.judge(
        PREPARED, seen.run, seen.report, retry_key=seen.retry, now=seen.now, looks_at_the_world=True
    )
    excess = limits.exceeded(0, seen.spec.resources.queue, seen.tenant)
    if excess is not None and outcome.attempt is not None:  # What runs or waits was allowed when submitted, and stays.
        return _refuse(Verdict(PREPARED, ConditionState.REFUSED, excess.reason, excess.message), stale)
    effects: tuple[Effect, ...] = stale
    if outcome.attempt is not None:
        effects = (*stale, SubmitRun(_request(seen, digest, outcome.attempt)))
    if outcome.withdraw and seen.run is not None:
        effects = (*stale, CancelRun(seen.run.name))
    status: dict[str, Any] = {
        "store": seen.store,
        "inputsDigest": digest,
        "storagePrefix": seen.tenant.storage_prefix,
        "storageSeal": seen.storage_seal,
    }
    if seen.run is not None:
        status["pipelineRun"] = attempts.told(seen.run)
    if not outcome.succeeded or seen.report.result is None:
        again = outcome.recheck_after or SOURCE_POLL
        return Decision((resolved, outcome.verdict), effects, status, again)
    result = seen.report.result
    status |= {key: result[key] for key in ("version", "uri", "images", "annotations", "splits", "quality")}
    listed = {"classes": result["classes"], "excluded": result.get("excluded") or None}
    status |= bounds.bounded(listed | {"warnings": result.get("warnings") or None}, seen.record.uri)
    # A result of before has no files.
    status |= {"files": result.get("files") or None, "classCount": len(result["classes"])}
    status |= {"task": seen.spec.task, "versions": _history(seen, result)}
    prepared = replace(outcome.verdict, reason=reasons.VERSION_READY, message=_describe(result))
    ready = Verdict("Ready", ConditionState.DONE, reasons.VERSION_READY, _describe(result))
    effects += _record(seen, result, status)
    again = max(durations.seconds(seen.spec.refresh), SHORTEST_REFRESH)
    return Decision((resolved, prepared), effects, status, again, ready)


def _record(seen: Observed, result: Mapping[str, Any], status: dict[str, Any]) -> tuple[Effect, ...]:
    """Keep the version on record, with the history that it ends, unless it is."""
    status["record"] = seen.record.uri
    if seen.record.is_kept:
        return ()
    made = {"versions": list(status["versions"]), "store": seen.store, "result": dict(result)}
    retry_key = seen.run.retry_key if seen.run is not None else seen.retry
    record = {**seen.record.of, **made, "retryKey": retry_key}
    return (KeepRecord(seen.record.path, record), KeepRecord(seen.record.newest, record))


def _request(seen: Observed, digest: str, attempt: int) -> RunRequest:
    request = recipe(seen.spec) | ({"retry": seen.retry} if seen.retry else {})
    parameters = {
        "request": json.dumps(request, sort_keys=True),
        "data_root": seen.data_root,
        "store": seen.store,
        "report": seen.report_folder,
    }
    return RunRequest(
        name=name_run(seen.uid, digest),
        flow="dataset-preparation",
        parameters=parameters,
        attempt=attempt,
        retry_key=seen.retry,
        resources=RunResources(
            cpu=seen.spec.resources.cpu, placement=place(seen.spec.resources, seen.tenant.queue), time_limit=TIME_LIMIT
        ),
        namespace=seen.namespace,
        tenant=seen.tenant,
        labels={"pelagos.dev/uid": seen.uid, "pelagos.dev/resource": f"dataset/{seen.namespace}/{seen.name}"},
    )


def _history(seen: Observed, result: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Versions newest first. Content that comes back moves to the front again."""
    if seen.history and seen.history[0]["version"] == result["version"]:
        return list(seen.history)[:KEPT_VERSIONS]
    reason = "first version" if not seen.history else "the source or the recipe changed"
    entry = {
        "version": result["version"],
        "createdAt": gates.timestamp(seen.time_of_day or seen.now),
        "images": result["images"],
        "uri": result["uri"],
        "task": seen.spec.task,
        "reason": reason,
    }
    return [entry, *(old for old in seen.history if old["version"] != result["version"])][:KEPT_VERSIONS]


def _describe(result: Any) -> str:
    splits = ", ".join(f"{name} {count['images']}" for name, count in result["splits"].items())
    return f"{result['images']} images in {len(result['classes'])} classes ({splits})"


def _source_missing(seen: Observed) -> Verdict:
    path = seen.spec.source.volume.path
    message = (
        f'spec.source.volume.path: "{path}" does not exist yet on the data volume ({seen.data_root}). '
        "Put the images there, or correct the path; this is looked at again every few seconds"
    )
    return obstacle(SOURCE_RESOLVED, reasons.SOURCE_NOT_FOUND, message)


def _refuse(verdict: Verdict, stale: tuple[Effect, ...]) -> Decision:
    return Decision((verdict,), stale, recheck_after=SOURCE_POLL)


def _suspend(seen: Observed, stale: tuple[Effect, ...]) -> Decision:
    effects = stale
    if seen.run is not None and seen.run.state not in FINISHED:
        effects = (*stale, CancelRun(seen.run.name))
    return Decision(
        (
            Verdict(
                PREPARED, ConditionState.PAUSED, reasons.SUSPENDED, "spec.suspend is true; set it to false to go on"
            ),
        ),
        effects,
    )
