"""Reasons of TrainingRuns."""

from __future__ import annotations

import functools

from pelagos.api.reasons.tables import of_steps, tabled
from pelagos_contract import failures

_training_run = functools.partial(tabled, "TrainingRun")

DATASET_NOT_FOUND = _training_run(
    "DatasetNotFound", "waiting", "The Dataset does not exist yet.", "Create it, or name another."
)
DATASET_NOT_READY = _training_run(
    "DatasetNotReady", "in progress", "The Dataset is not Ready yet.", "See the Dataset's own message."
)
VERSION_BLOCKED = _training_run(
    "VersionBlocked",
    "waiting",
    "The version of the Dataset did not pass the gates of its spec.quality, whose onFail is Block. Nothing is trained on it.",
    "See the condition QualityPassed of the Dataset, or name another version.",
)
DATASET_VERSION_UNKNOWN = _training_run(
    "DatasetVersionUnknown",
    "waiting",
    "The Dataset has no such version: its source may not have had that content yet, or had it too long ago.",
    "Give the source that content, or name one of the versions in the Dataset's status.versions in a new TrainingRun.",
)
VERSION_FROZEN = _training_run("VersionFrozen", "done", "The dataset version is resolved and will not change.")
SPEC_IMMUTABLE = _training_run(
    "SpecImmutable",
    "action required",
    "A frozen field was changed after the run had been keyed. The run itself is not affected.",
    "Set it back, or create a new TrainingRun.",
)
CREATING = _training_run("Creating", "in progress", "The MLflow run is being created.")
DATASET_OUTSIDE_NAMESPACE = _training_run(
    "DatasetOutsideNamespace",
    "action required",
    "The dataset version is outside the namespace's part of the store. Nothing is read there.",
    "Create a new TrainingRun.",
)
RUN_CREATED = _training_run("RunCreated", "done", "The MLflow run exists.")
TRACKING_UNAVAILABLE = _training_run(
    "TrackingUnavailable", "unknown", "MLflow does not answer. A training that is running continues."
)
TRACKED_RUN_MISSING = _training_run(
    "TrackedRunMissing",
    "action required",
    "The MLflow run was deleted before its model was registered.",
    "Restore it in MLflow, or create a new TrainingRun.",
)
TRAINING = _training_run("Training", "in progress", "Epochs are being trained; see status.progress.")
SEARCHING = _training_run(
    "Searching", "in progress", "Hyperparameters are being searched; see status.search and `pelagos search`."
)
EVALUATING = _training_run(
    "Evaluating", "in progress", "The model is being measured on the test split; see status.progress."
)
EXPORTING = _training_run(
    "Exporting", "in progress", "The model is being exported, proven and packaged; see status.progress."
)
EVALUATED = _training_run("Evaluated", "done", "The model was measured on the test split.")
DEADLINE_EXCEEDED = _training_run(
    "DeadlineExceeded",
    "action required",
    "The run took longer than spec.deadline and was ended.",
    "Raise it, and set the annotation pelagos.dev/retry.",
)
DATASET_NOT_READABLE = of_steps("TrainingRun", failures.Reason.DATASET_NOT_READABLE)
LEAVE_ONE_OUT_IMPOSSIBLE = of_steps("TrainingRun", failures.Reason.LEAVE_ONE_OUT_IMPOSSIBLE)
WORKSPACE_ALTERED = of_steps("TrainingRun", failures.Reason.WORKSPACE_ALTERED)
CHECKPOINT_NOT_FOUND = _training_run(
    "CheckpointNotFound",
    "waiting",
    "model.weights names a file that is not on the data volume yet. Nothing is started until it exists.",
    "Put the file there, or name another in a new TrainingRun.",
)
SLICES_IMPOSSIBLE = of_steps("TrainingRun", failures.Reason.SLICES_IMPOSSIBLE)
CHECKPOINT_INVALID = of_steps("TrainingRun", failures.Reason.CHECKPOINT_INVALID)
UNTRUSTED_CHECKPOINT = of_steps("TrainingRun", failures.Reason.UNTRUSTED_CHECKPOINT)
TRAINING_DIVERGED = of_steps("TrainingRun", failures.Reason.TRAINING_DIVERGED)
OUT_OF_MEMORY = of_steps("TrainingRun", failures.Reason.OUT_OF_MEMORY)
SEARCH_FAILED = of_steps("TrainingRun", failures.Reason.SEARCH_FAILED)
PARITY_FAILED = of_steps("TrainingRun", failures.Reason.PARITY_FAILED)
GATES_PASSED = _training_run("GatesPassed", "done", "All gates passed.")
GATE_FAILED = _training_run(
    "GateFailed",
    "action required",
    "A figure misses the bound of its gate: it is below the minimum, or above the maximum.",
    "Correct spec.gates (nothing is trained again), or train a better model as a new TrainingRun.",
)
GATE_METRIC_UNKNOWN = _training_run(
    "GateMetricUnknown",
    "action required",
    "A gate names a metric or a class that does not exist, which is reported before training where it is known; or one "
    "that is undefined, because the test split has nothing to compute it from.",
    "Use one of those that the message lists, or train on a version whose test split shows the class.",
)
COMPARING = _training_run(
    "Comparing",
    "in progress",
    "The model is being compared again, because another version has become the champion since then; nothing is trained.",
)
CHAMPION_NOT_COMPARABLE = _training_run(
    "ChampionNotComparable",
    "action required",
    "A gate compares with a registered model whose results on the images of this test split are not known.",
    "Do what the message says: have it judged by pelagos evaluate and state the evidence, train it on this dataset version "
    "and register it, name another one, or judge without a champion.",
)
CHAMPION_CHANGED = _training_run(
    "ChampionChanged",
    "action required",
    "The model was compared with a version that is no longer the champion, and cannot be compared again automatically.",
    "Do what the message says: set pelagos.dev/retry, which makes it be compared again, or create a new TrainingRun.",
)
REGISTERING = _training_run("Registering", "in progress", "The model is being registered.")
REGISTERED = _training_run("Registered", "done", "The model is registered.")
NOT_REQUESTED = _training_run("NotRequested", "for information", "spec.register is not set.")
REGISTRY_UNAVAILABLE = _training_run("RegistryUnavailable", "unknown", "The registry does not answer.")
MODEL_OWNED_BY_OTHER_NAMESPACE = _training_run(
    "ModelOwnedByOtherNamespace",
    "action required",
    "The registered model belongs to another namespace, whose TrainingRuns registered its versions.",
    "Choose another name in spec.register.model, or have it shared: tag pelagos.dev/shared = true on the model in MLflow.",
)
COMPLETED = _training_run("Completed", "done", "Trained, measured and, where requested, registered.")
