"""Trainings: the parts that the TrainingRun's spec and the request share, and the result of a training's last step."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from pelagos_contract import families
from pelagos_contract.base import Strict
from pelagos_contract.capture import SLICE_FIELDS, SliceField
from pelagos_contract.cost import Cost
from pelagos_contract.families import Architecture
from pelagos_contract.model_card import About, Document
from pelagos_contract.progress import MOST_LEFT_OUT
from pelagos_contract.search import Search, SearchProgress
from pelagos_contract.tasks import TASKS, Task
from pelagos_contract.values import Decimal, RelativePath, Sha256
from pelagos_contract.weights_and_biases import WandbRequest

MAX_DETECTIONS = 3_000
"""Default limit of detections per image, for evaluations and services alike."""
_CALIBRATED = ", ".join(task.verb for task in TASKS.values() if task.calibrated)
MOST_DETECTIONS = 30_000
"""Most boxes of an image, the best ones, that our predictor and ultralytics consider."""


FILE_SCHEME = "file:"
"""Scheme of a uri that is equivalent to ``path``."""


class Weights(Strict):
    """A checkpoint to start from: on the data volume, or elsewhere; exactly one of path and uri is set."""

    path: Annotated[RelativePath | None, Field(description="File on the data volume, relative to its root.")] = None
    uri: Annotated[
        str | None,
        Field(
            pattern=r"^(https|s3|models|runs|file):[!-~]+$",
            max_length=2048,
            description="File elsewhere, which needs its sha256: https://…; s3://bucket/key on the object storage of this"
            " installation; models:/name/version, models:/name@alias or runs:/id/path of MLflow; file:path on the data volume.",
        ),
    ] = None
    sha256: Annotated[Sha256 | None, Field(description="Refuse the file if its digest differs; required with uri.")] = (
        None
    )

    @property
    def on_volume(self) -> str | None:
        """The path on the data volume, from ``path`` or a file: uri; None for a file elsewhere."""
        if self.uri is not None and self.uri.startswith(FILE_SCHEME):
            return self.uri.removeprefix(FILE_SCHEME)
        return self.path

    @property
    def place(self) -> str:
        """The location, for messages."""
        return self.uri or self.path or ""

    @property
    def field(self) -> str:
        """The field that names the location."""
        return "model.weights.path" if self.uri is None else "model.weights.uri"


class Model(Strict):
    """What is trained."""

    architecture: Annotated[Architecture, Field(description=families.described())]
    weights: Annotated[Weights | None, Field(description="A checkpoint to start from. Without it: random weights.")] = (
        None
    )


class Hyperparameters(Strict):
    """How it is trained."""

    epochs: Annotated[int, Field(ge=1, le=10000, description="Passes over the training split.")] = 50
    image_size: Annotated[
        int | None,
        Field(
            ge=32,
            le=4096,
            description="Longest side of the model's input in pixels, a multiple of 32. Default: "
            + ", ".join(f"{task.image_size} to {task.verb}" for task in TASKS.values())
            + "".join(f"; {one.pattern}: {one.image_size}" for one in families.FAMILIES if one.image_size)
            + ".",
        ),
    ] = None
    batch_size: Annotated[int, Field(ge=1, le=4096, description="Images in one batch.")] = 16
    gradient_accumulation: Annotated[
        int | None,
        Field(
            ge=1,
            le=1024,
            description="Batches whose gradients make one step of the optimiser, at most: a step never reaches into the next "
            "epoch. Default: 1.",
        ),
    ] = None
    learning_rate: Annotated[Decimal, Field(description="Highest learning rate.")] = "0.001"
    learning_rate_schedule: Annotated[
        Literal["Cosine", "Linear", "Constant"] | None,
        Field(
            description="How the learning rate falls after it has risen: to a hundredth, along a cosine or linearly, or not at "
            "all. Default: Linear for YOLO except its classifiers, else Cosine.",
        ),
    ] = None
    warmup_epochs: Annotated[
        int | None,
        Field(
            ge=0,
            le=10000,
            description="Epochs in which the learning rate rises, fewer than epochs. Default: 3, or all but the last one, for "
            "YOLO except its classifiers, else a tenth of all steps.",
        ),
    ] = None
    weight_decay: Annotated[Decimal, Field(description="Weight decay.")] = "0.0005"
    optimizer: Annotated[Literal["AdamW", "SGD"], Field(description="Optimiser.")] = "AdamW"
    mosaic: Annotated[
        bool,
        Field(description="Mosaic augmentation (YOLO); true takes precedence over augmentation.mosaic of the Dataset."),
    ] = False


class EarlyStopping(Strict):
    """When to stop before the last epoch."""

    patience: Annotated[int, Field(ge=1, le=10000, description="Epochs without improvement on the validation split.")]


class Evaluation(Strict):
    """How the model is measured."""

    max_detections: Annotated[
        int,
        Field(
            ge=1,
            le=MOST_DETECTIONS,
            description="Most detections per image, the best ones: on the validation split, on the test split, and in the "
            "model package. status.warnings reports images with more objects.",
        ),
    ] = MAX_DETECTIONS
    slices: Annotated[
        list[SliceField] | None,
        Field(
            min_length=1,
            max_length=len(SLICE_FIELDS),
            description="Fields that divide the images of the test split, from the Dataset's spec.capture: each value is "
            f"measured by itself, and the worst one of each field is reported. Of {', '.join(SLICE_FIELDS)}. Default: none.",
        ),
    ] = None
    calibration: Annotated[
        bool | None,
        Field(
            description="Calibrate scores, so that of those with 0.8 four in five are right: a temperature, and for detectors "
            "an offset, are found on the validation split, and the model package has servers apply them. test/ECE shows how far "
            "off scores are, test/ECE-uncalibrated how far off they are without it (docs/calibration.md). For models that "
            f"{_CALIBRATED}. Default: false."
        ),
    ] = None
    per_class_thresholds: Annotated[
        bool | None,
        Field(
            description="Give each class the confidence at which its F1 is highest on the validation split. The model package "
            "has them, servers apply them unless a caller asks for another confidence, and precision, recall and F1 of the test "
            "split are computed at them. For the same models. Default: false."
        ),
    ] = None
    leave_one_out: Annotated[
        SliceField | None,
        Field(
            description="Field of capture that divides the images, of "
            + ", ".join(SLICE_FIELDS)
            + f": for each of its values, {MOST_LEFT_OUT} at most, another model is trained without the images that have it, and "
            "measured on them. The model itself is still trained on the whole training split. Default: none."
        ),
    ] = None

    @property
    def sureness(self) -> str | None:
        """The first field that asks how certain the model is; None without any."""
        return "calibration" if self.calibration else "perClassThresholds" if self.per_class_thresholds else None


class DatasetInput(Strict):
    """The version to train on: ``uri`` is the folder that preparation wrote."""

    name: str
    version: str
    uri: str


class ChosenHyperparameters(Hyperparameters):
    """Hyperparameters, including the defaults that depend on the task."""

    image_size: Annotated[int, Field(ge=32, le=4096)]


class Threads(Strict):
    """The resources of its machine that a training may use."""

    cpu: Annotated[int, Field(ge=1, le=1024)] = 2
    gpus: Annotated[int, Field(ge=0, le=64)] = 1


Seed = Annotated[int, Field(ge=0, le=2147483647)]
MOST_SEEDS = 10
"""Most trainings of one TrainingRun that differ only in their seed."""


MOST_CHAMPIONS = 32


class Champion(Strict):
    """A registered model to compare the trained one with. ``name``: its name in gates; ``version``: its number.

    Its evidence is its result for each image of the test split, see evaluation.evidence. ``package`` is only set for evidence
    that was computed later: the SHA-256 of the package.json that it must belong to.
    """

    name: str
    version: str
    evidence_uri: str
    evidence_sha256: str
    package: str | None = None


class Difference(Strict):
    """One metric: the values of the trained model and of the champion, and the interval of their difference.

    None means undefined.
    """

    value: float | None = None
    champion: float | None = None
    low: float | None = None
    high: float | None = None


class Comparison(Strict):
    """The comparison of the packaged model with a champion on the same images. ``why``: the reason if they could not be compared.

    ``noInterval``: why there are no intervals, whose confidence level is ``level``. ``evidenceSha256``: the champion's evidence
    that was used; earlier results lack it.
    """

    name: str
    version: str
    evidence_sha256: str | None = None
    why: str | None = None
    level: float
    no_interval: str | None = None
    metrics: dict[str, Difference] = {}


class TrainingRequest(Strict):
    """The frozen inputs of one training run. ``seeds``: those of all its trainings if there are several; ``seed``: the first."""

    dataset: DatasetInput
    task: Task
    model: Model
    hyperparameters: ChosenHyperparameters
    early_stopping: EarlyStopping | None = None
    seed: Seed = 0
    seeds: list[Seed] = []
    search: Search | None = None
    resources: Threads = Threads()
    evaluation: Evaluation = Evaluation()
    wandb: WandbRequest | None = None
    about: About | None = None
    champions: Annotated[list[Champion], Field(max_length=MOST_CHAMPIONS)] = []


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
    onnx_sha256: str
    manifest_sha256: str
    task: Task
    labels: list[str]
    parity: Parity


class Interval(Strict):
    """The interval in which a metric would lie for other images of the same kind, at the confidence level of its resampling."""

    low: float
    high: float


class Resampling(Strict):
    """How intervals were computed: groups of images, by ``by``, were drawn with replacement ``samples`` times.

    ``why``: the reason if there are none.
    """

    by: str
    groups: int
    level: float
    samples: int
    why: str | None = None


class Slice(Strict):
    """The images of the test split with one value of a field; None: those for which it is unknown.

    ``by`` and ``groups``: the groups from which its interval was computed.
    """

    value: str | None = None
    images: int
    objects: int
    by: str
    groups: int


class SlicedField(Strict):
    """The slices of a field. ``worst`` is the value of the slice with the worst ``metric``, the main one of the task, without the
    slice of unknown values; None if no slice has that metric."""

    field: str
    metric: str
    slices: list[Slice]
    worst: str | None = None


EVIDENCE_FOLDER = "evidence"
"""Folder below the packages of a namespace with the evidence that `pelagos evaluate` keeps, in files named by their SHA-256."""


class EvidenceFile(Strict):
    """The model's result for each image of the test split, see evaluation.evidence. ``test``: the digest of its input."""

    uri: str
    sha256: str
    test: str


class LeftOutGroup(Strict):
    """A model that was trained without the ``images`` with one value of a field; its metrics are among those of the result.

    ``warnings``: caveats for readers of its metrics.
    """

    value: str
    images: int
    epochs: int
    warnings: list[str] = []


class LeftOut(Strict):
    """Models without one group each. ``metric`` is the main one of the task, ``unknown`` the number of images without a value."""

    field: str
    metric: str
    unknown: int = 0
    groups: list[LeftOutGroup]


class SeedResult(Strict):
    """One training of several. ``fitness``: the metric of the validation split that chose its best epoch, and the model."""

    seed: Seed
    epochs: int
    best_epoch: int
    fitness: float | None = None
    metrics: dict[str, float | None]


class TrainingResult(Strict):
    """Metrics are named ``<split>/<metric>`` or ``<split>/<metric>/<class>``; null means that the split cannot determine it.

    With several seeds, ``metrics`` are the means, null where one of them is, ``deviations`` the sample standard deviations
    (n - 1), and ``seed`` is that of the model.
    ``cost`` is that of all attempts; earlier releases did not measure it. ``documents`` are beside the package.
    ``intervals`` are those of metrics by name, for those that have one, and ``evidence`` is that of the packaged model.
    """

    metrics: dict[str, float | None]
    epochs: int
    model: ModelPackage
    warnings: list[str] = []
    deviations: dict[str, float] = {}
    intervals: dict[str, Interval] = {}
    resampling: Resampling | None = None
    slices: list[SlicedField] = []
    evidence: EvidenceFile | None = None
    seeds: list[SeedResult] = []
    seed: Seed | None = None
    champions: list[Comparison] = []
    cost: Cost | None = None
    search: SearchProgress | None = None
    documents: list[Document] = []
    leave_one_out: LeftOut | None = None
