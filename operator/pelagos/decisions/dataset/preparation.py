"""The pipeline run that prepares a version: when to start, watch, repeat, end or give it up."""

from __future__ import annotations

import json
from dataclasses import replace

from pelagos.api import reasons
from pelagos.api.dataset import DatasetStatus, MadeFrom, Progress
from pelagos.decisions import attempts, limits, queueing, stages
from pelagos.decisions.attempts import Outcome
from pelagos.decisions.chains import Ended, Passed
from pelagos.decisions.dataset import identity, looking
from pelagos.decisions.dataset.conditions import PREPARED
from pelagos.decisions.dataset.identity import Inputs
from pelagos.decisions.dataset.observed import Observed
from pelagos.decisions.dataset.source import SOURCE_POLL
from pelagos.decisions.effects import CancelRun, Effect, SubmitRun
from pelagos.decisions.placing import place, threads
from pelagos.decisions.verdicts import ConditionState, Verdict
from pelagos.ports.pipelines import FINISHED, RunRequest, RunResources, SourceSecret
from pelagos_contract.flows import PREPARATION
from pelagos_contract.sources import SOURCES
from pelagos_contract.tags import RESOURCE_TAG

TIME_LIMIT = 24 * 3600
"""Seconds after which the cluster ends a preparation."""


def outcome(seen: Observed) -> Outcome:
    """What to do about the pipeline run. A new retry key makes it check the source again, even after a success."""
    if seen.is_gone and seen.run is not None and seen.run.state in FINISHED:
        message = "the source again has the content of a removed version; that version is prepared again"
        again = Verdict(PREPARED, ConditionState.PROGRESSING, reasons.RETRYING, message)
        return Outcome(again, attempt=seen.run.attempt + 1)
    judged = attempts.judge(
        PREPARED, seen.run, seen.report, retry_key=looking.key(seen), now=seen.now, looks_at_the_world=True
    )
    return attempts.moved(judged, seen.run, seen.spec.priority or seen.tenant.priority)


def superseded(seen: Observed) -> Passed:
    """Cancels runs whose versions nobody waits for any more."""
    return Passed(effects=tuple(CancelRun(old.name) for old in seen.superseded))


def suspended(seen: Observed) -> Ended | None:
    """Ends the chain if spec.suspend is set, and cancels the runs. Existing versions can still be trained on."""
    if not seen.spec.suspend:
        return None
    runs = seen.run is not None and seen.run.state not in FINISHED
    effects = (CancelRun(seen.run.name),) if seen.run is not None and runs else ()
    publishes = seen.publishing.run
    if publishes is not None and publishes.state not in FINISHED:
        effects = (*effects, CancelRun(publishes.name))
    message = "spec.suspend is true; set it to false to continue"
    return Ended((Verdict(PREPARED, ConditionState.PAUSED, reasons.SUSPENDED, message),), effects)


def limits_exceeded(seen: Observed) -> Ended | None:
    """Ends the chain before an attempt that exceeds the namespace's limits. Runs that exist were allowed when submitted."""
    excess = limits.exceeded(0, seen.spec.resources.queue, seen.tenant, priority=seen.spec.priority)
    judged = outcome(seen)
    if excess is None or (judged.attempt is None and not judged.withdraw):
        return None
    message, state = excess.message, ConditionState.REFUSED
    if judged.withdraw:
        message, state = f"{message}. The waiting run is left as it is", ConditionState.FAILING
    return Ended((Verdict(PREPARED, state, excess.reason, message),), recheck_after=SOURCE_POLL)


def made_by_former_values(seen: Observed) -> Ended | None:
    """Ends the chain if an attempt is due and an upgrade has changed its inputs.

    What exists stays as it was made, but anything new is made by the present defaults and algorithms. The new digest goes into
    status first, and the next pass looks for the run of that name.
    """
    if outcome(seen).attempt is None or seen.inputs.digest == seen.now_inputs.digest:
        return None
    noted = made_from(seen, seen.now_inputs)
    status = DatasetStatus(inputs_digest=seen.now_inputs.digest, made_from=noted)
    again = Verdict(PREPARED, ConditionState.PROGRESSING, reasons.MADE_AGAIN, noted.reason or "")
    return Ended((again,), status=status, recheck_after=0)


def inputs_published(seen: Observed) -> Passed:
    """Publishes the inputs of the run, and where its version goes."""
    status = DatasetStatus(
        store=seen.store,
        inputs_digest=seen.inputs.digest,
        made_from=made_from(seen, seen.inputs),
        storage_prefix=seen.tenant.storage_prefix,
        storage_seal=seen.storage_seal,
    )
    return Passed(status=status)


def run_published(seen: Observed) -> Passed | None:
    """Publishes the run and, once it has ended, its outcome, in case the engine forgets it."""
    if seen.run is None:
        return None
    run = seen.run
    return Passed(status=DatasetStatus(pipeline_run=attempts.status_of(run), queue=queueing.shown(run)))


def progress_published(seen: Observed) -> Passed | None:
    """Publishes the progress, for people only."""
    if seen.run is None:
        return None
    told, found = seen.told, stages.shown(seen.told, seen.stated, seen.run, seen.time_of_day or seen.now)
    if told is not None and stages.current(told, seen.run) is not None:
        found |= {"images_done": told.done, "images_total": told.total}
        found |= {"bytes_done": told.bytes_done, "bytes_total": told.bytes_total}
    made = Progress(**found)
    return Passed(status=DatasetStatus(progress=made if made.written() else None))


def attempt_due(seen: Observed) -> Passed:
    """Submits an attempt that is due. Cancels a run that waits for something that is no longer requested."""
    judged, effects = outcome(seen), list[Effect]()
    if judged.attempt is not None:
        effects.append(SubmitRun(_request(seen, judged.attempt)))
    if judged.withdraw and seen.run is not None:
        effects.append(CancelRun(seen.run.name))
    return Passed(effects=tuple(effects))


def without_result(seen: Observed) -> Ended | None:
    """Ends the chain while the run has no result: it is in progress, has failed, or was given up."""
    judged = outcome(seen)
    if judged.succeeded and seen.report.result is not None:
        return None
    verdict, stage = stages.located(judged.verdict, seen.told), stages.current(seen.told, seen.run)
    if stage is not None and verdict.reason == reasons.RUNNING:
        verdict = replace(verdict, message=stages.beside(seen.run, stage.words))
    return Ended((verdict,), recheck_after=judged.recheck_after or SOURCE_POLL)


def made_from(seen: Observed, inputs: Inputs) -> MadeFrom:
    """The inputs of a run in the form that status and records keep."""
    return MadeFrom(
        generation=seen.generation,
        recipe=dict(inputs.recipe),
        algorithms=dict(inputs.algorithms),
        reason=identity.reason(seen.earlier, seen.inputs, inputs),
    )


def _request(seen: Observed, number: int) -> RunRequest:
    retry, source = looking.key(seen), seen.spec.source
    request = identity.request(seen.spec) | ({"retry": retry} if retry else {})
    parameters = {
        "request": json.dumps(request, sort_keys=True),
        "data_root": seen.data_root,
        "store": seen.store,
        "report": seen.report_folder,
    }
    return RunRequest(
        name=identity.name_run(seen.uid, seen.inputs.digest),
        flow=PREPARATION.name,
        parameters=parameters,
        attempt=number,
        retry_key=retry,
        secret=SourceSecret(source.secret, SOURCES.named(source.place).keys) if source.secret else None,
        resources=RunResources(
            cpu=threads(seen.spec.resources),
            placement=place(seen.spec.resources, seen.tenant.queue),
            time_limit=TIME_LIMIT,
            priority=seen.spec.priority or seen.tenant.priority,
        ),
        namespace=seen.namespace,
        tenant=seen.tenant,
        labels={"pelagos.dev/uid": seen.uid, RESOURCE_TAG: f"dataset/{seen.namespace}/{seen.name}"},
    )
