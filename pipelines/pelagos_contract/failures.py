"""The table of all reasons for which a pipeline step refuses its input, and the document in which it reports one.

The control plane publishes the reasons as condition reasons; docs/reasons.md shows them with their meaning and hint.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

from pelagos_contract.base import Strict
from pelagos_contract.cost import Cost
from pelagos_contract.text import shown

State = Literal["waiting", "action required"]
"""Waiting: what is missing can arrive without a change of the resource. Action required: the input cannot be used as it is."""


class Reason(StrEnum):
    """Why a step refused its input: the state in which the resource then is, the meaning, and a hint."""

    _value_: str
    state: State
    meaning: str
    hint: str

    def __new__(cls, value: str, meaning: str = "", hint: str = "", state: State = "action required") -> Reason:
        """A member equals its name in conditions. The defaults exist because mypy takes the look-up ``Reason(name)`` for this
        call."""
        member = str.__new__(cls, value)
        member._value_, member.state, member.meaning, member.hint = value, state, meaning, hint
        return member

    SOURCE_NOT_FOUND = (
        "SourceNotFound",
        "The folder, file or record that the source names does not exist yet.",
        "Put the images there, or correct what the source names.",
        "waiting",
    )
    SOURCE_NOT_READABLE = (
        "SourceNotReadable",
        "The account that the operator or a step runs under may not read a file or folder of the source.",
        "Give it the right to read them (chmod -R a+rX).",
    )
    SOURCE_NOT_ALLOWED = (
        "SourceNotAllowed",
        "The source, or the register of names, is at an address that may not be contacted: it is not https, or not public, and the platform has not allowed it.",
        "Have the entry that the message prints added to sourceHosts of the namespace, or name another address.",
    )
    SOURCE_ACCESS_DENIED = (
        "SourceAccessDenied",
        "The server that the source names refuses the credentials, or requires some.",
        "Correct the Secret that secretRef names; it is tried again with the next refresh, or when pelagos.dev/retry is set.",
    )
    SOURCE_SECRET_INCOMPLETE = (
        "SourceSecretIncomplete",
        "The Secret that secretRef names does not exist, or lacks a key that the source, or the tracking server, needs.",
        "Add the keys that the message names; this is noticed within a minute without further action.",
        "waiting",
    )
    SOURCE_INVALID = (
        "SourceInvalid",
        "The server that the source names answers with something other than its API, or other than a file of an allowed size.",
        "Correct the address or the fields that the message names.",
    )
    SOURCE_CHANGED = (
        "SourceChanged",
        "A fetched file does not have the announced digest or size, however often it is fetched.",
        "Correct the digest in the source, or have the file uploaded again.",
    )
    SOURCE_EMPTY = (
        "SourceEmpty",
        "The source holds no images yet.",
        "Put images there, or correct the path.",
        "waiting",
    )
    FORMAT_NOT_RECOGNISED = (
        "FormatNotRecognised",
        "format Auto found none, or more than one, of the known layouts.",
        "Name spec.format, or correct the layout.",
    )
    FORMAT_INVALID = (
        "FormatInvalid",
        "The files contradict the format: for example unreadable JSON or an invalid label row.",
        "Correct the file and line that the message names.",
    )
    TASK_MISMATCH = (
        "TaskMismatch",
        "The source, or the Dataset of a TrainingRun, is for another task.",
        "Correct spec.task, or the architecture.",
    )
    CORRUPT_IMAGES = (
        "CorruptImages",
        "Images are unreadable or truncated, and cleaning.corrupt is Fail.",
        "Replace them, or set cleaning.corrupt to Drop.",
    )
    DUPLICATE_IMAGES = (
        "DuplicateImages",
        "There are duplicates, and cleaning.duplicates.action is Fail; or duplicates have different annotations, some of which would be lost.",
        "Remove or correct them, or choose KeepFirst or Keep.",
    )
    NO_IMAGES_LEFT = (
        "NoImagesLeft",
        "Cleaning removed every image.",
        "Relax spec.cleaning, or replace the images.",
    )
    ANNOTATION_OUTSIDE_IMAGE = (
        "AnnotationOutsideImage",
        "An annotation exceeds its image by more than a pixel, or has no area.",
        "Correct the annotations that the message names, or set spec.cleaning.outside to Clip or Drop.",
    )
    SLICES_IMPOSSIBLE = (
        "SlicesImpossible",
        "spec.evaluation.slices names a field that no image of the test split has, or a field with too many values.",
        "Name fields that the message lists, or provide them through spec.capture of the Dataset; then create a new TrainingRun.",
    )
    LEAVE_ONE_OUT_IMPOSSIBLE = (
        "LeaveOneOutImpossible",
        "spec.evaluation.leaveOneOut names a field that no image has, one with a single value, or one with too many.",
        "Name a field that the message lists, or provide it through spec.capture of the Dataset; then create a new TrainingRun.",
    )
    UNKNOWN_CLASS = (
        "UnknownClass",
        "An annotation names a class that the source does not declare.",
        "Declare the class, or correct the annotation.",
    )
    LABELS_INVALID = (
        "LabelsInvalid",
        "spec.labels names a class that no annotation has, contradicts itself, or leaves no class.",
        "Correct the name or field that the message gives; it lists what the source has.",
    )
    CAPTURE_INVALID = (
        "CaptureInvalid",
        "spec.capture names a file or a column that the source does not have, or nothing that it names says anything about an image.",
        "Correct the field that the message names; it lists what the source has.",
    )
    TAXA_UNKNOWN = (
        "TaxaUnknown",
        "Some classes are not taxa in the register of names, and labels.taxonomy.onUnknown is Fail.",
        "Name their AphiaIDs in labels.taxonomy.ids, or the classes in keep; the message suggests similar names.",
    )
    TAXONOMY_UNAVAILABLE = (
        "TaxonomyUnavailable",
        "The register of names that labels.taxonomy queries does not answer, and no earlier answers of it say what the classes are.",
        "It is queried again every 10 minutes. A table in labels.taxonomy.table needs no service.",
        "waiting",
    )
    LABEL_WITHOUT_IMAGE = (
        "LabelWithoutImage",
        "A label file or annotation has no image.",
        "Add the image, or remove the label.",
    )
    CLASS_MISSING_FROM_TRAIN = (
        "ClassMissingFromTrain",
        "A class has no image in the training split.",
        "Add images of it, or change spec.split.",
    )
    SPLIT_IMPOSSIBLE = (
        "SplitImpossible",
        "There are too few images or groups for the splits, the source has none, or the value that images are divided by is unknown for some of them.",
        "Change spec.split, add images, or provide what is unknown through spec.capture.",
    )
    DATASET_NOT_READABLE = (
        "DatasetNotReadable",
        "The dataset version is missing or does not match its digest.",
        "Restore it, or create a new TrainingRun.",
    )
    CHECKPOINT_INVALID = (
        "CheckpointInvalid",
        "model.weights is not a checkpoint of this architecture, has another sha256, or was deleted after the run started.",
        "Replace the file on the data volume; this starts another attempt without further action. For a uri, set the annotation pelagos.dev/retry.",
    )
    UNTRUSTED_CHECKPOINT = (
        "UntrustedCheckpoint",
        "The checkpoint contains code. It was not executed.",
        "Save only the weights (a state_dict), and replace the file.",
    )
    TRAINING_DIVERGED = (
        "TrainingDiverged",
        "The loss became NaN or infinite.",
        "Lower the learning rate in a new TrainingRun.",
    )
    OUT_OF_MEMORY = (
        "OutOfMemory",
        "The accelerator or the machine ran out of memory.",
        "Lower batchSize or imageSize in a new TrainingRun, or free memory and set pelagos.dev/retry.",
    )
    SEARCH_FAILED = (
        "SearchFailed",
        "No trial of spec.search was completed: each of them diverged, ran out of memory, or was interrupted repeatedly; or its metric could not be computed for any of them.",
        "The message and `pelagos search` say why; narrow spec.search.space in a new TrainingRun. Giving this one more memory, or setting pelagos.dev/retry, tries all trials again.",
    )
    PARITY_FAILED = (
        "ParityFailed",
        "The exported model does not predict what the training framework predicts.",
        "Report it; such a model is never served.",
    )
    DISK_FULL = (
        "DiskFull",
        "No space is left on the volume that the message names, or a quota or a file limit is reached. No half-written file remains.",
        "Free space there or make the volume larger. If a step failed, then set the annotation pelagos.dev/retry; what the operator itself could not write is retried every few seconds.",
    )
    WORKSPACE_ALTERED = (
        "WorkspaceAltered",
        "What one step left in the workspace for the next has been altered: somebody else writes to the storage of the namespace.",
        "Find out who, then set the annotation pelagos.dev/retry to a new value; what was altered is created again.",
    )
    REQUEST_NOT_UNDERSTOOD = (
        "RequestNotUnderstood",
        "A step does not understand its request: its image has another version than the operator, or lacks one of its extensions.",
        "Give the operator the trainer image of its own version (PELAGOS_TRAINER_IMAGE), then set the annotation pelagos.dev/retry.",
    )
    STORAGE_REFUSED = (
        "StorageRefused",
        "The object storage refuses a step's credentials or the name of an object, or has no such bucket.",
        "Correct what the message names, then set the annotation pelagos.dev/retry.",
    )
    REPOSITORY_NOT_ALLOWED = (
        "RepositoryNotAllowed",
        "spec.publish names a repository at an address that may not be contacted: it is not https, or not public, and the platform has not allowed it.",
        "Have the entry that the message prints added to sourceHosts of the namespace, or name another address.",
    )
    REPOSITORY_ACCESS_DENIED = (
        "RepositoryAccessDenied",
        "The repository refuses the token: it is wrong, has expired, or may not write and publish.",
        "Put a new token into the Secret that spec.publish.zenodo.secretRef names; it is tried again within the hour, or when pelagos.dev/retry is set.",
    )
    REPOSITORY_SECRET_INCOMPLETE = (
        "RepositorySecretIncomplete",
        "The Secret that spec.publish.zenodo.secretRef names does not exist, or lacks the key with the token.",
        "Add the key that the message names; it is tried again within a minute, then less often.",
        "waiting",
    )
    REPOSITORY_AWAY = (
        "RepositoryAway",
        "The repository does not answer, or asks for a longer pause than a run may take. What was done there is kept and continued.",
        "Nothing, unless it persists: it is tried again after ten minutes, then less often.",
        "waiting",
    )
    PUBLICATION_REFUSED = (
        "PublicationRefused",
        "The repository rejects the record or one of its files, or somebody is editing the draft there.",
        "Correct what the message names, in spec.metadata, spec.publish or the repository; a change of the Dataset starts it again at once.",
    )
    METADATA_INCOMPLETE = (
        "MetadataIncomplete",
        "spec.publish.documents asks for a document that needs more fields of spec.metadata.",
        "Set the fields that the message names, or ask for fewer documents.",
    )


class Failure(Strict):
    """A refusal, with a message for the author of the YAML that names the field, the value, what is allowed and the next step.

    ``metrics`` and ``warnings`` are those of a training that was evaluated before the refusal: they remain valid. ``cost`` is
    that of the training until then.
    """

    reason: Reason
    message: str
    field: str | None = None
    metrics: dict[str, float | None] | None = None
    warnings: list[str] = []
    cost: Cost | None = None


class RefusedError(Exception):
    """Raised by any code of the data plane whose input a person must correct."""

    def __init__(self, reason: Reason, message: str, field: str | None = None) -> None:
        super().__init__(shown(message, lines=True))
        # Lone surrogates could not be encoded when the report is written.
        self.failure = Failure(reason=reason, message=shown(message, lines=True), field=field)
