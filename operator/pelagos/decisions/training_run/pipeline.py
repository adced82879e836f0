"""The pipeline run of a training: when to start, watch, repeat, end or give it up."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace

from pelagos.api import reasons
from pelagos.api.training_run import TrainingRunStatus
from pelagos.decisions import attempts, durations, moments, queueing, stages
from pelagos.decisions.chains import Ended, Passed
from pelagos.decisions.effects import CancelRun, CreateTrackedRun, Effect, SubmitRun
from pelagos.decisions.placing import place, threads
from pelagos.decisions.training_run import attempt, champions, identity, objections, progress, tracking
from pelagos.decisions.training_run.conditions import DATASET_POLL, OUTAGE_POLL, REFUSED_POLL, succeeded
from pelagos.decisions.training_run.observed import Observed
from pelagos.decisions.verdicts import Verdict
from pelagos.ports.pipelines import FINISHED, RunRequest, RunResources, SourceSecret
from pelagos_contract import families
from pelagos_contract.flows import TRAINING
from pelagos_contract.metadata import Metadata
from pelagos_contract.model_card import MOST_CREATORS, About, DatasetSaid
from pelagos_contract.progress import Stage
from pelagos_contract.tags import RESOURCE_TAG
from pelagos_contract.weights_and_biases import API_KEY, USUAL_URL, Mode, WandbRequest

_REASONS: Mapping[Stage, reasons.Reason] = {
    Stage.SEARCH: reasons.SEARCHING,
    Stage.TRAINING: reasons.TRAINING,
    Stage.LEAVE_ONE_OUT: reasons.TRAINING,
    Stage.EVALUATION: reasons.EVALUATING,
    Stage.EXPORT: reasons.EXPORTING,
}
DEADLINE_GRACE = 600
"""Seconds after spec.deadline until the cluster ends the run. By then the operator should have ended it, and reported why."""


def futile_before_a_run(seen: Observed) -> Ended | None:
    """Ends the chain, before anything is created, if a training would fail. attempt.OBJECTIONS judge further attempts."""
    if seen.run is not None or seen.report.result is not None:
        return None
    futile = objections.futile(seen)
    return Ended((futile,), recheck_after=DATASET_POLL) if futile is not None else None


def unjudgeable_before_a_run(seen: Observed) -> Ended | None:
    """Ends the chain, before anything is created, if no model could pass the gates. After the dataset, whose classes count."""
    if seen.run is not None or seen.report.result is not None:
        return None
    lacking = objections.unjudgeable(seen)
    return Ended((lacking,), recheck_after=DATASET_POLL) if lacking is not None else None


def run_published(seen: Observed) -> Passed | None:
    """Publishes the run and, once it has ended, its outcome, in case the engine forgets it."""
    if seen.run is None:
        return None
    run = seen.run
    return Passed(status=TrainingRunStatus(pipeline_run=attempts.status_of(run), queue=queueing.shown(run)))


def start_published(seen: Observed) -> Passed | None:
    """Publishes when the last attempt began."""
    if seen.run is None or seen.run.started_at is None:
        return None
    return Passed(status=TrainingRunStatus(started_at=moments.timestamp(seen.run.started_at)))


def end_published(seen: Observed) -> Passed | None:
    """Publishes when the run ended. While another attempt is in progress, status keeps the end of the one before."""
    if seen.run is None or seen.run.finished_at is None:
        return None
    return Passed(status=TrainingRunStatus(finished_at=moments.timestamp(seen.run.finished_at)))


def attempt_untracked(seen: Observed) -> Ended | None:
    """Ends the chain if an attempt is due without a tracked run, whose id its request needs, and creates that first."""
    judged = attempt.outcome(seen)
    if judged.attempt is None or seen.tracked is not None:
        return None
    if seen.tracking_outage is not None:
        return Ended((judged.verdict,), recheck_after=OUTAGE_POLL)
    return Ended((judged.verdict,), (CreateTrackedRun(tracking.wanted(seen)),), recheck_after=0)


def attempt_due(seen: Observed) -> Passed:
    """Submits an attempt that is due. Cancels a run that is late, or waits for something that is no longer requested."""
    judged, effects = attempt.outcome(seen), list[Effect]()
    is_late = judged.verdict.reason == reasons.DEADLINE_EXCEEDED
    if seen.run is not None and (judged.withdraw or (is_late and seen.run.state not in FINISHED)):
        effects.append(CancelRun(seen.run.name))
    if judged.attempt is not None and seen.tracked is not None:
        effects.append(SubmitRun(_request(seen, seen.tracked.id, judged.attempt)))
        made_by = dict(seen.keyed.made_by_now)
        return Passed(effects=tuple(effects), status=TrainingRunStatus(algorithms=made_by))
    return Passed(effects=tuple(effects))


def progress_published(seen: Observed) -> Passed | None:
    """Publishes the progress, for people only: anyone who can write to MLflow can change metrics."""
    if seen.run is None:
        return None
    made = progress.progress_of(seen)
    return Passed(
        status=TrainingRunStatus(
            progress=made if made.written() else None,
            seeds=progress.seeds_of(seen) or None,
            search=progress.search_of(seen),
            leave_one_out=progress.left_out_of(seen),
        )
    )


def without_result(seen: Observed) -> Ended | None:
    """Ends the chain while the run has no result: it is in progress, has failed, or was given up. Succeeded follows from that."""
    judged = attempt.outcome(seen)
    if judged.succeeded and seen.report.result is not None:
        return None
    verdict = stages.located(judged.verdict, seen.told)
    if verdict.reason == reasons.RUNNING:
        verdict = _what_it_does(seen, verdict)
    if judged.attempt is not None and seen.upgrade:
        verdict = replace(verdict, reason=reasons.MADE_AGAIN, message=f"made again because {seen.upgrade}")
    return Ended(
        (verdict, succeeded(verdict)), recheck_after=REFUSED_POLL if verdict.is_stuck else judged.recheck_after
    )


def _what_it_does(seen: Observed, verdict: Verdict) -> Verdict:
    """The verdict with the stage that the run is in. Steps of earlier releases report none; then it is about the last epoch."""
    stage, last, made = stages.current(seen.told, seen.run), stages.last_ended(seen.told), progress.progress_of(seen)
    if stage is None and seen.published is not None and champions.references(seen.spec):
        # It has a result already, so this attempt only compares it again.
        said = stages.beside(seen.run, "the model is compared with the present champion")
        return replace(verdict, reason=reasons.COMPARING, message=said)
    if stage is None and last is not None:
        said = f"the stage {last} has ended; the next has not started"
        return replace(verdict, reason=_REASONS.get(last, verdict.reason), message=stages.beside(seen.run, said))
    if stage in {None, Stage.TRAINING} and made.epoch is not None:
        said = stages.beside(seen.run, f"epoch {made.epoch} of {made.epochs}")
        return replace(verdict, reason=reasons.TRAINING, message=said)
    if stage is Stage.SEARCH and seen.told is not None and seen.told.search is not None:
        said = stages.beside(seen.run, progress.searched(progress.search_status(seen.told.search)))
        return replace(verdict, reason=reasons.SEARCHING, message=said)
    if stage is None:
        return verdict
    return replace(verdict, reason=_REASONS.get(stage, verdict.reason), message=stages.beside(seen.run, stage.words))


def about(seen: Observed) -> About:
    """Facts about the model and its dataset for the model's documents. They have no effect on the training."""
    said, version = seen.dataset.metadata, seen.keyed.dataset
    doi = seen.dataset.dois.get(version.version)
    dataset = None
    if said is not None or doi is not None:
        known = said or Metadata()
        dataset = DatasetSaid(
            title=known.title,
            creators=[party.name for party in known.creators[:MOST_CREATORS]],
            license=known.license,
            doi=doi,
            identifier=known.identifier,
        )
    return About(resource=f"{seen.namespace}/{seen.name}", card=seen.spec.card, dataset=dataset)


def _request(seen: Observed, tracked_id: str, number: int) -> RunRequest:
    inputs, dataset = seen.keyed.spec.written(), seen.keyed.dataset
    chosen = inputs["hyperparameters"]
    chosen.setdefault("imageSize", families.image_size(inputs["model"]["architecture"]))
    gpus = seen.spec.resources.gpus
    request = {
        "dataset": {"name": dataset.name, "version": dataset.version, "uri": dataset.uri},
        "task": dataset.task,
        "model": inputs["model"],
        "hyperparameters": chosen,
        "earlyStopping": inputs.get("earlyStopping"),
        "seed": inputs["seeds"][0],
        "resources": {"cpu": threads(seen.spec.resources)} | ({"gpus": gpus} if gpus > 1 else {}),
        "evaluation": inputs["evaluation"],
        "about": about(seen).written(),
    }
    if len(inputs["seeds"]) > 1:
        request["seeds"] = inputs["seeds"]
    if "search" in inputs:
        request["search"] = inputs["search"]
    if compared := champions.requested(seen):
        request["champions"] = compared
    wandb = seen.keyed.spec.tracking.wandb
    is_online = wandb is not None and wandb.mode is Mode.ONLINE
    if wandb is not None:
        request["wandb"] = WandbRequest(
            project=wandb.project,
            entity=wandb.entity,
            name=seen.name,
            url=(wandb.url or USUAL_URL) if is_online else "",
        ).written()
    parameters = {"request": json.dumps(request, sort_keys=True), "tracking_run": tracked_id} | dict(seen.paths)
    return RunRequest(
        name=identity.name_run(seen.uid, seen.keyed),
        flow=TRAINING.name,
        parameters=parameters | {"tracking_uri": seen.tracking_uri},
        attempt=number,
        retry_key=seen.retry_key,
        resources=RunResources(
            cpu=threads(seen.spec.resources),
            placement=place(seen.spec.resources, seen.tenant.queue),
            time_limit=int(durations.seconds(seen.spec.deadline)) + DEADLINE_GRACE,
            priority=seen.spec.priority or seen.tenant.priority,
        ),
        namespace=seen.namespace,
        tenant=seen.tenant,
        secret=SourceSecret(wandb.secret_ref.name, ((API_KEY,),)) if is_online and wandb and wandb.secret_ref else None,
        labels={"pelagos.dev/uid": seen.uid, RESOURCE_TAG: f"trainingrun/{seen.namespace}/{seen.name}"},
    )
