"""What the control plane and the data plane say to each other: requests as pipeline parameters, reports as files.

The operator never imports this module. It renders the same JSON from its own types; a test holds both to the JSON schema
that is generated from here into ``pipelines/compiled/contract.json``. Every task ends by writing exactly one of
``result.json`` and ``failure.json`` into its report folder, atomically, and sealed (see sealing) when it has the key of its run.
"""

from __future__ import annotations

import json
import os
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from pelagos_pipelines import disk, sealing
from pelagos_pipelines.text import shown

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")
ClassFolder = Literal["First", "Last"]
"""Which folder is the class in an ImageFolder with folders in folders."""


class Strict(BaseModel):
    """Unknown fields are refused: a misspelt field must not be ignored silently."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Task(StrEnum):
    """What a model does with an image."""

    CLASSIFICATION = "Classification"
    DETECTION = "Detection"


class VolumeSource(Strict):
    """A folder on the data volume."""

    path: str


class Source(Strict):
    """Where images and labels come from; exactly one field is set."""

    volume: VolumeSource


class Duplicates(Strict):
    """How duplicates are treated, and near ones within ``max_distance`` (see preparation.alike); 0: exact ones only."""

    max_distance: Annotated[int, Field(ge=0, le=16, alias="maxDistance")] = 0
    action: Literal["KeepFirst", "Keep", "Fail"] = "KeepFirst"


class Cleaning(Strict):
    """What is dropped before splitting; ``min_side`` is in pixels."""

    corrupt: Literal["Drop", "Fail"] = "Drop"
    unreadable_types: Annotated[Literal["Drop", "Fail"], Field(alias="unreadableTypes")] = "Fail"
    duplicates: Duplicates = Duplicates()
    min_side: Annotated[int, Field(ge=1, alias="minSide")] = 16


class Ratios(Strict):
    """Percentages that add up to 100."""

    train: Annotated[int, Field(ge=1, le=100)] = 70
    validation: Annotated[int, Field(ge=0, le=100)] = 15
    test: Annotated[int, Field(ge=0, le=100)] = 15


class SplitPolicy(Strict):
    """How images are divided; the same seed and content give the same split on every machine."""

    policy: Literal["Random", "Stratified", "Grouped", "Provided"] = "Stratified"
    ratios: Ratios = Ratios()
    seed: int = 0


class PreparationRequest(Strict):
    """The frozen recipe of one dataset version.

    ``retry`` is no part of it: what a person changes to have the source looked at again. A result that was left for another
    value is not taken for an answer.
    """

    source: Source
    format: Literal["Auto", "ImageFolder", "Coco", "Yolo"] = "Auto"
    class_folder: Annotated[ClassFolder | None, Field(alias="classFolder")] = None
    task: Task
    cleaning: Cleaning = Cleaning()
    split: SplitPolicy = SplitPolicy()
    retry: str = ""


class ClassCount(Strict):
    """A class with the number of images that show it and of its annotations."""

    name: str
    images: int
    annotations: int


class SplitCount(Strict):
    """Images in one split."""

    images: int


class Quality(Strict):
    """What cleaning found. ``leakage`` counts groups, duplicates that were kept, and near ones, in more than one split."""

    found: int
    corrupt: int
    duplicates: int
    near_duplicates: Annotated[int, Field(alias="nearDuplicates")]
    too_small: Annotated[int, Field(alias="tooSmall")]
    leakage: int


class ExclusionReason(StrEnum):
    """Why a file of the source is not in the version. Every file is used, was read as an annotation, or has one of these."""

    CORRUPT = "Corrupt"
    """An image that cannot be decoded whole."""
    TOO_SMALL = "TooSmall"
    """An image with a side below cleaning.minSide."""
    DUPLICATE = "Duplicate"
    """An image that shows the same as an earlier one, pixel by pixel."""
    NEAR_DUPLICATE = "NearDuplicate"
    """An image that looks like an earlier one, by cleaning.duplicates.maxDistance."""
    UNREADABLE_TYPE = "UnreadableType"
    """An image of a kind that neither training nor serving reads, such as TIFF."""
    UNLISTED = "Unlisted"
    """An image that no annotation file, and no split of data.yaml, names."""
    UNLABELLED = "Unlabelled"
    """An image without a label: that it shows nothing would have to be said."""
    LABEL_WITHOUT_IMAGE = "LabelWithoutImage"
    """A label file whose image is not there."""
    HIDDEN = "Hidden"
    """A name that begins with a dot or that tools give to their own files, or a file in such a folder."""
    NOT_AN_IMAGE = "NotAnImage"
    """A file that is neither an image nor was read for annotations."""
    NOT_A_FILE = "NotAFile"
    """A pipe, a socket or a device."""


class Files(Strict):
    """All files of the source: ``found`` is the sum of the others. ``annotations`` were read for what they say of images."""

    found: int
    images: int
    annotations: int
    excluded: int


class Excluded(Strict):
    """How many files are not in the version for one reason, and the first names; excluded.jsonl of the version has all."""

    reason: ExclusionReason
    files: int
    first: list[str]


class PreparationResult(Strict):
    """One immutable dataset version."""

    version: str
    uri: str
    images: int
    annotations: int
    classes: list[ClassCount]
    splits: dict[Split, SplitCount]
    quality: Quality
    files: Files
    excluded: list[Excluded] = []
    warnings: list[str] = []


class DatasetInput(Strict):
    """The version to train on: ``uri`` is the folder that preparation wrote."""

    name: str
    version: str
    uri: str


class Weights(Strict):
    """A checkpoint to start from, on the data volume."""

    path: str
    sha256: str | None = None


class Model(Strict):
    """Architecture and, optionally, the checkpoint to start from."""

    architecture: Literal[
        "yolov8n", "yolov8s", "yolov8m", "yolov8l", "yolov8x", "mobilenet_v3_small", "mobilenet_v3_large"
    ]
    weights: Weights | None = None


class Hyperparameters(Strict):
    """Learning rate and weight decay are decimal strings, because a Kubernetes spec holds no floats."""

    epochs: Annotated[int, Field(ge=1)]
    image_size: Annotated[int, Field(ge=32, alias="imageSize")]
    batch_size: Annotated[int, Field(ge=1, alias="batchSize")]
    learning_rate: Annotated[str, Field(alias="learningRate")]
    weight_decay: Annotated[str, Field(alias="weightDecay")] = "0.0005"
    optimizer: Literal["AdamW", "SGD"] = "AdamW"
    mosaic: bool = False


class EarlyStopping(Strict):
    """Stop when the validation metric has not improved for ``patience`` epochs."""

    patience: Annotated[int, Field(ge=1)]


class Resources(Strict):
    """Processor cores that the training may use (threads)."""

    cpu: Annotated[int, Field(ge=1)] = 2


class Evaluation(Strict):
    """How models are measured, on the validation split while they are trained and on the test split, and then served.

    At most ``max_detections`` boxes are reported of one image. No more than 30 000 candidates of one are ever looked at.
    """

    max_detections: Annotated[int, Field(ge=1, le=30_000, alias="maxDetections")] = 3_000


class TrainingRequest(Strict):
    """The frozen inputs of one training run."""

    dataset: DatasetInput
    task: Task
    model: Model
    hyperparameters: Hyperparameters
    early_stopping: Annotated[EarlyStopping | None, Field(alias="earlyStopping")] = None
    seed: int = 0
    resources: Resources = Resources()
    evaluation: Evaluation = Evaluation()


class Parity(Strict):
    """Largest difference between the exported model and the training framework over ``images`` test images.

    ``boxes`` is in pixels of the original image, ``scores`` in [0, 1].
    """

    images: int
    boxes: float
    scores: float


class ModelPackage(Strict):
    """A proven, servable model: the folder ``uri`` holds what export.package documents.

    ``manifestSha256`` is the digest of its package.json, which lists those of all other files: it pins the whole package.
    """

    uri: str
    onnx_sha256: Annotated[str, Field(alias="onnxSha256")]
    manifest_sha256: Annotated[str, Field(alias="manifestSha256")]
    task: Task
    labels: list[str]
    parity: Parity


class TrainingResult(Strict):
    """Metrics are named ``<split>/<metric>`` or ``<split>/<metric>/<class>``; null is one that the split says nothing about."""

    metrics: dict[str, float | None]
    epochs: int
    model: ModelPackage
    warnings: list[str] = []


class Reason(StrEnum):
    """Why a task refused its input. The control plane publishes these as condition reasons."""

    SOURCE_NOT_FOUND = "SourceNotFound"
    """The folder that the source names does not exist on the data volume."""
    SOURCE_NOT_READABLE = "SourceNotReadable"
    """The account that steps run under may not read a file or folder of the source."""
    SOURCE_EMPTY = "SourceEmpty"
    """The source holds no images."""
    FORMAT_NOT_RECOGNISED = "FormatNotRecognised"
    """Format Auto found none, or more than one, of the known layouts."""
    FORMAT_INVALID = "FormatInvalid"
    """The files contradict the named format: unreadable JSON, a label row that is not one."""
    TASK_MISMATCH = "TaskMismatch"
    """The source carries annotations of another task."""
    CORRUPT_IMAGES = "CorruptImages"
    """Unreadable or truncated images, and cleaning.corrupt is Fail."""
    DUPLICATE_IMAGES = "DuplicateImages"
    """Duplicates, and cleaning.duplicates.action is Fail; or those that would be dropped have other annotations."""
    NO_IMAGES_LEFT = "NoImagesLeft"
    """Cleaning removed every image."""
    ANNOTATION_OUTSIDE_IMAGE = "AnnotationOutsideImage"
    """A bounding box lies outside its image or has no area."""
    UNKNOWN_CLASS = "UnknownClass"
    """An annotation names a class that the source does not declare."""
    LABEL_WITHOUT_IMAGE = "LabelWithoutImage"
    """A label file or annotation whose image is missing."""
    CLASS_MISSING_FROM_TRAIN = "ClassMissingFromTrain"
    """A class has no image in the training split."""
    SPLIT_IMPOSSIBLE = "SplitImpossible"
    """Too few images or groups for the splits asked for, or no splits in the source."""
    DATASET_NOT_READABLE = "DatasetNotReadable"
    """The dataset version is missing, incomplete, or its content does not match its digest."""
    CHECKPOINT_INVALID = "CheckpointInvalid"
    """The file named by model.weights is missing, is not a checkpoint of this architecture, or has another sha256."""
    UNTRUSTED_CHECKPOINT = "UntrustedCheckpoint"
    """The checkpoint holds code; it was not executed."""
    TRAINING_DIVERGED = "TrainingDiverged"
    """The loss became NaN or infinite."""
    OUT_OF_MEMORY = "OutOfMemory"
    """The accelerator or the machine ran out of memory."""
    PARITY_FAILED = "ParityFailed"
    """The exported model does not predict what the training framework predicts."""
    DISK_FULL = "DiskFull"
    """No space is left where the result must be written."""
    WORKSPACE_ALTERED = "WorkspaceAltered"
    """What an earlier step of the run left in the workspace is not what is there now."""
    STORAGE_REFUSED = "StorageRefused"
    """The object storage refuses the credentials or the name, or has no such bucket."""


class Failure(Strict):
    """A refusal in words for the person who wrote the YAML: names the field, the value, what is allowed and the next step.

    ``metrics`` and ``warnings`` are those of a training that was evaluated before: what was measured stays true.
    """

    reason: Reason
    message: str
    field: str | None = None
    metrics: dict[str, float | None] | None = None
    warnings: list[str] = []


class RefusedError(Exception):
    """Raised by any code of the data plane whose input a person must correct."""

    def __init__(self, reason: Reason, message: str, field: str | None = None) -> None:
        super().__init__(shown(message, lines=True))
        # Half of a character could not even be written down.
        self.failure = Failure(reason=reason, message=shown(message, lines=True), field=field)


def write_atomically(path: Path, text: str) -> None:
    """Write ``text`` so that a reader sees the whole file or none of it, also after a crash."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with disk.written(path.with_name(f".{path.name}.partial")) as partial:
        with partial.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)


def report_result(folder: Path, result: BaseModel) -> None:
    """Write ``result.json``."""
    write_atomically(folder / "result.json", _sealed(result))


def report_failure(folder: Path, failure: Failure) -> None:
    """Write ``failure.json``."""
    write_atomically(folder / "failure.json", rendered(failure).decode())


def rendered(failure: Failure) -> bytes:
    """The content of ``failure.json``."""
    return _sealed(failure).encode()


def _sealed(message: BaseModel) -> str:
    document = sealing.sealed(json.loads(message.model_dump_json(by_alias=True)))
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def json_schema() -> str:
    """The JSON schemas of all messages, for the control plane's tests."""
    messages = (PreparationRequest, PreparationResult, TrainingRequest, TrainingResult, Failure)
    schemas = {message.__name__: message.model_json_schema(by_alias=True) for message in messages}
    return json.dumps(schemas, indent=2, sort_keys=True) + "\n"
