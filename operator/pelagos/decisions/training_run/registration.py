"""Registers the model, unless the name that it would be registered under belongs to somebody else."""

from __future__ import annotations

from pelagos.api import reasons
from pelagos.api.training_run import Register, TrainingRunStatus
from pelagos.decisions.chains import Ended
from pelagos.decisions.effects import RegisterModel
from pelagos.decisions.training_run import champions, figures, gates, progress
from pelagos.decisions.training_run.conditions import OUTAGE_POLL, REFUSED_POLL, REGISTERED, SUCCEEDED, succeeded
from pelagos.decisions.training_run.observed import Observed
from pelagos.decisions.verdicts import READY, ConditionState, Verdict, obstacle
from pelagos.ports import registry
from pelagos.ports.tracking import TrackedRun
from pelagos_contract.tags import (
    ALIAS_TAG,
    EVIDENCE_SHA256_TAG,
    EVIDENCE_URI_TAG,
    INPUTS_DIGEST_TAG,
    INSTEAD_OF_TAG,
    MANIFEST_SHA256_TAG,
    ONNX_SHA256_TAG,
    PACKAGE_URI_TAG,
    RESOURCE_TAG,
)

TRACKED_RUN_MISSING = (
    "the tracked run under this operator's seal no longer exists (deleted, or sealed with a key that was removed), and the model "
    "is registered from it. Restore the run in MLflow, or create a new TrainingRun"
)
OWNED_ELSEWHERE = (
    'spec.register.model: the registered model "%s" belongs to another namespace. Choose another name, '
    "or ask the platform's administrator to let both namespaces share it"
)


def not_requested(seen: Observed) -> Ended | None:
    """Ends the chain if spec asks for no registration. The package exists anyway, and can be served."""
    if seen.spec.register_ is not None:
        return None
    return _completed(
        seen, Verdict(REGISTERED, ConditionState.NOTED, reasons.NOT_REQUESTED, "spec.register is not set")
    )


def registered(seen: Observed) -> Ended | None:
    """Ends the chain: the registry has a version of ours."""
    version = seen.version
    if version is None:
        return None
    done = Verdict(REGISTERED, ConditionState.DONE, reasons.REGISTERED, f"{version.model} version {version.version}")
    status = TrainingRunStatus(model=gates.model_status(seen, version.model, version.version))
    made = progress.registered(seen)
    return _completed(seen, done, status.model_copy(update={"progress": made}) if made is not None else status)


def registered_as_last_seen(seen: Observed) -> Ended | None:
    """Ends the chain: MLflow does not answer, but status says that this model was registered."""
    last, register = _last_published(seen), seen.spec.register_
    if _outage(seen) is None or last.model is None or register is None:
        return None
    if not last.model.version or last.model.name != register.model:
        return None
    # Without the text of the error, which may differ in every pass and would change status each time.
    message = f"{last.model.name} version {last.model.version}, as last seen: MLflow cannot be reached now"
    done = Verdict(REGISTERED, ConditionState.DONE, reasons.REGISTERED, message)
    return _completed(seen, done, last, OUTAGE_POLL)


def unavailable(seen: Observed) -> Ended | None:
    """Ends the chain while MLflow does not answer: it may have a version of ours already."""
    outage = _outage(seen)
    if outage is None:
        return None
    unknown = Verdict(REGISTERED, ConditionState.UNKNOWN, reasons.REGISTRY_UNAVAILABLE, outage)
    status = _last_published(seen).model_copy(update={"progress": progress.registering(seen)})
    return Ended((unknown,), status=status, recheck_after=OUTAGE_POLL)


def tracked_run_missing(seen: Observed) -> Ended | None:
    """Ends the chain if there is no tracked run: a version is registered from one."""
    if seen.tracked is not None:
        return None
    return _refused(Verdict(REGISTERED, ConditionState.REFUSED, reasons.TRACKED_RUN_MISSING, TRACKED_RUN_MISSING))


def owned_elsewhere(seen: Observed) -> Ended | None:
    """Ends the chain if the model belongs to another namespace, whose versions its users trust."""
    owned = other_owner(seen)
    return _refused(owned) if owned is not None else None


def registering(seen: Observed) -> Ended:
    """Ends the chain, and registers the model. Once per TrainingRun; the alias moves at that moment, and never again."""
    assert seen.spec.register_ is not None
    assert seen.tracked is not None
    want = _wanted(seen, seen.spec.register_, seen.tracked)
    begun = Verdict(REGISTERED, ConditionState.PROGRESSING, reasons.REGISTERING, f"registering {want.model}")
    status = TrainingRunStatus(progress=progress.registering(seen))
    return Ended((begun,), (RegisterModel(want),), status=status, recheck_after=0)


def other_owner(seen: Observed) -> Verdict | None:
    """The verdict that the model to register in belongs to another namespace; None when it does not, or that is not known."""
    ours, register = {seen.namespace, *seen.tenant.shared_with}, seen.spec.register_
    if register is None or seen.version is not None or not seen.model_owners or seen.model_owners & ours:
        return None
    return obstacle(REGISTERED, reasons.MODEL_OWNED_BY_OTHER_NAMESPACE, OWNED_ELSEWHERE % register.model)


def is_orphan(seen: Observed) -> bool:
    """Whether the result is from a former life's record, and the tracked run to register it from no longer exists."""
    result, register = seen.report.result, seen.spec.register_
    if seen.recorded_run is None or result is None or register is None or seen.version is not None or seen.published:
        return False
    if seen.tracked is not None and seen.tracked.id == seen.recorded_run:
        return False
    return not gates.evaluate(seen)[1].stops


def _outage(seen: Observed) -> str | None:
    return seen.registry_outage or seen.tracking_outage


def _last_published(seen: Observed) -> TrainingRunStatus:
    """The model as status has it, with its registered name and version; empty when status is about another model."""
    made, published = gates.model_status(seen), seen.published
    if published is None:
        return TrainingRunStatus()
    is_same = (published.onnx_sha256, published.manifest_sha256) == (made.onnx_sha256, made.manifest_sha256)
    return TrainingRunStatus(model=published) if is_same else TrainingRunStatus()


def _completed(
    seen: Observed, registered: Verdict, status: TrainingRunStatus | None = None, again: float | None = None
) -> Ended:
    figure = figures.primary_metric(seen.result)
    done = Verdict(SUCCEEDED, ConditionState.DONE, reasons.COMPLETED, figure)
    ready = Verdict(READY, ConditionState.DONE, reasons.COMPLETED, figure)
    # Tracking does not answer now, and has yet to get the outcome of the run.
    again = OUTAGE_POLL if seen.tracking_outage else again
    return Ended((registered, done), status=status, recheck_after=again, ready=ready)


def _refused(verdict: Verdict) -> Ended:
    return Ended((verdict, succeeded(verdict)), recheck_after=REFUSED_POLL)


def _wanted(seen: Observed, register: Register, tracked: TrackedRun) -> registry.DesiredModelVersion:
    model, evidence, before = seen.result["model"], seen.result.get("evidence"), champions.instead_of(seen)
    told = {EVIDENCE_URI_TAG: evidence["uri"], EVIDENCE_SHA256_TAG: evidence["sha256"]} if evidence else {}
    if before is not None:
        told[INSTEAD_OF_TAG] = before
    return registry.DesiredModelVersion(
        uid=seen.uid,
        model=register.model,
        alias=register.alias,
        source=f"{tracked.artifact_uri}/model",
        run_id=tracked.id,
        tags={
            PACKAGE_URI_TAG: model["uri"],
            ONNX_SHA256_TAG: model["onnxSha256"],
            MANIFEST_SHA256_TAG: model.get("manifestSha256", ""),
            RESOURCE_TAG: f"trainingrun/{seen.namespace}/{seen.name}",
            INPUTS_DIGEST_TAG: seen.frozen.digest if seen.frozen else "",
        }
        | ({ALIAS_TAG: register.alias} if register.alias else {})
        | told,
        instead_of=before,
        sharing=seen.tenant.shared_with,
    )
