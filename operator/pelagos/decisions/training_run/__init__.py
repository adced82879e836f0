"""Decides what to do next for a TrainingRun. The chain below is the specification; each check is in the module of its name."""

from __future__ import annotations

from dataclasses import replace

from pelagos.decisions import chains
from pelagos.decisions.reports import Report
from pelagos.decisions.training_run import (
    costs,
    dataset,
    documents,
    expiry,
    gates,
    pipeline,
    registration,
    spec,
    suspension,
    tenancy,
    tracking,
)
from pelagos.decisions.training_run.conditions import (
    DATASET_READY,
    EVALUATED,
    GATES_PASSED,
    REGISTERED,
    SUCCEEDED,
    TRACKED,
)
from pelagos.decisions.training_run.observed import Observed
from pelagos.decisions.verdicts import Decision

CONDITIONS = (DATASET_READY, TRACKED, EVALUATED, GATES_PASSED, REGISTERED, SUCCEEDED)

CHAIN: tuple[chains.Check[Observed], ...] = (
    # May it run at all?
    spec.breaks_a_rule,  # ends: InvalidSpec
    spec.search_by_unknown_metric,  # ends: InvalidSpec
    spec.says_other_than_frozen,  # ends: SpecImmutable; the run itself continues
    tenancy.limits_exceeded_before_a_run,  # ends: GpuLimitExceeded, QueueNotAllowed; an existing run was allowed, and stays
    tenancy.dataset_outside_namespace,  # ends: DatasetOutsideNamespace; nothing is read there
    suspension.suspended,  # ends: Suspended, unless there is a result already; cancels the run
    # ends: CheckpointNotFound, InvalidSpec, ModelOwnedByOtherNamespace; nothing is created for it
    pipeline.futile_before_a_run,
    # What does it train on? Asked until that is frozen.
    dataset.not_found,  # ends: DatasetNotFound
    dataset.version_unknown,  # ends: DatasetVersionUnknown
    dataset.not_ready,  # ends: DatasetNotReady
    dataset.of_another_task,  # ends: TaskMismatch
    dataset.split_empty,  # ends: SplitImpossible
    dataset.version_blocked,  # ends: VersionBlocked
    dataset.slices_impossible,  # ends: SlicesImpossible
    dataset.version_frozen,  # DatasetReady: VersionFrozen
    pipeline.unjudgeable_before_a_run,  # ends: GateMetricUnknown, ChampionNotComparable; nothing is created for it
    # Where is it tracked? Needed to start anything; a training that runs, or has a result, continues without.
    tracking.unavailable_before_a_run,  # ends: TrackingUnavailable; MLflow may have other inputs that were frozen before
    dataset.inputs_published,  # status.inputs, inputsDigest, dataset, storagePrefix
    tracking.missing_before_a_run,  # ends: Creating; creates the tracked run
    tracking.missing,  # Tracked: TrackingUnavailable or TrackedRunMissing, for information
    tracking.found,  # Tracked: RunCreated
    # How far is the pipeline run? attempt.OBJECTIONS can prevent an attempt that is due.
    pipeline.run_published,  # status.pipelineRun
    pipeline.start_published,  # status.startedAt
    pipeline.end_published,  # status.finishedAt
    pipeline.attempt_untracked,  # ends: an attempt is due without a tracked run to write to; creates that first
    pipeline.attempt_due,  # submits a run, or cancels one; status.algorithms
    tracking.outcome_differs,  # writes the run's outcome to MLflow; replaces an outdated seal
    gates.measured_before_it_failed,  # status.metrics
    costs.known,  # status.cost
    pipeline.progress_published,  # status.progress
    # ends: Queued, Training, Evaluating, Exporting, Retrying, PipelineFailed, DeadlineExceeded, or what the step says
    pipeline.without_result,
    # Is the model good enough?
    gates.measured,  # Evaluated: Evaluated; status.metrics
    gates.model_made,  # status.model
    documents.published,  # status.documents
    gates.result_on_record,  # status.record; keeps it
    gates.judged,  # GatesPassed: GatesPassed; or ends: GateFailed, GateMetricUnknown, Champion…, RegistryUnavailable
    # Is it registered? Succeeded and Ready: Completed.
    registration.not_requested,  # ends: NotRequested
    registration.registered,  # ends: Registered
    registration.registered_as_last_seen,  # ends: Registered; MLflow does not answer now, so status has the last word
    registration.unavailable,  # ends: RegistryUnavailable
    registration.tracked_run_missing,  # ends: TrackedRunMissing; a model is registered from its tracked run
    registration.owned_elsewhere,  # ends: ModelOwnedByOtherNamespace
    registration.registering,  # ends: Registering; registers it
)


def decide(seen: Observed) -> Decision:
    """Evaluate the chain. Pure."""
    if registration.is_orphan(seen):  # The model is trained again, unless MLflow does not answer now.
        seen = replace(seen, report=Report(), tracking_outage=seen.tracking_outage or seen.registry_outage)
    return expiry.expiring(seen, chains.evaluate(CHAIN, seen))
