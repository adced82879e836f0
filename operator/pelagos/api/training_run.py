"""TrainingRun: immutable inputs, run to completion once. Gates and registration may change: they judge, they do not train."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from pelagos.api import gates, search
from pelagos.api.dataset import PipelineRunStatus
from pelagos.api.gates import Gate, GateStatus, Interval
from pelagos.api.meta import (
    RESOURCE_RULES,
    BaseSpec,
    BaseStatus,
    Column,
    Cpu,
    Duration,
    GpuPlacementSpec,
    Name,
    Priority,
    Quantity,
    Rule,
    stays_below_root,
)
from pelagos.api.queueing import QueueStatus
from pelagos.api.search import SearchStatus
from pelagos.api.stages import StageProgress
from pelagos_contract.base import Strict
from pelagos_contract.model_card import Card
from pelagos_contract.search import Search
from pelagos_contract.training import MOST_SEEDS, EarlyStopping, Evaluation, Hyperparameters, Model, Seed
from pelagos_contract.weights_and_biases import Mode, WandbSpec

FROZEN = ("datasetRef", "model", "hyperparameters", "earlyStopping", "seeds", "search", "tracking", "evaluation")
"""Fields of spec that decide the outcome: they cannot change once the resource exists."""


class DatasetRef(Strict):
    """The Dataset to train on, in the same namespace."""

    name: Annotated[Name, Field(description="Name of the Dataset.")]
    version: Annotated[
        str,
        Field(
            pattern=r"^(latest|sha256:[0-9a-f]{64})$",
            description="A version from its status, or latest: resolved once, then frozen in status.",
        ),
    ] = "latest"


class Resources(GpuPlacementSpec):
    """Resources that the training requests."""

    gpus: Annotated[
        int,
        Field(
            ge=0,
            le=64,
            description="GPUs (nvidia.com/gpu) that share the training; at most 1 for architectures that use only one. On "
            "one machine as many are used as exist.",
        ),
    ] = 0
    cpu: Annotated[
        Cpu, Field(description='Processor cores, for example 2, "1.5" or 500m: both the request and the limit.')
    ] = 2
    shared_memory: Annotated[
        Quantity | None,
        Field(description="Size of /dev/shm, through which data loaders pass images. Default: 2Gi."),
    ] = None
    queue: Annotated[
        Name | None, Field(description="Kueue LocalQueue. Default: the one that the platform sets for the namespace.")
    ] = None


class TrackingSpec(Strict):
    """Where the run is tracked."""

    experiment: Annotated[
        str | None,
        Field(min_length=1, max_length=250, description="MLflow experiment. Default: <namespace>/<dataset name>."),
    ] = None
    wandb: Annotated[
        WandbSpec | None,
        Field(description="Weights & Biases, in addition to MLflow. Default: not used (docs/tracking.md)."),
    ] = None


class Register(Strict):
    """Where the model is registered when all gates pass."""

    model: Annotated[
        str, Field(pattern=r"^[A-Za-z0-9][-A-Za-z0-9_. ]*$", max_length=200, description="Registered model.")
    ]
    alias: Annotated[
        str | None,
        Field(
            pattern=r"^[A-Za-z][-A-Za-z0-9_]*$", max_length=100, description="Alias that is moved to the new version."
        ),
    ] = None


class TrainingRunSpec(BaseSpec):
    """One training. What decides its outcome is immutable; gates, card, register, resources, priority, deadline,
    ttlSecondsAfterFinished and suspend may change."""

    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule(
            cel="!has(self.hyperparameters.imageSize) || self.hyperparameters.imageSize % 32 == 0",
            message="spec.hyperparameters.imageSize must be a multiple of 32",
            field="spec.hyperparameters.imageSize",
            holds=lambda spec: spec.hyperparameters.image_size is None or spec.hyperparameters.image_size % 32 == 0,
        ),
        Rule(
            cel="!has(self.model.weights) || !has(self.model.weights.path) || "
            "(!self.model.weights.path.startsWith('/') && !self.model.weights.path.split('/').exists(p, p == '..'))",
            message="spec.model.weights.path must be relative to the data volume and must not contain '..'",
            field="spec.model.weights.path",
            holds=lambda spec: (
                spec.model.weights is None
                or spec.model.weights.path is None
                or stays_below_root(spec.model.weights.path)
            ),
        ),
        Rule(
            cel="!has(self.model.weights) || has(self.model.weights.path) != has(self.model.weights.uri)",
            message="spec.model.weights: set exactly one of path and uri",
            field="spec.model.weights",
            holds=lambda spec: (
                spec.model.weights is None or (spec.model.weights.path is None) != (spec.model.weights.uri is None)
            ),
        ),
        Rule(
            cel="!has(self.model.weights) || !has(self.model.weights.uri) || has(self.model.weights.sha256)",
            message="spec.model.weights.sha256 is needed with uri, since the file there may change; `sha256sum FILE` "
            "prints it",
            field="spec.model.weights.sha256",
            holds=lambda spec: (
                spec.model.weights is None or spec.model.weights.uri is None or spec.model.weights.sha256 is not None
            ),
        ),
        Rule(
            cel="!has(self.model.weights) || !has(self.model.weights.uri) || !self.model.weights.uri.startsWith('file:') || "
            "(!self.model.weights.uri.startsWith('file:/') && "
            "!self.model.weights.uri.substring(5).split('/').exists(p, p == '..'))",
            message="spec.model.weights.uri: file: must be followed by a path that is relative to the data volume, without "
            "'..'",
            field="spec.model.weights.uri",
            holds=lambda spec: (
                spec.model.weights is None
                or spec.model.weights.uri is None
                or spec.model.weights.on_volume is None
                or stays_below_root(spec.model.weights.on_volume)
            ),
        ),
        Rule(
            cel="double(self.hyperparameters.learningRate) > 0.0 && double(self.hyperparameters.learningRate) <= 1.0",
            message="spec.hyperparameters.learningRate must be above 0 and at most 1",
            field="spec.hyperparameters.learningRate",
            holds=lambda spec: 0 < float(spec.hyperparameters.learning_rate) <= 1,
        ),
        Rule(
            cel="double(self.hyperparameters.weightDecay) <= 1.0",
            message="spec.hyperparameters.weightDecay must be at most 1",
            field="spec.hyperparameters.weightDecay",
            holds=lambda spec: float(spec.hyperparameters.weight_decay) <= 1,
        ),
        Rule(
            cel="!has(self.hyperparameters.warmupEpochs) || self.hyperparameters.warmupEpochs < self.hyperparameters.epochs",
            message="spec.hyperparameters.warmupEpochs must be below spec.hyperparameters.epochs",
            field="spec.hyperparameters.warmupEpochs",
            holds=lambda spec: (spec.hyperparameters.warmup_epochs or 0) < spec.hyperparameters.epochs,
        ),
        Rule(
            cel="self.seeds.all(seed, self.seeds.exists_one(other, other == seed))",
            message="spec.seeds must name each seed once",
            field="spec.seeds",
            holds=lambda spec: len(set(spec.seeds)) == len(spec.seeds),
        ),
        Rule(
            cel="!has(self.evaluation.slices) || self.evaluation.slices.all(field, "
            "self.evaluation.slices.exists_one(other, other == field))",
            message="spec.evaluation.slices must name each field once",
            field="spec.evaluation.slices",
            holds=lambda spec: len({*(spec.evaluation.slices or ())}) == len(spec.evaluation.slices or ()),
        ),
        Rule(
            cel="!has(self.evaluation.leaveOneOut) || !has(self.search)",
            message="spec.evaluation.leaveOneOut and spec.search exclude each other: the trials would have seen what is "
            "left out; search first, then set the hyperparameters that were found",
            field="spec.evaluation.leaveOneOut",
            holds=lambda spec: spec.evaluation.leave_one_out is None or spec.search is None,
        ),
        Rule(
            cel="!has(self.tracking.wandb) || self.tracking.wandb.mode != 'Online' || has(self.tracking.wandb.secretRef)",
            message="spec.tracking.wandb.secretRef is needed with mode Online: it names a Secret with the key apiKey",
            field="spec.tracking.wandb.secretRef",
            holds=lambda spec: (
                spec.tracking.wandb is None
                or spec.tracking.wandb.mode is not Mode.ONLINE
                or spec.tracking.wandb.secret_ref is not None
            ),
        ),
        *search.RULES,
        *gates.RULES,
        *RESOURCE_RULES,
    )

    dataset_ref: Annotated[DatasetRef, Field(description="The Dataset to train on, in the same namespace.")]
    model: Annotated[Model, Field(description="What is trained.")]
    hyperparameters: Annotated[Hyperparameters, Field(description="How it is trained.")] = Hyperparameters()
    early_stopping: Annotated[
        EarlyStopping | None, Field(description="When to stop before the last epoch. Default: never.")
    ] = None
    seeds: Annotated[
        list[Seed],
        Field(
            min_length=1,
            max_length=MOST_SEEDS,
            description="Seeds of weights and data order. With several, one model is trained for each, one after the "
            "other: metrics are their means, and the model is the one with the best fitness on the validation "
            "split; of equal ones, the one with the lowest seed.",
        ),
    ] = [0]
    search: Annotated[
        Search | None,
        Field(
            description="Hyperparameters are searched first, and the model is trained with the best ones. Default: no "
            "search."
        ),
    ] = None
    resources: Annotated[
        Resources, Field(description="Resources that the training requests; changing them tries a failed run again.")
    ] = Resources()
    priority: Priority = None
    deadline: Annotated[Duration, Field(description="The run is ended when it takes longer.")] = "24h"
    ttl_seconds_after_finished: Annotated[
        int | None,
        Field(
            ge=0,
            le=2147483647,
            description="Seconds after which a finished TrainingRun, successful or not, is deleted, as with a Job; "
            "deletionPolicy says what happens to its model. Not while a ModelService refers to it or serves "
            "its model. Default: never.",
        ),
    ] = None
    tracking: Annotated[TrackingSpec, Field(description="Where the run is tracked.")] = TrackingSpec()
    evaluation: Annotated[Evaluation, Field(description="How the model is measured.")] = Evaluation()
    gates: Annotated[list[Gate], Field(max_length=32, description="All must pass for Ready and for registration.")] = []
    card: Annotated[
        Card | None,
        Field(
            description="What people say about the model. Its documents show the card as it is when an attempt starts: "
            "changing it does not train anything again (docs/reports-and-cards.md)."
        ),
    ] = None
    register_: Annotated[
        Register | None,
        Field(alias="register", description="Where the model is registered when all gates pass. Default: nowhere."),
    ] = None


class FrozenDataset(Strict):
    """The version that was resolved once, and does not change."""

    name: Annotated[str, Field(description="Name of the Dataset.")]
    version: Annotated[str, Field(description="Digest of the version.")]
    uri: Annotated[str, Field(description="Folder of the version.")]
    task: Annotated[str, Field(description="Task of the version.")]


class TrackingStatus(Strict):
    """The MLflow run."""

    experiment: Annotated[str, Field(description="MLflow experiment.")]
    run: Annotated[str, Field(description="MLflow run id.")]
    url: Annotated[str, Field(description="The run's page.")]
    seal: Annotated[
        str | None, Field(description="The operator's seal over the run id and the purpose of the run.")
    ] = None


class Progress(StageProgress):
    """How far the training is."""

    epoch: Annotated[int | None, Field(description="Epochs done.")] = None
    epochs: Annotated[int | None, Field(description="Epochs planned.")] = None
    percent: Annotated[int | None, Field(description="Share of the epochs done.")] = None
    eta: Annotated[
        str | None,
        Field(
            description="When the training should end, from the pace so far.", json_schema_extra={"format": "date-time"}
        ),
    ] = None
    loss: Annotated[str | None, Field(description="Loss of the last epoch, on the training split.")] = None
    metrics: Annotated[
        dict[str, str] | None,
        Field(
            description="Figures of the last epoch, on the validation split: the loss, and the main metrics of the task."
        ),
    ] = None
    images_per_second: Annotated[
        str | None,
        Field(description="Training images of an epoch, divided by its time, which includes its validation."),
    ] = None
    gpu_memory: Annotated[
        str | None, Field(description="Most GPU memory that the training held; absent without GPUs.")
    ] = None


class SeedStatus(Strict):
    """One training of several."""

    seed: Annotated[int, Field(description="Its seed.")]
    state: Annotated[str, Field(description="Waiting, Training, Trained or Evaluated.")]
    epoch: Annotated[int | None, Field(description="Epochs done.")] = None
    fitness: Annotated[
        str | None,
        Field(
            description="Value, in its best epoch, of the validation metric that chooses the best epoch and the model."
        ),
    ] = None
    metrics: Annotated[dict[str, str] | None, Field(description="Its figures on the test split.")] = None
    chosen: Annotated[bool | None, Field(description="True for the one whose model is packaged.")] = None


class ResamplingStatus(Strict):
    """How intervals were computed: groups of images were drawn with replacement."""

    by: Annotated[
        str, Field(description="What makes a group: group, site, deployment, or image where none of them is known.")
    ]
    groups: Annotated[int, Field(description="Groups of the test split.")]
    samples: Annotated[int, Field(description="How often they were drawn; 0 where there are no intervals.")]
    why: Annotated[str | None, Field(description="Why there are no intervals.")] = None


class WorstSlice(Strict):
    """The slice of a field whose main metric is worst."""

    value: Annotated[str, Field(description="The value of its images.")]
    metric: Annotated[str, Field(description="The main metric of the task.")]
    figure: Annotated[str, Field(description="Its value on these images.")]
    interval: Annotated[Interval | None, Field(description="Its interval; absent where there are too few groups.")] = (
        None
    )
    images: Annotated[int, Field(description="Images of the slice.")]
    objects: Annotated[int, Field(description="Annotations of the slice.")]


class SliceStatus(Strict):
    """The slices of one field of spec.evaluation.slices."""

    field: Annotated[str, Field(description="The field.")]
    slices: Annotated[int, Field(description="Its values in the test split.")]
    unknown: Annotated[
        int | None,
        Field(description="Images whose value is not known: a separate slice, which is never the worst one."),
    ] = None
    worst: Annotated[
        WorstSlice | None, Field(description="The worst one; absent where none of them has the metric.")
    ] = None


class LeftOutStatus(Strict):
    """The model that is trained without the images with one value of a field."""

    value: Annotated[str, Field(description="The value.")]
    state: Annotated[str, Field(description="Waiting, Training, Trained or Evaluated.")]
    epoch: Annotated[int | None, Field(description="Epochs done.")] = None
    images: Annotated[
        int | None, Field(description="Images with the value, in all splits: the model is measured on these.")
    ] = None
    metric: Annotated[
        str | None, Field(description="The main metric on these images; absent when it is undefined there.")
    ] = None


class LeaveOneOutStatus(Strict):
    """Models that are trained without one group of images each, and measured on it."""

    field: Annotated[str, Field(description="The field by which images are grouped.")]
    metric: Annotated[str | None, Field(description="The main metric of the task.")] = None
    mean: Annotated[
        str | None, Field(description="Its mean over the groups that have it, each with the same weight.")
    ] = None
    deviation: Annotated[str | None, Field(description="Its sample standard deviation (n - 1) over these groups.")] = (
        None
    )
    unknown: Annotated[
        int | None,
        Field(description="Images whose field is not known: they are in no group, and not used in these models."),
    ] = None
    groups: Annotated[list[LeftOutStatus], Field(description="The groups, by their values.")]


class ModelStatus(Strict):
    """The trained model."""

    uri: Annotated[str, Field(description="Folder of the model package.")]
    onnx_sha256: Annotated[str, Field(description="Digest of the ONNX graph.")]
    manifest_sha256: Annotated[str | None, Field(description="Digest of package.json, which pins the package.")] = None
    name: Annotated[str | None, Field(description="Registered model.")] = None
    version: Annotated[str | None, Field(description="Registered version.")] = None


class DocumentStatus(Strict):
    """A document of the model."""

    name: Annotated[str, Field(description="Name of the file: report.html, model-card.md, and others for catalogues.")]
    uri: Annotated[str, Field(description="Where it is, beside the model package.")]
    sha256: Annotated[str, Field(description="Its digest.")]
    url: Annotated[str | None, Field(description="Its page in MLflow.")] = None


class CostStatus(Strict):
    """What the training took, in all its attempts together. A figure has two digits, or says unknown."""

    duration_seconds: Annotated[str, Field(description="How long its steps computed, without waiting in queues.")]
    cpu_hours: Annotated[str, Field(description="Time of processor cores.")]
    gpu_hours: Annotated[str, Field(description="Time of GPUs that nobody else could use.")]
    energy: Annotated[str, Field(description="Kilowatt-hours of processors and GPUs.")]
    energy_method: Annotated[str, Field(description="How the energy was measured or estimated.")]
    co2: Annotated[str, Field(description="Grams of CO2 equivalent: energy times intensity.")]
    intensity: Annotated[str, Field(description="Grams of CO2 equivalent per kilowatt-hour.")]
    attempts: Annotated[int, Field(description="Number of attempts.")]
    missing: Annotated[list[str] | None, Field(description="What the figures leave out because it is not known.")] = (
        None
    )


class TrainingRunStatus(BaseStatus):
    """Frozen inputs, progress, figures and the resulting model."""

    inputs_digest: Annotated[str | None, Field(description="Digest of the frozen inputs; it keys the run.")] = None
    inputs: Annotated[
        dict[str, object] | None,
        Field(
            description="The frozen fields of spec as they were when the run was keyed.",
            json_schema_extra={"x-kubernetes-preserve-unknown-fields": True},
        ),
    ] = None
    algorithms: Annotated[
        dict[str, int] | None,
        Field(
            description="Versions of the algorithms that the last attempt used; an upgrade does not change what others "
            "made."
        ),
    ] = None
    dataset: Annotated[FrozenDataset | None, Field(description="The version that was resolved once.")] = None
    pipeline_run: Annotated[PipelineRunStatus | None, Field(description="The training run in the pipeline engine.")] = (
        None
    )
    tracking: Annotated[TrackingStatus | None, Field(description="The MLflow run.")] = None
    queue: Annotated[
        QueueStatus | None, Field(description="State of its step in the queue, while the run is in progress.")
    ] = None
    progress: Annotated[Progress | None, Field(description="Progress of the training.")] = None
    metrics: Annotated[
        dict[str, str] | None,
        Field(
            description="Figures on the test split, also of a run that failed after its evaluation; an undefined one is "
            "absent. With several seeds: their means. Of slices: worst/<field>/<metric> for the main metric; "
            "the others, and those of single classes, are in MLflow."
        ),
    ] = None
    deviations: Annotated[
        dict[str, str] | None,
        Field(description="Sample standard deviations (n - 1) of these figures over several seeds."),
    ] = None
    intervals: Annotated[
        dict[str, Interval] | None,
        Field(description="Confidence intervals of figures, for other images of the same kind."),
    ] = None
    resampling: Annotated[
        ResamplingStatus | None, Field(description="How these intervals were computed, or why there are none.")
    ] = None
    slices: Annotated[
        list[SliceStatus] | None,
        Field(description="Slices of the test split, by the fields of spec.evaluation.slices."),
    ] = None
    worst_slice: Annotated[
        str | None, Field(description="The worst slice of the first field, in words: what kubectl get -o wide shows.")
    ] = None
    seeds: Annotated[
        list[SeedStatus] | None, Field(description="The trainings, where spec.seeds names several seeds.")
    ] = None
    search: Annotated[SearchStatus | None, Field(description="Progress of the search, and what it found.")] = None
    leave_one_out: Annotated[
        LeaveOneOutStatus | None,
        Field(description="The models that are trained without one group each, where spec.evaluation asks for them."),
    ] = None
    warnings: Annotated[list[str] | None, Field(description="What a careful reader should know about the figures.")] = (
        None
    )
    cost: Annotated[CostStatus | None, Field(description="What the training took, once it has ended.")] = None
    gates: Annotated[list[GateStatus] | None, Field(description="Outcome of the gates.")] = None
    model: Annotated[ModelStatus | None, Field(description="The trained model.")] = None
    documents: Annotated[
        list[DocumentStatus] | None, Field(description="Report and card of the model, and its entries for catalogues.")
    ] = None
    record: Annotated[
        str | None, Field(description="Where the result is recorded, so that a rebuilt cluster finds it again.")
    ] = None
    started_at: Annotated[
        str | None, Field(description="When the pipeline run started.", json_schema_extra={"format": "date-time"})
    ] = None
    finished_at: Annotated[
        str | None, Field(description="When the pipeline run ended.", json_schema_extra={"format": "date-time"})
    ] = None
    primary_metric: Annotated[str | None, Field(description="The figure that kubectl get shows.")] = None
    storage_prefix: Annotated[
        str | None,
        Field(
            description="Folder below the roots of data and objects, as the platform set it when work began; it never "
            "changes.",
            # An API server of 1.20 treats an empty string as null.
            json_schema_extra={"nullable": True},
        ),
    ] = None
    storage_seal: Annotated[
        str | None,
        Field(
            description="The operator's seal over storagePrefix; without it only the platform's present prefix counts."
        ),
    ] = None


COLUMNS = (
    Column("Ready", ".status.conditions[?(@.type=='Ready')].status"),
    Column("Reason", ".status.conditions[?(@.type=='Ready')].reason"),
    Column("Model", ".spec.model.architecture"),
    Column("Progress", ".status.progress.percent", "integer", description="Percent of the epochs done."),
    Column("Result", ".status.primaryMetric"),
    Column("Worst", ".status.worstSlice", priority=1, description="The worst slice of the test split."),
    Column("Stage", ".status.progress.stage", priority=1, description="What the run is doing."),
    Column(
        "Trials", ".status.search.finished", "integer", priority=1, description="Trials of the search that have ended."
    ),
    Column("Registered", ".status.model.version", priority=1),
    Column("Energy", ".status.cost.energy", priority=1),
    Column("Tracking", ".status.tracking.url", priority=1),
    Column("Position", ".status.queue.position", "integer", priority=1, description="Place in the queue; 1 is next."),
    Column("Message", ".status.conditions[?(@.type=='Ready')].message", priority=1),
    Column("Age", ".metadata.creationTimestamp", "date"),
)
