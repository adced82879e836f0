"""Reasons of Datasets."""

from __future__ import annotations

import functools

from pelagos.api.reasons.tables import of_steps, tabled
from pelagos_contract import failures

_dataset = functools.partial(tabled, "Dataset")

FOUND = _dataset("Found", "done", "The source exists.")
VERSION_READY = _dataset("VersionReady", "done", "The newest version can be trained on.")
REMOVING_VERSIONS = _dataset(
    "RemovingVersions",
    "in progress",
    "Versions beyond spec.history.keep are being removed from the store while a preparation is due; it starts when the "
    "removal has ended.",
)
QUALITY_PASSED = _dataset("QualityPassed", "done", "The newest version meets all bounds of spec.quality.")
NO_QUALITY_GATES = _dataset("NoQualityGates", "done", "spec.quality sets no bounds, so nothing was judged.")
QUALITY_FAILED = _dataset(
    "QualityFailed",
    "action required",
    "The newest version does not meet a bound of spec.quality, or the splits of its source divide groups. With onFail "
    "Block no TrainingRun starts on it.",
    "Change the source, spec.split or spec.labels as the message says, or change the bound: nothing is prepared again for "
    "that.",
)
FAIR_ENOUGH = _dataset(
    "FairEnough", "done", "The newest version is as FAIR as spec.fair.minScore requires, or nothing is required."
)
FAIR_SCORE_TOO_LOW = _dataset(
    "FairScoreTooLow",
    "for information",
    "The newest version is less FAIR than spec.fair.minScore requires. It can be trained on, but is not published.",
    "See pelagos fair NAME for what would raise the score, and set that in spec.metadata.",
)
NOT_ASKED_FOR = _dataset("NotAskedFor", "for information", "spec.publish is not set, so nothing is published.")
PUBLISHED = _dataset("Published", "done", "The version is published. status.publication says where.")
DRAFT_MADE = _dataset(
    "DraftMade",
    "for information",
    "A draft of the version is in the repository, as spec.publish.zenodo.state asks. It is not published.",
    "Check it there; set spec.publish.zenodo.state to Published to publish it, which cannot be undone.",
)
VERSION_NOT_LISTED = _dataset(
    "VersionNotListed",
    "action required",
    "spec.publish.version names a version that status.versions does not list, or one that spec.quality blocks.",
    "Name a version that is listed, or none for the newest.",
)
REPOSITORY_NOT_ALLOWED = of_steps("Dataset", failures.Reason.REPOSITORY_NOT_ALLOWED)
REPOSITORY_ACCESS_DENIED = of_steps("Dataset", failures.Reason.REPOSITORY_ACCESS_DENIED)
REPOSITORY_SECRET_INCOMPLETE = of_steps("Dataset", failures.Reason.REPOSITORY_SECRET_INCOMPLETE)
REPOSITORY_AWAY = of_steps("Dataset", failures.Reason.REPOSITORY_AWAY)
PUBLICATION_REFUSED = of_steps("Dataset", failures.Reason.PUBLICATION_REFUSED)
METADATA_INCOMPLETE = of_steps("Dataset", failures.Reason.METADATA_INCOMPLETE)
SOURCE_NOT_FOUND = of_steps("Dataset", failures.Reason.SOURCE_NOT_FOUND)
SOURCE_REJECTED = _dataset(
    "SourceRejected",
    "action required",
    "The source may not be read: its path or a link in it leaves the data volume, or it holds too many files.",
    "Follow the message.",
)
SOURCE_NOT_READABLE = of_steps("Dataset", failures.Reason.SOURCE_NOT_READABLE)
SOURCE_EMPTY = of_steps("Dataset", failures.Reason.SOURCE_EMPTY)
SOURCE_NOT_ALLOWED = of_steps("Dataset", failures.Reason.SOURCE_NOT_ALLOWED)
SOURCE_ACCESS_DENIED = of_steps("Dataset", failures.Reason.SOURCE_ACCESS_DENIED)
SOURCE_SECRET_INCOMPLETE = of_steps("All kinds", failures.Reason.SOURCE_SECRET_INCOMPLETE)
SOURCE_INVALID = of_steps("Dataset", failures.Reason.SOURCE_INVALID)
SOURCE_CHANGED = of_steps("Dataset", failures.Reason.SOURCE_CHANGED)
FORMAT_NOT_RECOGNISED = of_steps("Dataset", failures.Reason.FORMAT_NOT_RECOGNISED)
FORMAT_INVALID = of_steps("Dataset", failures.Reason.FORMAT_INVALID)
TASK_MISMATCH = of_steps("Dataset", failures.Reason.TASK_MISMATCH)
CORRUPT_IMAGES = of_steps("Dataset", failures.Reason.CORRUPT_IMAGES)
DUPLICATE_IMAGES = of_steps("Dataset", failures.Reason.DUPLICATE_IMAGES)
NO_IMAGES_LEFT = of_steps("Dataset", failures.Reason.NO_IMAGES_LEFT)
ANNOTATION_OUTSIDE_IMAGE = of_steps("Dataset", failures.Reason.ANNOTATION_OUTSIDE_IMAGE)
UNKNOWN_CLASS = of_steps("Dataset", failures.Reason.UNKNOWN_CLASS)
LABELS_INVALID = of_steps("Dataset", failures.Reason.LABELS_INVALID)
CAPTURE_INVALID = of_steps("Dataset", failures.Reason.CAPTURE_INVALID)
TAXA_UNKNOWN = of_steps("Dataset", failures.Reason.TAXA_UNKNOWN)
TAXONOMY_UNAVAILABLE = of_steps("Dataset", failures.Reason.TAXONOMY_UNAVAILABLE)
LABEL_WITHOUT_IMAGE = of_steps("Dataset", failures.Reason.LABEL_WITHOUT_IMAGE)
CLASS_MISSING_FROM_TRAIN = of_steps("Dataset", failures.Reason.CLASS_MISSING_FROM_TRAIN)
SPLIT_IMPOSSIBLE = of_steps("Dataset", failures.Reason.SPLIT_IMPOSSIBLE)
