"""Compares the packaged model with the registered ones that gates name, on the images of the test split. For the stage export.

For each attempt, the operator says which models these are. If a comparison is impossible, the result says why, and the training
does not fail.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pelagos_contract.training import Champion, Comparison, EvidenceFile, TrainingResult
from pelagos_pipelines import storage
from pelagos_pipelines.steps import resampled, runs, seeds

if TYPE_CHECKING:
    from pelagos_pipelines.evaluation.evidence import Evidence


def comparisons(run: runs.Run, kept: EvidenceFile | None) -> list[Comparison]:
    """Compare with each champion of the request. ``kept`` is the packaged model's evidence, None if there is none.

    Raises:
        RefusedError: WORKSPACE_ALTERED.
        StorageError: the storage is unavailable.
    """
    if not run.request.champions:
        return []
    from pelagos_pipelines.evaluation import comparison

    ours = resampled.read(seeds.model_of(run), kept.sha256) if kept is not None else None
    return [_compared(run, ours, each, comparison.LEVEL) for each in run.request.champions]


def renewed(run: runs.Run, result: TrainingResult) -> TrainingResult:
    """The result of an earlier attempt, compared again if the champions have changed since then."""
    known, asked = {each.name: each for each in result.champions}, run.request.champions
    if known.keys() == {each.name for each in asked} and all(_is_of(known[each.name], each) for each in asked):
        return result
    return result.model_copy(update={"champions": comparisons(run, result.evidence)})


def _is_of(compared: Comparison, champion: Champion) -> bool:
    """Whether a comparison is with that version and that evidence. Results of earlier releases do not name the evidence."""
    evidence = compared.evidence_sha256
    by = evidence == champion.evidence_sha256 if evidence is not None else champion.package is None
    return compared.version == champion.version and by


def _compared(run: runs.Run, ours: Evidence | None, champion: Champion, level: float) -> Comparison:
    from pelagos_pipelines.evaluation import comparison, evidence

    told = Comparison(
        name=champion.name, version=champion.version, evidence_sha256=champion.evidence_sha256, level=level
    )
    if ours is None:
        return told.model_copy(update={"why": "what the trained model did with each image could not be kept"})
    try:
        theirs = evidence.read(_brought(run, champion), champion.evidence_sha256)
    except (OSError, evidence.EvidenceError, storage.StorageRefusedError) as error:
        why = f"what it did with each image of its test split cannot be read: {error}; train it again, and register it"
        return told.model_copy(update={"why": why})
    if champion.package is not None and theirs.package != champion.package:
        why = "the evidence that spec.gates states is not of the package of this version; have it judged by pelagos evaluate"
        return told.model_copy(update={"why": why})
    if (why_not := comparison.why_not(ours, theirs)) is not None:
        return told.model_copy(update={"why": why_not})
    metrics, no_interval = comparison.compare(ours, theirs)
    return told.model_copy(update={"metrics": metrics, "no_interval": no_interval})


def _brought(run: runs.Run, champion: Champion) -> Path:
    """The champion's evidence on this machine, downloaded if necessary."""
    from pelagos_pipelines.evaluation import evidence

    uri = champion.evidence_uri
    if not storage.is_remote(uri):
        return Path(uri)
    folder, _, name = uri.rpartition("/")
    bucket, target = storage.Bucket(folder), run.places.scratch / "champion.npz"
    found = bucket.find(name)
    if found is None or found.size > evidence.LARGEST:
        raise evidence.EvidenceError(f"{uri} is gone, or larger than evidence may be")
    bucket.download(name, target, etag=found.etag)
    return target
