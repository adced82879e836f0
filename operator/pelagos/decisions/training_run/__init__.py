"""What must hold next for a TrainingRun."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

from pelagos.api import reasons
from pelagos.api.training_run import CLASSIFIERS, DETECTORS, Evaluation, Register
from pelagos.decisions import attempts, durations, gates, limits, rules
from pelagos.decisions.effects import (
    CancelRun,
    CreateTrackedRun,
    Effect,
    KeepRecord,
    RegisterModel,
    SealTrackedRun,
    SetOutcome,
    SubmitRun,
)
from pelagos.decisions.placing import place
from pelagos.decisions.reports import Report
from pelagos.decisions.training_run.identity import DatasetVersion, Frozen, changed, inputs, name_run
from pelagos.decisions.training_run.observed import Observed
from pelagos.decisions.verdicts import ConditionState, Decision, Verdict, obstacle
from pelagos.ports import registry, tracking
from pelagos.ports.pipelines import FINISHED, RunRequest, RunResources, RunState
from pelagos.ports.tenants import Tenant

DATASET_READY = "DatasetReady"
TRACKED = "Tracked"
EVALUATED = "Evaluated"
GATES_PASSED = "GatesPassed"
REGISTERED = "Registered"
SUCCEEDED = "Succeeded"
CONDITIONS = (DATASET_READY, TRACKED, EVALUATED, GATES_PASSED, REGISTERED, SUCCEEDED)

DATASET_POLL = 15.0
STUCK = (ConditionState.REFUSED, ConditionState.WAITING)
"""What others must bring or correct is looked at every few seconds."""
OUTAGE_POLL = 5.0
"""Seconds between two looks at a tracking server or registry that does not answer."""
DEADLINE_GRACE = 600
"""Seconds after spec.deadline when a cluster ends a run by itself: the operator, which says why, comes first."""
TRACKED_RUN_MISSING = (
    "there is no tracked run under this operator's seal any more (deleted, or sealed with a key that is gone), and the model is "
    "registered from it. Restore the run in MLflow, or create a new TrainingRun"
)
OWNED_ELSEWHERE = (
    'spec.register.model: the registered model "%s" belongs to another namespace. Choose another name, '
    "or have the platform name both namespaces as sharing"
)
DIGEST_TAG = "pelagos.dev/inputs-digest"
INPUTS_TAG = "pelagos.dev/inputs"
DATASET_TAG = "pelagos.dev/dataset"
STORAGE_TAG = "pelagos.dev/storage-prefix"


def decide(seen: Observed) -> Decision:
    """Name what must hold next; touch nothing."""
    if _is_orphan(seen):  # Made again, unless MLflow cannot be asked now.
        seen = replace(seen, report=Report(), tracking_outage=seen.tracking_outage or seen.registry_outage)
    return _decide(seen)


def _decide(seen: Observed) -> Decision:
    broken = rules.violation(seen.spec)
    if broken is None and seen.frozen is not None:
        broken = changed(seen.frozen, seen.spec)
        if broken:
            return _refuse(seen, Verdict(DATASET_READY, ConditionState.REFUSED, reasons.SPEC_IMMUTABLE, broken))
    if broken:
        return Decision((Verdict(DATASET_READY, ConditionState.REFUSED, reasons.INVALID_SPEC, broken),))
    excess = _excess(seen)
    if (
        excess and seen.run is None
    ):  # Before anything else is made for it; further attempts are judged in _within_limits.
        refused = Verdict(DATASET_READY, ConditionState.REFUSED, excess.reason, excess.message)
        return Decision((refused,), recheck_after=DATASET_POLL)
    if seen.outside:
        return _refuse(
            seen, Verdict(DATASET_READY, ConditionState.REFUSED, reasons.DATASET_OUTSIDE_NAMESPACE, seen.outside)
        )
    if seen.spec.suspend and seen.report.result is None:
        return _suspend(seen)
    futile = _futile(seen) if seen.run is None and seen.report.result is None else None
    if futile is not None:  # Before anything is made for it; further attempts are judged in _within_limits.
        return Decision((futile,), recheck_after=DATASET_POLL)
    frozen = seen.frozen
    if frozen is None:
        verdict = _resolve(seen)
        if verdict.stops or seen.dataset.candidate is None:
            return Decision((verdict,), recheck_after=DATASET_POLL)
        frozen = Frozen(inputs(seen.spec), seen.dataset.candidate)
    resolved = Verdict(
        DATASET_READY,
        ConditionState.DONE,
        reasons.VERSION_FROZEN,
        f"{frozen.dataset.name} at {frozen.dataset.version[:19]}",
    )
    return _track(seen, frozen, resolved)


def _is_orphan(seen: Observed) -> bool:
    """Whether the result is on record from a former life, and the tracked run that it would be registered from is gone."""
    result, register = seen.report.result, seen.spec.register_
    if seen.recorded_run is None or result is None or register is None or seen.version is not None or seen.published:
        return False
    if seen.tracked is not None and seen.tracked.id == seen.recorded_run:
        return False
    return not gates.evaluate(seen.spec.gates, result["metrics"])[1].stops


def _resolve(seen: Observed) -> Verdict:
    reference = seen.spec.dataset_ref
    if not seen.dataset.exists:
        message = f'spec.datasetRef.name: there is no Dataset "{reference.name}" in namespace {seen.namespace} yet'
        return obstacle(DATASET_READY, reasons.DATASET_NOT_FOUND, message)
    if reference.version != "latest" and seen.dataset.candidate is None and seen.dataset.ready:
        known = ", ".join(seen.dataset.known_versions) or "none"
        message = (
            f"spec.datasetRef.version: {reference.version} is not a version of {reference.name} yet; known: {known}"
        )
        return obstacle(DATASET_READY, reasons.DATASET_VERSION_UNKNOWN, message)
    if seen.dataset.candidate is None:
        message = f"Dataset {reference.name} is not Ready: {seen.dataset.message}"
        return obstacle(DATASET_READY, reasons.DATASET_NOT_READY, message)
    return _fits(seen, seen.dataset.candidate)


def _fits(seen: Observed, candidate: DatasetVersion) -> Verdict:
    architecture = seen.spec.model.architecture
    fitting = DETECTORS if candidate.task == "Detection" else CLASSIFIERS
    if architecture not in fitting:
        message = (
            f"spec.model.architecture: {architecture} does not fit Dataset {candidate.name}, whose task is {candidate.task}; "
            f"allowed: {', '.join(sorted(fitting))}. Create a new TrainingRun with one of them"
        )
        return Verdict(DATASET_READY, ConditionState.REFUSED, reasons.TASK_MISMATCH, message)
    if seen.dataset.empty_splits:
        message = (
            f"spec.datasetRef: {candidate.version[:19]} of Dataset {candidate.name} has no images in the split "
            f"{' and '.join(seen.dataset.empty_splits)}; training needs train, validation and test. Give each a share in "
            "spec.split.ratios of the Dataset, or add images; its next version is looked at by itself"
        )
        return Verdict(DATASET_READY, ConditionState.REFUSED, reasons.SPLIT_IMPOSSIBLE, message)
    return Verdict(DATASET_READY, ConditionState.DONE, reasons.VERSION_FROZEN, "")


def _track(seen: Observed, frozen: Frozen, resolved: Verdict) -> Decision:
    status = _frozen_status(seen, frozen)
    if seen.tracked is None and seen.run is None and seen.report.result is None:
        if seen.tracking_outage is not None:
            unknown = Verdict(TRACKED, ConditionState.UNKNOWN, reasons.TRACKING_UNAVAILABLE, seen.tracking_outage)
            # An earlier pass may have frozen other inputs in a tracked run that cannot be seen now.
            return Decision((resolved, unknown), (), status if seen.frozen else {}, OUTAGE_POLL)
        verdict = Verdict(TRACKED, ConditionState.PROGRESSING, reasons.CREATING, "the tracked run is being created")
        return Decision((resolved, verdict), (CreateTrackedRun(_tracked_want(seen, frozen)),), status, 0)
    if seen.tracked is None:
        reason = reasons.TRACKING_UNAVAILABLE if seen.tracking_outage else reasons.TRACKED_RUN_MISSING
        tracked = Verdict(
            TRACKED,
            ConditionState.NOTED,
            reason,
            seen.tracking_outage or "there is no tracked run under our seal any more",
        )
    else:
        tracked = Verdict(TRACKED, ConditionState.DONE, reasons.RUN_CREATED, f"MLflow run {seen.tracked.id}")
        status["tracking"] = {
            "experiment": seen.tracked.experiment,
            "run": seen.tracked.id,
            "url": seen.tracked.url,
            "seal": seen.tracked_seal,
        }
    return _train(seen, frozen, (resolved, tracked), status)


def _train(seen: Observed, frozen: Frozen, before: tuple[Verdict, ...], status: dict[str, Any]) -> Decision:
    outcome = attempts.judge(EVALUATED, seen.run, seen.report, retry_key=seen.retry_key, now=seen.now)
    effects: list[Effect] = []
    if seen.run is not None:
        status |= gates.run_status(seen.run)
    outcome = _within_limits(seen, outcome)
    late = _deadline_exceeded(seen)
    if late:
        effects += [CancelRun(seen.run.name)] if seen.run and seen.run.state not in FINISHED else []
        outcome = attempts.Outcome(
            Verdict(EVALUATED, ConditionState.REFUSED, reasons.DEADLINE_EXCEEDED, late), recheck_after=None
        )
    if outcome.attempt is not None:
        if seen.tracked is None:  # Without the id of the tracked run nothing can be launched.
            if seen.tracking_outage is not None:
                return Decision((*before, outcome.verdict), (), status, OUTAGE_POLL)
            return Decision((*before, outcome.verdict), (CreateTrackedRun(_tracked_want(seen, frozen)),), status, 0)
        effects.append(SubmitRun(_request(seen, frozen, seen.tracked.id, outcome.attempt)))
    if outcome.withdraw and seen.run is not None:
        effects.append(CancelRun(seen.run.name))
    effects += _tracked_outcome(seen, outcome)
    if seen.report.failure is not None and gates.metrics(seen.report.failure):  # It failed after the evaluation.
        status |= gates.figures(seen.report.failure)
    progress = gates.progress(seen.tracked, seen.spec.hyperparameters.epochs, seen.run, seen.time_of_day or seen.now)
    if progress:
        status["progress"] = progress
    if outcome.succeeded and seen.report.result is not None:
        return _gates(seen, seen.report.result, (*before, outcome.verdict), effects, status)
    verdict = _with_progress(outcome.verdict, progress)
    verdicts = (*before, verdict, *_succeeded(verdict))
    pause = outcome.recheck_after if verdict.state not in STUCK else gates.REFUSED_POLL
    return Decision(verdicts, tuple(effects), status, pause)


def _within_limits(seen: Observed, outcome: attempts.Outcome) -> attempts.Outcome:
    """No further attempt beyond what the namespace may have. What runs or waits was allowed when submitted, and stays."""
    excess, futile = _excess(seen), _futile(seen)
    if futile is not None and outcome.attempt is not None:
        return attempts.Outcome(replace(futile, type=EVALUATED), recheck_after=DATASET_POLL)
    if excess is None or not (outcome.withdraw or outcome.attempt is not None):
        return outcome
    message, state = excess.message, ConditionState.REFUSED
    if outcome.withdraw:
        message, state = f"{message}. The run that waits stays as it is", ConditionState.FAILING
    return attempts.Outcome(Verdict(EVALUATED, state, excess.reason, message), recheck_after=DATASET_POLL)


def _futile(seen: Observed) -> Verdict | None:
    """Why a training cannot lead to anything, where that is known beforehand."""
    weights = seen.spec.model.weights
    if weights is not None and seen.weights_missing:
        message = f'spec.model.weights.path: "{weights.path}" does not exist yet on the data volume. Put the file there'
        return obstacle(EVALUATED, reasons.CHECKPOINT_NOT_FOUND, message)
    return _owned_elsewhere(seen)


def _owned_elsewhere(seen: Observed) -> Verdict | None:
    """That the model to register in belongs to others, as far as the registry could be asked."""
    ours, register = {seen.namespace, *_sharing(seen.tenant)}, seen.spec.register_
    if register is None or seen.version is not None or not seen.model_owners or seen.model_owners & ours:
        return None
    return obstacle(REGISTERED, reasons.MODEL_OWNED_BY_OTHER_NAMESPACE, OWNED_ELSEWHERE % register.model)


def _excess(seen: Observed) -> limits.Excess | None:
    return limits.exceeded(seen.spec.resources.gpus, seen.spec.resources.queue, seen.tenant)


def _gates(
    seen: Observed,
    result: Mapping[str, Any],
    before: tuple[Verdict, ...],
    effects: list[Effect],
    status: dict[str, Any],
) -> Decision:
    model = result["model"]
    status |= gates.figures(result)
    # Trainings before packages were data alone named no manifest: their packages cannot be served.
    status["model"] = {name: model[name] for name in ("uri", "onnxSha256", "manifestSha256") if name in model}
    effects += _record(seen, result, status)
    evaluated = replace(before[-1], reason=reasons.EVALUATED, message=f"on the test split: {status['primaryMetric']}")
    status["gates"], passed = gates.evaluate(seen.spec.gates, result["metrics"])
    verdicts = (*before[:-1], evaluated, passed)
    if passed.stops:
        return Decision((*verdicts, *_succeeded(passed)), tuple(effects), status, gates.REFUSED_POLL)
    return _register(seen, model, verdicts, effects, status)


def _record(seen: Observed, result: Mapping[str, Any], status: dict[str, Any]) -> list[Effect]:
    """Keep the result on record, unless it is, or it cannot be determined now which tracked run it belongs to."""
    if seen.record.is_kept:
        status["record"] = seen.record.uri
        return []
    if seen.tracking_outage is not None:
        return []
    status["record"] = seen.record.uri
    run = seen.tracked.id if seen.tracked is not None else seen.recorded_run
    made = {"createdAt": gates.timestamp(seen.time_of_day or seen.now), "result": dict(result), "trackedRun": run}
    return [KeepRecord(seen.record.path, {**seen.record.of, **made})]


def _register(
    seen: Observed, model: Mapping[str, Any], before: tuple[Verdict, ...], effects: list[Effect], status: dict[str, Any]
) -> Decision:
    done = Verdict(SUCCEEDED, ConditionState.DONE, reasons.COMPLETED, status["primaryMetric"])
    ready = Verdict("Ready", ConditionState.DONE, reasons.COMPLETED, status["primaryMetric"])
    again = OUTAGE_POLL if seen.tracking_outage else None  # The tracked run has yet to be told how it ended.
    if seen.spec.register_ is None:
        unasked = Verdict(REGISTERED, ConditionState.NOTED, reasons.NOT_REQUESTED, "spec.register is not set")
        return Decision((*before, unasked, done), tuple(effects), status, again, ready)
    if seen.version is not None:
        status["model"] |= {"name": seen.version.model, "version": seen.version.version}
        message = f"{seen.version.model} version {seen.version.version}"
        registered = Verdict(REGISTERED, ConditionState.DONE, reasons.REGISTERED, message)
        return Decision((*before, registered, done), tuple(effects), status, again, ready)
    outage = seen.registry_outage or seen.tracking_outage
    if outage is not None:
        unknown = Verdict(REGISTERED, ConditionState.UNKNOWN, reasons.REGISTRY_UNAVAILABLE, outage)
        published = seen.published
        if _is_same(published, model):
            # Its name and version cannot be seen now, and have not changed.
            status["model"] = dict(published)
            if published.get("version") and published.get("name") == seen.spec.register_.model:
                # Without the error's words: they differ from look to look.
                message = (
                    f"{published['name']} version {published['version']}, as last seen: MLflow cannot be asked now"
                )
                known = Verdict(REGISTERED, ConditionState.DONE, reasons.REGISTERED, message)
                return Decision((*before, known, done), tuple(effects), status, OUTAGE_POLL, ready)
        return Decision((*before, unknown), tuple(effects), status, OUTAGE_POLL)
    if seen.tracked is None:
        lost = Verdict(REGISTERED, ConditionState.REFUSED, reasons.TRACKED_RUN_MISSING, TRACKED_RUN_MISSING)
        return Decision((*before, lost, *_succeeded(lost)), tuple(effects), status, gates.REFUSED_POLL)
    owned = _owned_elsewhere(seen)
    if owned is not None:
        return Decision((*before, owned, *_succeeded(owned)), tuple(effects), status, gates.REFUSED_POLL)
    want = _version_want(seen, seen.spec.register_, seen.tracked, model)
    registering = Verdict(REGISTERED, ConditionState.PROGRESSING, reasons.REGISTERING, f"registering {want.model}")
    return Decision((*before, registering), (*effects, RegisterModel(want)), status, 0)


def _is_same(published: Mapping[str, Any], model: Mapping[str, Any]) -> bool:
    return all(published.get(name) == model.get(name) for name in ("onnxSha256", "manifestSha256"))


def _version_want(
    seen: Observed, register: Register, tracked: tracking.TrackedRun, model: Mapping[str, Any]
) -> registry.DesiredModelVersion:
    return registry.DesiredModelVersion(
        uid=seen.uid,
        model=register.model,
        alias=register.alias,
        source=f"{tracked.artifact_uri}/model",
        run_id=tracked.id,
        tags={
            registry.PACKAGE_URI_TAG: model["uri"],
            registry.ONNX_SHA256_TAG: model["onnxSha256"],
            registry.MANIFEST_SHA256_TAG: model.get("manifestSha256", ""),
            registry.RESOURCE_TAG: f"trainingrun/{seen.namespace}/{seen.name}",
            registry.INPUTS_DIGEST_TAG: seen.frozen.digest if seen.frozen else "",
        }
        | ({registry.ALIAS_TAG: register.alias} if register.alias else {}),
        sharing=_sharing(seen.tenant),
    )


def _sharing(tenant: Tenant) -> tuple[str, ...]:
    """Namespaces that the platform says to share with this one."""
    return tenant.shared_with


def _frozen_status(seen: Observed, frozen: Frozen) -> dict[str, Any]:
    return {
        "inputsDigest": frozen.digest,
        "inputs": dict(frozen.inputs),
        "dataset": frozen.dataset.as_status(),
        "storagePrefix": seen.tenant.storage_prefix,
        "storageSeal": seen.storage_seal,
    }


def _tracked_want(seen: Observed, frozen: Frozen) -> tracking.DesiredTrackedRun:
    return tracking.DesiredTrackedRun(
        uid=seen.uid,
        experiment=_experiment(seen, frozen),
        name=seen.name,
        tags={
            DIGEST_TAG: frozen.digest,
            INPUTS_TAG: json.dumps(frozen.inputs, sort_keys=True),
            DATASET_TAG: json.dumps(frozen.dataset.as_status(), sort_keys=True),
            STORAGE_TAG: seen.tenant.storage_prefix,
            "pelagos.dev/resource": f"trainingrun/{seen.namespace}/{seen.name}",
        },
        namespace=seen.namespace,
    )


def _experiment(seen: Observed, frozen: Frozen) -> str:
    """The experiment that spec names, or the usual one; below the prefix of the namespace, once."""
    prefix = seen.tenant.experiment_prefix
    named = seen.spec.tracking.experiment or f"{seen.namespace}/{frozen.dataset.name}"
    return named if named.startswith(prefix) else prefix + named


def _request(seen: Observed, frozen: Frozen, tracked_id: str, attempt: int) -> RunRequest:
    dataset = frozen.dataset
    chosen = dict(frozen.inputs["hyperparameters"])
    chosen.setdefault("imageSize", 640 if dataset.task == "Detection" else 224)
    request = {
        "dataset": {"name": dataset.name, "version": dataset.version, "uri": dataset.uri},
        "task": dataset.task,
        "model": frozen.inputs["model"],
        "hyperparameters": chosen,
        "earlyStopping": frozen.inputs.get("earlyStopping"),
        "seed": frozen.inputs["seeds"][0],
        "resources": {"cpu": seen.spec.resources.cpu},
        "evaluation": frozen.inputs.get("evaluation", Evaluation().model_dump(by_alias=True, mode="json")),
    }
    parameters = {"request": json.dumps(request, sort_keys=True), "tracking_run": tracked_id} | dict(seen.paths)
    return RunRequest(
        name=name_run(seen.uid, frozen),
        flow="training",
        parameters=parameters | {"tracking_uri": seen.tracking_uri},
        attempt=attempt,
        retry_key=seen.retry_key,
        resources=RunResources(
            cpu=seen.spec.resources.cpu,
            placement=place(seen.spec.resources, seen.tenant.queue),
            time_limit=int(durations.seconds(seen.spec.deadline)) + DEADLINE_GRACE,
        ),
        namespace=seen.namespace,
        tenant=seen.tenant,
        labels={"pelagos.dev/uid": seen.uid, "pelagos.dev/resource": f"trainingrun/{seen.namespace}/{seen.name}"},
    )


def _tracked_outcome(seen: Observed, outcome: attempts.Outcome) -> list[Effect]:
    """The tracked run must tell the same as the pipeline run."""
    if seen.tracked is None:
        return []
    want = tracking.Outcome.RUNNING
    if outcome.succeeded:
        want = tracking.Outcome.FINISHED
    elif outcome.verdict.state in STUCK:
        want = (
            tracking.Outcome.KILLED if outcome.verdict.reason == reasons.DEADLINE_EXCEEDED else tracking.Outcome.FAILED
        )
    resealed: list[Effect] = []
    if seen.tracked.tags.get(tracking.SEAL_TAG, "") != seen.tracked_seal:
        resealed = [SealTrackedRun(seen.tracked.id, seen.tracked_seal)]
    return resealed if seen.tracked.outcome is want else [*resealed, SetOutcome(seen.tracked.id, want)]


def _deadline_exceeded(seen: Observed) -> str | None:
    if seen.run is None or seen.run.started_at is None or seen.run.state is RunState.SUCCEEDED:
        return None
    if seen.run.state in FINISHED and seen.run.retry_key != seen.retry_key:
        return None
    told = (seen.run.finished_at or seen.now) - seen.run.started_at
    ran = seen.run.ran if seen.run.ran is not None else told
    if ran < max(durations.parse(seen.spec.deadline), timedelta(seconds=1)):
        return None
    return f"spec.deadline: the run took longer than {seen.spec.deadline} and was ended. Raise it, and set pelagos.dev/retry"


def _with_progress(verdict: Verdict, progress: Mapping[str, Any] | None) -> Verdict:
    if progress and verdict.reason == reasons.RUNNING:
        return replace(verdict, reason=reasons.TRAINING, message=f"epoch {progress['epoch']} of {progress['epochs']}")
    return verdict


def _succeeded(cause: Verdict) -> tuple[Verdict, ...]:
    """The bounded kind's own summary follows what stopped it; False only when a person must act."""
    state = ConditionState.PROGRESSING if cause.state is ConditionState.FAILING else cause.state
    return (replace(cause, type=SUCCEEDED, state=state),)


def _refuse(seen: Observed, verdict: Verdict) -> Decision:
    status = _frozen_status(seen, seen.frozen) if seen.frozen else {}
    return Decision((verdict,), (), status)


def _suspend(seen: Observed) -> Decision:
    effects: list[Effect] = []
    if seen.run is not None and seen.run.state not in FINISHED:
        effects.append(CancelRun(seen.run.name))
    if seen.tracked is not None and seen.tracked.outcome is tracking.Outcome.RUNNING:
        effects.append(SetOutcome(seen.tracked.id, tracking.Outcome.KILLED))
    status = _frozen_status(seen, seen.frozen) if seen.frozen else {}
    paused = Verdict(
        EVALUATED, ConditionState.PAUSED, reasons.SUSPENDED, "spec.suspend is true; set it to false to go on"
    )
    return Decision((paused,), tuple(effects), status, OUTAGE_POLL if seen.tracking_outage else None)
