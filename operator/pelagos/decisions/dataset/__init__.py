"""Decides what to do next for a Dataset. The chain below is the specification; each check is in the module that its name says."""

from __future__ import annotations

from pelagos.decisions import chains
from pelagos.decisions.dataset import fair, preparation, publication, quality, removal, source, versions
from pelagos.decisions.dataset.conditions import FAIR_PASSED, PREPARED, PUBLISHED, QUALITY_PASSED, SOURCE_RESOLVED
from pelagos.decisions.dataset.observed import Observed
from pelagos.decisions.verdicts import Decision

CONDITIONS = (SOURCE_RESOLVED, PREPARED, QUALITY_PASSED, FAIR_PASSED, PUBLISHED)

CHAIN: tuple[chains.Check[Observed], ...] = (
    preparation.superseded,  # cancels runs for an earlier recipe or content, whatever follows
    # Can its source be prepared at all?
    source.spec_breaks_a_rule,  # ends: InvalidSpec
    preparation.suspended,  # ends: Suspended; what runs is canceled
    source.rejected,  # ends: SourceRejected
    source.missing,  # ends: SourceNotFound
    source.empty,  # ends: SourceEmpty
    preparation.limits_exceeded,  # ends: QueueNotAllowed; a run that exists was allowed, and stays
    source.found,  # SourceResolved: Found
    preparation.made_by_former_values,  # ends: MadeAgain; an attempt is due, and an upgrade changed a default or an algorithm
    # How far has the version of its present content got?
    preparation.inputs_published,  # status.inputsDigest, madeFrom, store, storagePrefix
    preparation.run_published,  # status.pipelineRun
    preparation.progress_published,  # status.progress
    removal.in_the_way,  # ends: RemovingVersions; an attempt is due, or its version is among those that are being removed
    preparation.attempt_due,  # submits a run, or cancels one
    preparation.without_result,  # ends: Queued, Running, Retrying, PipelineFailed, or what the step says
    # The version exists.
    versions.counted,  # status.version, images, splits, quality, files, ...
    removal.published,  # status.versions, removals; removes versions beyond spec.history.keep that nothing uses
    versions.listed,  # status.classes, excluded, warnings, truncated
    fair.judged,  # status.fair; FairPassed: FairEnough or FairScoreTooLow
    publication.judged,  # status.publication; Published: Published, DraftMade, NotAskedFor, or the obstacle
    versions.result_on_record,  # status.record; keeps it
    quality.judged,  # QualityPassed: QualityPassed, NoQualityGates, or QualityFailed, which stops unless onFail is Warn
    versions.ready,  # ends: VersionReady; checks the source again after spec.refresh
)


def decide(seen: Observed) -> Decision:
    """Evaluate the chain. Pure."""
    return chains.evaluate(CHAIN, seen)
