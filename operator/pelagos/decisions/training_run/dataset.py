"""Which dataset version the run is made from. Asked until one is frozen, which stays."""

from __future__ import annotations

from pelagos.api import reasons
from pelagos.api.reasons import Reason
from pelagos.decisions.chains import Ended, Passed
from pelagos.decisions.training_run.conditions import DATASET_POLL, DATASET_READY
from pelagos.decisions.training_run.observed import Observed
from pelagos.decisions.verdicts import ConditionState, Verdict, obstacle
from pelagos_contract.capture import made_of
from pelagos_contract.families import architectures_for


def not_found(seen: Observed) -> Ended | None:
    """Ends the chain if there is no such Dataset. It may be applied after the TrainingRun."""
    if seen.frozen is not None or seen.dataset.exists:
        return None
    name, namespace = seen.spec.dataset_ref.name, seen.namespace
    message = f'spec.datasetRef.name: there is no Dataset "{name}" in namespace {namespace} yet'
    return _ended(reasons.DATASET_NOT_FOUND, message)


def version_unknown(seen: Observed) -> Ended | None:
    """Ends the chain if there is no such version. There may be one later, when the source has that content."""
    reference = seen.spec.dataset_ref
    if _is_settled(seen) or reference.version == "latest" or not seen.dataset.ready:
        return None
    known = ", ".join(seen.dataset.known_versions) or "none"
    message = f"spec.datasetRef.version: {reference.version} is not a version of {reference.name} yet; known: {known}"
    return _ended(reasons.DATASET_VERSION_UNKNOWN, message)


def not_ready(seen: Observed) -> Ended | None:
    """Ends the chain while the Dataset's newest version is being prepared, or if it cannot be."""
    if _is_settled(seen):
        return None
    message = f"Dataset {seen.spec.dataset_ref.name} is not Ready: {seen.dataset.message}"
    return _ended(reasons.DATASET_NOT_READY, message)


def of_another_task(seen: Observed) -> Ended | None:
    """Ends the chain if the architecture is for another task than the Dataset's: detectors cannot learn from classes alone."""
    candidate, architecture = seen.dataset.candidate, seen.spec.model.architecture
    if seen.frozen is not None or candidate is None:
        return None
    fitting = architectures_for(candidate.task)
    if architecture in fitting:
        return None
    if not fitting:
        message = (
            f"Dataset {candidate.name} has the task {candidate.task}, for which no models are trained here; "
            f"train on it elsewhere (pelagos export {candidate.name}), or name a Dataset of another task"
        )
        return _ended(reasons.TASK_MISMATCH, message)
    message = (
        f"spec.model.architecture: {architecture} does not fit Dataset {candidate.name}, whose task is {candidate.task}; "
        f"allowed: {', '.join(sorted(fitting))}. Create a new TrainingRun with one of them"
    )
    return _ended(reasons.TASK_MISMATCH, message)


def split_empty(seen: Observed) -> Ended | None:
    """Ends the chain if a split has no images: the training would fail after hours."""
    candidate = seen.dataset.candidate
    if seen.frozen is not None or candidate is None or not seen.dataset.empty_splits:
        return None
    message = (
        f"spec.datasetRef: {candidate.version[:19]} of Dataset {candidate.name} has no images in the split "
        f"{' and '.join(seen.dataset.empty_splits)}; training needs train, validation and test. Give each a share in "
        "spec.split.ratios of the Dataset, or add images; its next version is checked automatically"
    )
    return _ended(reasons.SPLIT_IMPOSSIBLE, message)


def version_blocked(seen: Observed) -> Ended | None:
    """Ends the chain if the Dataset's own gates block the version."""
    candidate = seen.dataset.candidate
    if seen.frozen is not None or candidate is None or not seen.dataset.blocked:
        return None
    message = (
        f"spec.datasetRef: {candidate.version[:19]} of Dataset {candidate.name} did not pass its gates: {seen.dataset.blocked}."
        " Name another version, or change spec.quality of the Dataset"
    )
    return _ended(reasons.VERSION_BLOCKED, message)


def slices_impossible(seen: Observed) -> Ended | None:
    """Ends the chain if slices are requested by a field that is not known for any image: the step would refuse that."""
    candidate, captured = seen.dataset.candidate, seen.dataset.captured
    if seen.frozen is not None or candidate is None or captured is None:
        return None
    for field in seen.spec.evaluation.slices or ():
        if missing := [name for name in made_of(field) if name not in captured]:
            message = (
                f"spec.evaluation.slices names {field}, and no image of {candidate.version[:19]} of Dataset {candidate.name} has"
                f" a {' or a '.join(missing)} by its spec.capture, which knows of {', '.join(captured) or 'nothing'}. Name other"
                " fields in a new TrainingRun, or set them in spec.capture; the next version is checked automatically"
            )
            return _ended(reasons.SLICES_IMPOSSIBLE, message)
    return None


def version_frozen(seen: Observed) -> Passed:
    """DatasetReady. This version is used from now on, even if the Dataset changes."""
    version = seen.keyed.dataset
    message = f"{version.name} at {version.version[:19]}"
    return Passed((Verdict(DATASET_READY, ConditionState.DONE, reasons.VERSION_FROZEN, message),))


def inputs_published(seen: Observed) -> Passed:
    """Publishes the frozen inputs, before anything is made from them."""
    return Passed(status=seen.inputs_status(seen.keyed))


def _is_settled(seen: Observed) -> bool:
    return seen.frozen is not None or seen.dataset.candidate is not None


def _ended(reason: Reason, message: str) -> Ended:
    return Ended((obstacle(DATASET_READY, reason, message),), recheck_after=DATASET_POLL)
